"""The stand-alone command: it reports, and removes nothing."""

import argparse
import json
from pathlib import Path

import pytest

from shards.commands.decontaminate import add_arguments, run
from shards.errors import CallError, RecordError
from tests.shards.curation.corpus import write_corpus
from tests.shards.curation.test_curating import Expected


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(list(map(str, arguments))))


@pytest.fixture
def planted(tmp_path: Path) -> Expected:
    return write_corpus(tmp_path / "sources")


def test_the_report_names_documents_and_items(
    planted: Expected, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against, report = tmp_path / "eval.jsonl", tmp_path / "report.jsonl"
    before = {path: path.read_bytes() for path in (tmp_path / "sources").iterdir()}
    code = call(tmp_path / "sources", "--against", f"{against}={{question}}", "--report", report, "--workers", 1)
    assert code == 0
    assert capsys.readouterr().out.splitlines() == [
        "5 of 239 documents hold test items; 0 more share no more than an n-gram",
        f"{against}: 5 items found",
        f"report: {report}",
    ]
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(line["source"], line["record"], line["share"], line["removed"]) for line in lines] == [
        (str(tmp_path / "sources" / "b.jsonl"), line, 1.0, True) for line in planted["b.jsonl"]["decontaminate"]
    ]
    assert {path: path.read_bytes() for path in (tmp_path / "sources").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eval.jsonl", "report.jsonl", "sources"]


def test_what_a_call_with_other_arguments_left_is_not_used(planted: Expected, tmp_path: Path) -> None:
    work = tmp_path / ".report.jsonl.work"
    work.mkdir()
    (work / "plan.json").write_text("{}")
    arguments = ["--against", f"{tmp_path}/eval.jsonl={{question}}", "--report", tmp_path / "report.jsonl"]
    assert call(tmp_path / "sources", *arguments, "--workers", 1) == 0
    assert len((tmp_path / "report.jsonl").read_text().splitlines()) == 5
    assert not work.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", 0], r"--workers must be at least 1, not 0"),
        (["--report", "nowhere/report.jsonl"], r"--report nowhere/report\.jsonl: nowhere is no directory"),
        (["--against", "none.jsonl"], r"against\[1\]: none\.jsonl does not exist"),
        (["--ngram", 1], r"ngram must be an integer from 2 to 100, not 1"),
        (["--share", 2], r"share must be a number from 0 to 1, not 2"),
        (["--template", "poems"], r"--template: unknown template 'poems'"),
        (["--template", "math"], r"a\.jsonl, line 1: template 'math' wants"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(
    planted: Expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    usual = ["--against", "eval.jsonl={question}", "--report", "report.jsonl", "--workers", 1]
    with pytest.raises((CallError, RecordError), match=message):
        call("sources", *usual, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eval.jsonl", "sources"]
