"""Recipes: the shipped ones hold the facts, one's own is ten lines, and what is wrong in a file is named by its key."""

import re
from pathlib import Path

import pytest

from shards.errors import CallError
from shards.recipes import describe, find_recipe, find_recipes, recipe_names, table
from tests.conftest import ROOT

CORPORA = {"c4", "starcoder", "math", "flan", "knowledgeqa", "dclm", "ultrachat", "dialogue", "openhermes", "triviaqa"}
SETS = {"pycode", "gsm8k", "lima", "sciq", "apps"}

OWN = r"""
name: notes
description: What our support team wrote
licence: ours
tokens: 1.5B
inputs: [notes/*.jsonl.gz, "s3://bucket/notes/"]
sources:
  - {hub: own/er, revision: v1, files: [a.parquet, b/*.parquet]}
template: ["{question}\n\n{}{answer.text}", "{text}"]
rows: examples
curation: {exact: true}
on_error: skip
"""


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_the_corpora_and_sets_of_the_paper_are_shipped() -> None:
    assert set(recipe_names()) == CORPORA | SETS | {"text"}
    for name in recipe_names():
        recipe = find_recipe(name)
        assert recipe.name == name
        assert recipe.description.endswith(".")
        assert recipe.licence or name == "text"
        assert (recipe.options.get("rows") == "examples") == (name in SETS)
        assert recipe.all_inputs or recipe.parts or name in ("text", "dialogue")
    tokens = {name: find_recipe(name).tokens for name in ("starcoder", "math", "flan", "knowledgeqa", "dclm")}
    assert tokens == {
        "starcoder": 196 * 10**9,
        "math": 12 * 10**9,
        "flan": 35 * 10**8,
        "knowledgeqa": 96 * 10**8,
        "dclm": 51 * 10**9,
    }
    assert find_recipe("math").all_inputs == [
        "hf://datasets/TIGER-Lab/MathInstruct@refs/convert/parquet/default/train/*.parquet",
        "hf://datasets/nvidia/OpenMathInstruct-1/correct_solutions/train.jsonl",
    ]


def test_prompts_are_marked_where_the_paper_needs_it() -> None:
    assert [name for name in recipe_names() if find_recipe(name).mask_prompt] == ["gsm8k"]
    for name in ("gsm8k", "lima", "sciq", "pycode"):
        assert find_recipe(name).template.has_prompt
        assert find_recipe(name).options["seq_len"] == 2048
    assert not find_recipe("c4").template.has_prompt


def test_a_recipe_of_parts_stands_for_them() -> None:
    assert [recipe.name for recipe in find_recipes("knowledgeqa")] == [
        "ultrachat",
        "dialogue",
        "openhermes",
        "triviaqa",
    ]
    assert [recipe.name for recipe in find_recipes("c4")] == ["c4"]
    templates = {recipe.template.alternatives for recipe in find_recipes("knowledgeqa")}
    assert len(templates) == 4
    with pytest.raises(CallError, match="recipe dialogue says of no place"):
        find_recipes("knowledgeqa")[1].settings()


def test_ones_own(tmp_path: Path) -> None:
    recipe = find_recipe(write(tmp_path, OWN))
    assert (recipe.name, recipe.licence, recipe.tokens) == ("notes", "ours", 1_500_000_000)
    assert recipe.settings() == {
        "corpus": "notes",
        "inputs": [
            f"{tmp_path}/notes/*.jsonl.gz",
            "s3://bucket/notes/",
            "hf://datasets/own/er@v1/a.parquet",
            "hf://datasets/own/er@v1/b/*.parquet",
        ],
        "template": recipe.template,
        "rows": "examples",
        "curation": {"exact": True},
        "on_error": "skip",
    }
    assert recipe.settings(["other.jsonl"])["inputs"] == ["other.jsonl"]
    assert recipe.template.render({"question": "q", "answer": {"text": "a"}}) == "q\n\na"


def test_the_least_of_ones_own(tmp_path: Path) -> None:
    recipe = find_recipe(write(tmp_path, "inputs: ../a.jsonl\n", "my-notes.yml"))
    assert (recipe.name, recipe.settings()["inputs"]) == ("my-notes", [f"{tmp_path.parent}/a.jsonl"])
    assert recipe.template.alternatives == ("{text}",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tempalte: x", r"unknown key 'tempalte', did you mean 'template'\? @ \$\.tempalte"),
        ("sources: [{hub: a/b, file: x}]", r"unknown key 'file', did you mean 'files'\? @ \$\.sources\[0\]\.file"),
        ("sources: [{hub: a/b}]", r"this key is missing @ \$\.sources\[0\]\.files"),
        ("sources: [{hub: just-a-name, files: x}]", r"found 'just-a-name' @ \$\.sources\[0\]\.hub"),
        ("sources: []", r"at least 1 item.* @ \$\.sources"),
        ("inputs: 3", r"valid list, found 3 @ \$\.inputs"),
        ("inputs: [a, 3]", r"valid string, found 3 @ \$\.inputs\[1\]"),
        ("inputs: ['']", r"@ \$\.inputs\[0\]"),
        ("tokens: many", r"valid integer, found 'many' @ \$\.tokens"),
        ("tokens: -1", r"greater than 0, found -1 @ \$\.tokens"),
        ("rows: pakced", r"'packed', 'best-fit' or 'examples', found 'pakced' @ \$\.rows"),
        ("seq_len: 2048.5", r"valid integer, found 2048\.5 @ \$\.seq_len"),
        ("holdout: 1", r"less than 1, found 1 @ \$\.holdout"),
        ("mask_prompt: 1", r"valid boolean, found 1 @ \$\.mask_prompt"),
        ("on_error: ignore", r"'stop' or 'skip', found 'ignore' @ \$\.on_error"),
        ("template: '{a:frist}'", r"unknown rule 'frist'; known: first.* @ \$\.template"),
        ("template: []", r"at least 1 item.* @ \$\.template"),
        ("template: '{a'", r"expected '}' before end of string @ \$\.template"),
        ("name: 'a b'", r"found 'a b' @ \$\.name"),
        ("parts: [c5]", r"'c5' is no shipped recipe; known: apps, c4.* @ \$\.parts"),
        ("parts: [c4]\ninputs: x", r"a recipe of 'parts' has no 'inputs' or 'sources' of its own @ \$"),
        ("a: 1\na: 2", r"the key 'a' stands twice"),
        ("- list", r"must hold a mapping"),
        ("a: [", r"not usable as YAML"),
    ],
)
def test_what_is_wrong_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CallError) as caught:
        find_recipe(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"\$\.tokens; .*\$\.nmae"):
        find_recipe(write(tmp_path, "nmae: x\ntokens: no\n"))


def test_a_name_that_is_none() -> None:
    with pytest.raises(CallError, match=r"no recipe 'starcodr', did you mean 'starcoder'\?; known: apps, c4"):
        find_recipe("starcodr")
    with pytest.raises(CallError, match=r"cannot read no/such\.yaml: No such file"):
        find_recipe("no/such.yaml")


def test_shown_to_people() -> None:
    lines = table().splitlines()
    assert lines[0].split() == ["recipe", "tokens", "rows", "on", "the", "hub", "licence"]
    assert len(lines) == len(recipe_names()) + 1
    math = next(line for line in lines if line.startswith("math"))
    assert "12B" in math
    assert "TIGER-Lab/MathInstruct, nvidia/OpenMathInstruct-1" in math
    text = describe(find_recipe("gsm8k"))
    assert "input       hf://datasets/openai/gsm8k/main/train-*.parquet" in text
    assert "columns     answer, question" in text
    assert "prompts masked" in text
    assert "prompts masked" not in describe(find_recipe("sciq"))


def test_the_recipe_of_the_guide_is_right(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```text\n(name: .*?)^```$", (ROOT / "docs/guides/corpora.md").read_text(), re.M | re.S)
    assert len(block.splitlines()) == 10
    assert len(find_recipe(write(tmp_path, block)).settings()["inputs"]) == 3
