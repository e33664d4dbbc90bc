"""From raw text to the steps that read it and back, by the commands that people use, on a corpus really converted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import yaml

from mixer.cli import main
from mixer.provenance import Read
from mixer.reader import RowReader, open_corpus
from mixer.reports import locate
from shards.conversion import Conversion, convert
from shards.manifest import read_manifest
from shards.mds import read_rows
from tests.shards.conftest import corpus_dir, make_conversion, make_texts, reference, tokenizer_dir

__all__ = ["corpus_dir", "make_conversion", "reference", "tokenizer_dir"]  # fixtures

NUM_STEPS = 24


@pytest.fixture
def run(corpus_dir: Path, make_conversion: Callable[..., Conversion], tmp_path: Path) -> Path:
    """The YAML of a run that reads a corpus more than once, and goes on with it under another name."""
    convert(make_conversion(corpus_dir), workers=1)
    num_samples = open_corpus(tmp_path / "out" / "c4" / "train").num_samples
    config = {
        "data_seed": 5,
        "max_duration": f"{NUM_STEPS}ba",
        "global_batch_size": num_samples * 3 // 2 // NUM_STEPS,
        "seq_len": 32,
        "corpora": {"c4": {"local": str(tmp_path / "out" / "c4" / "train")}},
        "schedule": {
            "phases": [{"start": 0, "mixture": {"c4": 1}}],
            "changes": [{"start": 15, "corpora": {"web": {"rename": {"from": "c4"}}}}],
        },
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_stands_in_a_slot_is_what_the_source_says_and_every_reading_of_it_is_found(
    run: Path, reference: tokenizers.Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = RowReader([open_corpus(tmp_path / "out" / "c4" / "train")])
    texts = {f"{name}.jsonl": make_texts(count, seed=name + 1) for name, count in ((0, 40), (2, 120))}
    readings: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for step in range(NUM_STEPS):
        found = answer(capsys, "batch", str(run), str(step), "--documents")
        assert set(found["corpus"]) == ({"c4"} if step < 15 else {"web"})
        for slot, (sample, passages) in enumerate(zip(found["sample_id"], found["documents"], strict=True)):
            tokens = rows.read([sample])[0]
            for passage in passages:
                name = Path(passage["source"]).name
                readings.setdefault((name, passage["record"]), []).append((step, slot))
                if name in texts:
                    ids = [*reference.encode(texts[name][passage["record"] - 1].strip()).ids, 0]
                    part = tokens[passage["start"] : passage["end"]].tolist()
                    assert any(ids[i : i + len(part)] == part for i in range(len(ids))), (step, slot)
    assert len(readings) > 150
    for (name, record), expected in list(readings.items())[::10]:
        located = answer(capsys, "locate", str(run), "c4", "--document", f"{name}:{record}")
        assert [(read["step"], read["slot"]) for read in located["reads"]] == expected
        one = located["samples"][0][0]
        reads = answer(capsys, "locate", str(run), "web", str(one))
        assert [read for read in located["reads"] if read["sample_id"] == one] == [
            {**read, "sample_id": one} for read in reads
        ]


def test_what_is_located_can_be_put_into_quarantine_as_it_is_printed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["locate", str(run), "c4", "--document", "2.jsonl:10-12", "--start", "6"]) == 0
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if "the change is" in line]
    config = yaml.safe_load(run.read_text())
    config["schedule"]["changes"].insert(0, {"start": 6, **yaml.safe_load(line.partition("the change is")[2])})
    run.write_text(yaml.safe_dump(config))
    assert "read" in printed
    for words in (["--document", "2.jsonl:10-12"], ["--document", "2.jsonl:11"]):
        located = answer(capsys, "locate", str(run), "c4", *words)
        assert all(read["step"] < 6 for read in located["reads"])
    assert main(["show", str(run)]) == 0
    assert "quarantine" in capsys.readouterr().out


def test_shard_and_row_are_where_the_sample_lies(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = open_corpus(tmp_path / "out" / "c4" / "train")
    found = answer(capsys, "batch", str(run), "3")
    reader = RowReader([corpus])
    for sample, shard, row in zip(found["sample_id"], found["shard"], found["row"], strict=True):
        assert 0 <= row < corpus.shard_sizes[shard]
        rows = read_rows(corpus.shard_path(shard), read_manifest(corpus.path).row_format)
        assert np.array_equal(rows[row], reader.read([sample])[0])


def test_bad_questions_name_what_is_wrong(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words, message in (
        (["c4"], "name either a SAMPLE or a --document SOURCE:RECORD"),
        (["c4", "3", "--document", "2.jsonl:1"], "name either a SAMPLE"),
        (["c5", "--document", "2.jsonl:1"], "unknown corpus 'c5', known are c4, web"),
        (["c4", "--document", "7.jsonl:1"], "'7.jsonl' is none of them"),
        (["c4", "--document", "2.jsonl:1", "--folder", f"c4={tmp_path}"], "has no corpus.json"),
    ):
        assert main(["locate", str(run), *words]) == 2
        assert message in capsys.readouterr().err
    sizes = yaml.safe_load(run.read_text())
    del sizes["corpora"]["c4"]["local"]
    run.write_text(yaml.safe_dump(sizes))
    assert main(["batch", str(run), "1", "--documents", "--size", "c4=1000"]) == 2
    assert "say where it is with --folder c4=data/c4/train" in capsys.readouterr().err


def test_of_a_run_that_trains_the_answer_says_what_has_been_read_already() -> None:
    reads = [Read(step=step, slot=0, sample_id=7, corpus="c4") for step in (4, 5, 6)]
    report = locate(("c4", [[7, 8]], None), reads, start=0, end=9, trained=5)
    assert [line.split()[2:] for line in report.lines[-3:]] == [["read"], ["will", "be"], ["will", "be"]]
    assert report.data == [{"step": step, "slot": 0} for step in (4, 5, 6)]
