"""Samples of documents: from all over a corpus, bounded, and never the place where bad input is told."""

from pathlib import Path

from shards.sampling import sample_documents
from shards.sources import cut_into_units, stat_source
from shards.templates import Template
from tests.shards.conftest import write_jsonl

TEXT = Template("text", ("{text}",))


def sample(*paths: Path) -> list[bytes]:
    return sample_documents(cut_into_units([(str(path), stat_source(str(path))) for path in paths]), TEXT)


def test_it_is_of_all_parts_of_a_corpus(tmp_path: Path) -> None:
    paths = [write_jsonl(tmp_path / f"{number:02}.jsonl", [f" text of {number} "] * 3) for number in range(20)]
    assert sample(*paths) == [f"text of {number}".encode() for number in (0, 2, 5, 7, 10, 12, 15, 17) for _ in range(3)]
    assert sample(*paths[:2]) == [b"text of 0"] * 3 + [b"text of 1"] * 3


def test_it_is_bounded_and_cuts_no_character(tmp_path: Path) -> None:
    (long,) = sample(write_jsonl(tmp_path / "long.jsonl", ["漢" * 100_000] * 9))
    assert len(long) == 65_535
    assert set(long.decode()) == {"漢"}
    assert len(sample(write_jsonl(tmp_path / "many.jsonl", ["x"] * 1000))) == 64


def test_what_is_bad_is_passed_over(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": 1}\nno JSON\n{"txet": "x"}\n{"text": null}\n{"text": "good"}\n')
    (tmp_path / "cut.jsonl.gz").write_bytes(b"\x1f\x8b\x08")
    assert sample(bad, tmp_path / "cut.jsonl.gz") == [b"1", b"", b"good"]
