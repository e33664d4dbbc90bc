"""A curation as people write it, and what they write wrong."""

from pathlib import Path

import pytest

from shards.curation import Curation, read_curation
from shards.errors import CallError


def test_steps_in_order_with_their_names() -> None:
    curation = Curation.parse(
        [
            {"length": {"min_words": 5}},
            {"length": {"max_words": 500, "name": "short"}},
            {"quality": {"rules": ["words", "lorem_ipsum"]}},
            "exact_duplicates",
            {"near_duplicates": None},
        ],
        "c",
    )
    names = ("length", "short", "quality.words", "quality.lorem_ipsum", "exact_duplicates", "near_duplicates")
    assert curation.step_names == names
    steps = curation.parameters()["steps"]
    assert [(step["name"], step["kind"]) for step in steps] == [
        ("length", "length"),
        ("short", "length"),
        ("quality", "quality"),
        ("exact_duplicates", "exact_duplicates"),
        ("near_duplicates", "near_duplicates"),
    ]
    assert steps[-1]["threshold"] == 0.8


def test_a_file_holds_the_list_or_the_key(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("curation:\n  - exact_duplicates\n")
    assert read_curation(str(path)) == Curation.parse(["exact_duplicates"], "c")
    path.write_text("- exact_duplicates\n")
    assert read_curation(str(path)) == Curation.parse(["exact_duplicates"], "c")
    path.write_text("curation:\n  - length\n")
    with pytest.raises(CallError, match=r"c\.yaml: curation\[0\]\.length must have at least one"):
        read_curation(str(path))
    path.write_text("curation: [\n")
    with pytest.raises(CallError, match=r"c\.yaml is not usable as YAML"):
        read_curation(str(path))
    with pytest.raises(CallError, match=r"cannot read .*none\.yaml: No such file"):
        read_curation(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"^c must be a list of steps; a step is one of length, language, quality, rater, decontaminate"),
        ("exact_duplicates", r"^c must be a list of steps"),
        ({"curation": {}}, r"^c: curation must be a list of steps"),
        ({"steps": []}, r"^c must be a list of steps"),
        (["dedup"], r"^c\[0\]: no step is called 'dedup'; known: length"),
        ([{"length": {"min_words": 1}, "quality": {}}], r"^c\[0\] must be one step"),
        ([3], r"^c\[0\] must be one step"),
        ([{"length": 5}], r"^c\[0\]\.length must be a mapping of keys to values, not int 5"),
        ([{"length": {"min_words": 1}}, {"length": {"max_words": 9}}], r"^c\[1\]: a step is called 'length' already"),
        ([{"length": {"min_words": 1, "name": ""}}], r"^c\[0\]\.length\.name must be a text, not ''"),
        (["exact_duplicates", {"length": {"min_words": 1}}], r"^c: exact_duplicates, then near_duplicates, stand once"),
        (["near_duplicates", "exact_duplicates"], r"^c: exact_duplicates, then near_duplicates, stand once"),
        (
            [{"exact_duplicates": {"threshold": 1}}],
            r"^c\[0\]\.exact_duplicates\.threshold is not known; known here: name",
        ),
        ([{"near_duplicates": {"ngram": 0}}], r"^c\[0\]\.near_duplicates\.ngram must be an integer from 1 to 100"),
        ([{"decontaminate": {}}], r"^c\[0\]\.decontaminate\.against is missing"),
        ([{"decontaminate": {"against": []}}], r"^c\[0\]\.decontaminate\.against must be at least one file"),
        (
            [{"decontaminate": {"against": ["no.jsonl"]}}],
            r"^c\[0\]\.decontaminate\.against\[0\]: no\.jsonl does not exist",
        ),
    ],
)
def test_wrong_lists_are_refused(data: object, message: str) -> None:
    with pytest.raises(CallError, match=message):
        Curation.parse(data, "c")


def test_a_callable_in_a_manifest_is_data_and_is_never_called(tmp_path: Path) -> None:
    """Parameters, which manifests hold, name functions without their folder: nothing in them can be parsed back."""
    file = tmp_path / "mine.py"
    file.write_text("def score(texts):\n    return [1] * len(texts)\n")
    curation = Curation.parse([{"rater": {"callable": f"{file}:score", "above": 0}}], "c")
    with pytest.raises(CallError):
        Curation.parse(curation.parameters()["steps"], "manifest")
