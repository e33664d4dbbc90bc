"""Curation of whole corpora: what is planted goes and nothing else, the same whoever works and whatever is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shards.curation import REPORT, Curation, curate, read_removed, read_summary
from shards.errors import CallError, MismatchError, RecordError, SourceError
from shards.sources.blocks import count_before
from shards.templates import find_template
from tests.shards.curation.corpus import hashes, make_curation, run, units_of, write_corpus

Expected = dict[str, dict[str, list[int]]]


@pytest.fixture
def planted(tmp_path: Path) -> Expected:
    return write_corpus(tmp_path / "sources")


def found(folder: Path, out: Path, unit_bytes: int) -> Expected:
    """Lines removed by source and step."""
    names = make_curation(folder).step_names
    result: Expected = {}
    for number, unit in enumerate(units_of(folder, unit_bytes)):
        removed = read_removed(out, number)
        assert removed.records.dtype == np.int64
        assert removed.steps.dtype == np.uint8
        assert (np.diff(removed.records) > 0).all()
        steps = result.setdefault(Path(unit.source).name, {name: [] for name in names})
        before = count_before(unit)
        for record, step in zip(removed.records.tolist(), removed.steps.tolist(), strict=True):
            steps[names[step]].append(before + record)
    return {
        source: {name: lines for name, lines in steps.items() if "quality" not in name}
        for source, steps in result.items()
    }


@pytest.mark.parametrize("unit_bytes", [3_000, 20_000, 1 << 30])
def test_what_is_planted_goes_and_nothing_else(planted: Expected, tmp_path: Path, unit_bytes: int) -> None:
    out = tmp_path / "out"
    run(tmp_path, out, unit_bytes=unit_bytes)
    assert found(tmp_path, out, unit_bytes) == planted
    summary = read_summary(out)
    assert summary["removed"] == {
        "length": 2,
        "quality.hash_ratio": 0,
        "quality.top_2_gram": 0,
        "decontaminate": 5,
        "exact_duplicates": 12,
        "near_duplicates": 10,
    }
    assert (summary["documents"], summary["kept"]) == (239, 210)
    lines = [json.loads(line) for line in (out / REPORT).read_text().splitlines()]
    assert {(Path(line["source"]).name, line["record"]) for line in lines} == {
        ("b.jsonl", line) for line in planted["b.jsonl"]["decontaminate"]
    }
    assert {(Path(line["item_file"]).name, line["item_record"]) for line in lines} == {
        ("eval.jsonl", number) for number in range(1, 6)
    }
    assert not (out / "units").exists()


def test_workers_change_nothing(planted: Expected, tmp_path: Path) -> None:
    run(tmp_path, tmp_path / "one", workers=1)
    run(tmp_path, tmp_path / "two", workers=2)
    run(tmp_path, tmp_path / "three", workers=3)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two") == hashes(tmp_path / "three")


def test_batches_change_nothing(planted: Expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, tmp_path / "large")
    monkeypatch.setattr("shards.curation.judged_unit.BATCH_CHARACTERS", 1000)
    run(tmp_path, tmp_path / "small")
    assert hashes(tmp_path / "large") == hashes(tmp_path / "small")


def test_a_kill_after_any_durable_step_changes_nothing(planted: Expected, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.shards.curation.corpus", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_killed_workers_and_all_leave_what_another_run_finishes(planted: Expected, tmp_path: Path) -> None:
    run(tmp_path, tmp_path / "whole")
    program = f"""
import os, signal
from pathlib import Path
from tests.shards.curation import corpus
from shards.curation import curate
from shards.templates import find_template
folder, calls = Path({str(tmp_path)!r}), 0
def die(num_bytes, _):
    global calls
    calls += 1
    if calls == int(os.environ["DIE_AT"]):
        os.killpg(os.getpgid(0), signal.SIGKILL)
if __name__ == "__main__":
    curate(corpus.make_curation(folder), corpus.units_of(folder), find_template(None, "text"), folder / "out",
           engine="local", workers=2, on_progress=die)
"""
    (tmp_path / "program.py").write_text(program)
    for moment in (2, 3, 4):
        done = subprocess.run(
            [sys.executable, str(tmp_path / "program.py")],
            env={**os.environ, "DIE_AT": str(moment), "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
            start_new_session=True,
        )
        assert done.returncode == -signal.SIGKILL
        assert not (tmp_path / "out" / "curation.json").exists()
    run(tmp_path, tmp_path / "out", workers=2)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_what_is_finished_is_not_done_again(planted: Expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, tmp_path / "out")
    before = hashes(tmp_path / "out")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be done")

    monkeypatch.setattr("shards.curation.curating.run_jobs", refuse)
    run(tmp_path, tmp_path / "out")
    assert hashes(tmp_path / "out") == before


def test_another_curation_or_other_sources_are_refused(planted: Expected, tmp_path: Path) -> None:
    run(tmp_path, tmp_path / "out")
    before = hashes(tmp_path / "out")
    with pytest.raises(MismatchError, match="out holds another curation"):
        run(tmp_path, tmp_path / "out", unit_bytes=1 << 30)
    (tmp_path / "eval.jsonl").write_text('{"question": "another test item of more than five words"}\n')
    from shards.curation.fasttext_model import hash_file

    hash_file.cache_clear()
    with pytest.raises(MismatchError, match="out holds another curation"):
        run(tmp_path, tmp_path / "out")
    assert hashes(tmp_path / "out") == before


def call(curation: Curation, folder: Path, out: Path, **settings: str) -> None:
    template = find_template(None, "text")
    curate(
        curation,
        units_of(folder),
        template,
        out,
        engine="local",
        workers=1,
        on_progress=lambda a, b: None,
        **settings,  # type: ignore[arg-type]
    )


def test_bad_records_are_passed_over_or_stop(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    lines = ['{"text": "one"}', "not json", '{"body": "two"}', '{"text": " "}', '{"text": "one"}']
    (tmp_path / "sources" / "a.jsonl").write_text("\n".join(lines))
    curation = Curation.parse(["exact_duplicates"], "c")
    with pytest.raises(RecordError, match=r"a\.jsonl, line 2: not valid JSON"):
        call(curation, tmp_path, tmp_path / "stop", on_error="stop")
    call(curation, tmp_path, tmp_path / "skip")
    assert read_removed(tmp_path / "skip", 0).records.tolist() == [5]
    assert read_summary(tmp_path / "skip")["documents"] == 2


def test_a_source_that_changes_is_told(planted: Expected, tmp_path: Path) -> None:
    units = units_of(tmp_path)
    (tmp_path / "sources" / "a.jsonl").write_text('{"text": "another"}\n')
    with pytest.raises(SourceError, match=r"a\.jsonl changes while it is read"):
        curate(
            make_curation(tmp_path),
            units,
            find_template(None, "text"),
            tmp_path / "out",
            engine="local",
            workers=1,
            on_progress=lambda a, b: None,
        )


def test_nothing_left_for_duplicates(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "sources" / "b.jsonl").write_text('{"text": "one"}\n')
    curation = Curation.parse([{"length": {"min_words": 2}}, "exact_duplicates", "near_duplicates"], "c")
    call(curation, tmp_path, tmp_path / "out")
    assert read_summary(tmp_path / "out")["removed"] == {"length": 3, "exact_duplicates": 0, "near_duplicates": 0}
    assert read_removed(tmp_path / "out", 1).records.tolist() == [1]


def test_a_failing_rater_is_told_and_the_next_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "a.jsonl").write_text('{"text": "one"}\n')
    rater = tmp_path / "rater.py"
    rater.write_text("def score(texts):\n    return None\n")
    curation = Curation.parse([{"rater": {"callable": f"{rater}:score", "above": 0}}], "c")
    with pytest.raises(CallError, match="must give 1 finite numbers"):
        call(curation, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / "curation.json").exists()
    assert list((tmp_path / "out" / "units").iterdir()) == []
