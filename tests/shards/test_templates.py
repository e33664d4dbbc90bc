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


@pytest.mark.parametrize(
    ("alternatives", "record"),
    [
        (("{text}",), {"text": None}),
        (("{text}",), {"text": ""}),
        (("{text}",), {"text": " \n"}),
        (("{a} {b}", "{c}"), {"a": "x", "b": None}),
        (("{a:decoded}",), {"a": None}),
        (("{a:at b}",), {"a": ["x"], "b": None}),
        (("{meta.text}",), {"meta": {"text": None}}),
        (("{meta.text}",), {"meta": None}),
        (("{turns:join}",), {"turns": [{"role": "assistant", "content": None}]}),
    ],
)
def test_what_is_null_or_blank_is_an_empty_document(alternatives: tuple[str, ...], record: dict[str, object]) -> None:
    assert not Template("t", alternatives).render(record).strip()


def test_a_null_does_not_hide_an_alternative_that_fits_nor_one_that_is_wrong() -> None:
    assert Template("t", ("{a}{b}", "{a}")).render({"a": "x", "b": None}) == "x"
    with pytest.raises(RecordError):
        Template("t", ("{a}{b}",)).render({"a": None, "b": ["wrong"]})
    with pytest.raises(RecordError):
        Template("t", ("{a}{b}",)).render({"a": None})


@pytest.mark.parametrize(
    ("format_", "record", "text"),
    [
        ("{meta.title}: {text}", {"meta": {"title": "T"}, "text": "x"}, "T: x"),
        ("{a.b.c}", {"a": {"b": {"c": 3}}}, "3"),
        ("{a.b}", {"a.b": "flat", "a": {"b": "deep"}}, "flat"),
        ("{answer.names:first}", {"answer": {"names": ["x", "y"]}}, "x"),
        ("{{{a}}}", {"a": "x"}, "{x}"),
        ("{Some Field}", {"Some Field": "漢字 👩‍👩‍👧"}, "漢字 👩‍👩‍👧"),
    ],
)
def test_nested_fields_and_odd_names(format_: str, record: dict[str, object], text: str) -> None:
    assert Template("t", (format_,)).render(record) == text


def test_a_nested_field_that_is_not_there_is_a_misfit() -> None:
    for record in ({}, {"meta": "text"}, {"meta": {}}, {"meta": {"title": ["x"]}}):
        with pytest.raises(RecordError, match=r"wants the fields meta\.title"):
            Template("t", ("{meta.title}",)).render(record)
    assert Template("t", ("{meta.title}",)).fields == {"meta", "meta.title"}


CHAT = [("system", "S"), ("user", "Q"), ("assistant", "A"), ("user", "Q2"), ("assistant", "A2")]


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": role, "content": text} for role, text in CHAT],
        [{"from": {"user": "human", "assistant": "gpt"}.get(role, role), "value": text} for role, text in CHAT],
    ],
)
def test_conversations_of_both_forms(turns: list[dict[str, str]]) -> None:
    template = Template("chat", ("{messages:first}\n\n{}{messages:rest}", "{messages:join}"))
    assert template.split({"messages": turns}) == ("S\n\nQ\n\n", "A\n\nQ2\n\nA2")
    assert template.render({"messages": turns[:2]}) == "S\n\nQ"  # nobody answers: all of it, no prompt
    assert Template("t", ("{messages:first}",)).render({"messages": turns[:2]}) == "S\n\nQ"
    assert template.split({"messages": turns[2:3]}) == ("", "A")
    silent = [*turns[:2], {**turns[2], "content": None, "value": None}, turns[4]]
    assert template.split({"messages": silent}) == ("S\n\nQ\n\n", "A2")


def test_a_list_of_texts_takes_turns() -> None:
    template = find_template("lima", "any")
    assert template.split({"conversations": ["Q", "A", "Q2", "A2"]}) == ("Q\n\n", "A\n\nQ2\n\nA2")


@pytest.mark.parametrize(
    "turns", [[], ["a", {"role": "user", "content": "b"}], [1], [{"role": "user", "content": ["x"]}]]
)
def test_what_is_no_conversation_is_a_misfit(turns: list[object]) -> None:
    with pytest.raises(RecordError):
        Template("t", ("{turns:first}{}{turns:rest}",)).render({"turns": turns})


@pytest.mark.parametrize(
    ("alternative", "wrong"),
    [
        ("{text", "expected '}'"),
        ("text}", "Single '}'"),
        ("{a:frist}", "unknown rule 'frist'; known: first, rest"),
        ("{a!r}", "a place is"),
        ("{a[0]}", "a place is"),
        ("{:first}", "a place is"),
        ("{a:at}", "'at' wants second field"),
        ("{a:first b}", "'first' takes no second field"),
        ("no field", "it names no field"),
        ("{}{a}{}", "a prompt ends once"),
    ],
)
def test_an_alternative_that_is_wrong_says_how(alternative: str, wrong: str) -> None:
    with pytest.raises(CallError, match="template 't'") as caught:
        Template("t", (alternative,))
    assert wrong in str(caught.value)


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
