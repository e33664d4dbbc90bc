"""Templates: which alternative wins, what each rule makes of a value, what a misfit says."""

import gzip
import json
from pathlib import Path

import pytest

from shards.errors import CallError, RecordError
from shards.templates import TEMPLATES, Template, find_template

RECORDS = [
    ("c4", {"text": "a", "url": "u"}, "a"),
    ("starcoder", {"content": "x = 1", "max_stars_count": None}, "x = 1"),
    ("starcoder", {"prompt": "def f():\n", "canonical_solution": "    pass"}, "def f():\n    pass"),
    ("starcoder", {"prompt": "def f():\n", "canonical_solution": None}, "def f():\n"),
    ("starcoder", {"code": "int f ( )", "nl": "does"}, "does\n\nint f ( )"),
    ("math", {"source": "s", "instruction": "q", "output": "o"}, "q\n\no"),
    ("math", {"question": "q", "generated_solution": "g", "expected_answer": "1"}, "q\n\ng"),
    ("math", {"problem": "p", "solution": "s", "level": "1"}, "p\n\ns"),
    ("math", {"problem": "p", "rationale": "r", "options": "a ) 1", "correct": "a"}, "p\na ) 1\n\nr"),
    ("math", {"body": "b", "question": "q", "formula": "1+1=2", "answer": "2"}, "b q\n\n1+1=2\n2"),
    (
        "math",
        {"Body": "b", "Question": "q", "Equation": "( 1.0 + 1.0 )", "Answer": 2.0},
        "b q\n\n( 1.0 + 1.0 ) = 2.0",
    ),
    ("math", {"question": "q", "answer": "15", "output": "\nsteps"}, "q\n\n\nsteps"),
    ("math", {"question": "q", "answer": "15", "inv_question_pred_answer": "steps"}, "q\n\nsteps"),
    ("flan", {"inputs": "i", "targets": "t", "task": "x"}, "i\n\nt"),
    ("flan", {"question": "q", "answer": "a", "chain_of_thought": "c"}, "q\n\nc\na"),
    ("flan", {"instruction": "do", "input": "in", "output": "out"}, "do\nin\n\nout"),
    ("flan", {"instruction": "do", "input": "", "output": "out"}, "do\n\nout"),
    ("flan", {"instruction": "do", "input": "", "output": ""}, "do\n\n\n"),
    ("flan", {"prompt": "### Response:\n", "response": "r"}, "### Response:\nr"),
    ("knowledgeqa", {"instruction": "i", "output": "o"}, "i o"),
    ("knowledgeqa", {"text": "t", "meta": {}}, "t"),
    ("knowledgeqa", {"question": "q", "answer": False, "passage": "p"}, "p\nq no"),
    ("knowledgeqa", {"question": "q", "answer": ["x", "y"]}, "q x"),
    ("knowledgeqa", {"question": "q", "answer": "x"}, "q x"),
    ("knowledgeqa", {"question": "q", "answer": True}, "q yes"),
    ("knowledgeqa", {"context": "c", "answer": "a", "aliases": []}, "c a"),
    ("knowledgeqa", {"context": "c", "continuation": "d"}, "c d"),
    ("knowledgeqa", {"query": "q", "choices": ["x", "y"], "gold": 1}, "q y"),
    (
        "knowledgeqa",
        {"question_stem": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"},
        "q y",
    ),
    ("pycode", {"code": "def f", "docstring": "d"}, "def f"),
    ("pycode", {"doc": "how", "code": "def f"}, "how\n\ndef f"),
    ("gsm8k", {"question": "q", "answer": "a"}, "q\n\na"),
    ("lima", {"conversations": ["a", "b", "c"], "source": None}, "a\n\nb\n\nc"),
    ("sciq", {"question": "q", "correct_answer": "a", "support": "s"}, "s\n\nq a"),
    ("sciq", {"question": "q", "correct_answer": "a", "support": ""}, "q a"),
    ("apps", {"question": "q", "solutions": '["one", "two"]'}, "Problem: q\n\nSolution: one"),
    ("apps", {"question": "q", "solutions": ""}, "Problem: q"),
    ("apps", {"prompt": "p", "canonical_solution": ""}, "Problem: p"),
]


@pytest.mark.parametrize(("name", "record", "text"), RECORDS)
def test_real_record_forms(name: str, record: dict[str, object], text: str) -> None:
    assert find_template(name, "any").render(record) == text


@pytest.mark.parametrize(
    ("name", "record", "prompt"),
    [
        ("gsm8k", {"question": "q", "answer": "a"}, "q\n\n"),
        ("sciq", {"question": "q", "correct_answer": "a", "support": "s"}, "s\n\nq"),
        ("sciq", {"question": "q", "correct_answer": "a", "support": ""}, "q"),
        ("lima", {"conversations": ["a", "b", "c"]}, "a\n\n"),
        ("lima", {"conversations": ["a"]}, ""),
        ("pycode", {"code": "def f", "docstring": "d"}, ""),
        ("pycode", {"doc": "how", "code": "def f"}, "how\n\n"),
        ("apps", {"question": "q", "solutions": '["one", "two"]'}, "Problem: q\n\nSolution: "),
        ("c4", {"text": "a"}, ""),
    ],
)
def test_where_the_prompt_ends(name: str, record: dict[str, object], prompt: str) -> None:
    found, output = find_template(name, "any").split(record)
    assert found == prompt
    assert found + output == find_template(name, "any").render(record)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"text": None},
        {"text": ["a"]},
        {"text": {"a": 1}},
        {"Text": "a"},
    ],
)
def test_a_record_that_does_not_fit_says_what_it_has(record: dict[str, object]) -> None:
    with pytest.raises(RecordError, match="wants the fields text; found: ") as caught:
        find_template("c4", "c4").render(record)
    for key in record:
        assert key in str(caught.value)


@pytest.mark.parametrize(
    ("format_", "record"),
    [
        ("{a:first}", {"a": []}),
        ("{a:first}", {"a": [None]}),
        ("{a:join}", {"a": "text"}),
        ("{a:join}", {"a": ["x", 1]}),
        ("{a:decoded}", {"a": "not json"}),
        ("{a:decoded}", {"a": None}),
        ("{a:at b}", {"a": ["x"], "b": 1}),
        ("{a:at b}", {"a": ["x"], "b": -1}),
        ("{a:at b}", {"a": ["x"]}),
        ("{a:labelled b}", {"a": {"text": ["x"], "label": ["A"]}, "b": "C"}),
        ("{a:labelled b}", {"a": ["x"], "b": "A"}),
    ],
)
def test_rules_refuse_what_they_cannot_read(format_: str, record: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        Template("t", (format_,)).render(record)


def test_default_is_the_template_of_the_corpus_else_text() -> None:
    assert find_template(None, "math").name == "math"
    assert find_template(None, "my-web").name == "text"
    assert find_template("c4", "math").name == "c4"
    with pytest.raises(CallError, match=r"unknown template 'nope'; known: apps, c4"):
        find_template("nope", "math")


def test_every_template_parses_and_names_its_fields() -> None:
    for name, alternatives in TEMPLATES.items():
        assert Template(name, alternatives).fields
    assert find_template("knowledgeqa", "").fields >= {"question_stem", "choices", "answerKey", "gold"}


def test_every_sample_record_fits(sample_data: Path) -> None:
    names = {"code": "starcoder", "extra": "text"}
    num_records = 0
    for path in sorted(sample_data.glob("*/*.jsonl*")) + sorted(sample_data.glob("*/*.json.gz")):
        if path.name.endswith((".zst", ".licenses.jsonl")):
            continue
        template = find_template(names.get(path.parent.name, path.parent.name), "")
        data = path.read_bytes()
        for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines():
            assert template.render(json.loads(line)).strip()
            num_records += 1
    assert num_records > 70_000
