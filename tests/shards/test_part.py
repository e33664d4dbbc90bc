"""Parts: published whole, equal in any process, and tolerant of a worker that came first."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shards.errors import SourceError
from shards.mds import RowFormat
from shards.part import Part, PartSettings, convert_part, read_part
from shards.sources import whole_source
from shards.templates import find_template
from shards.texts import is_held_out
from shards.tokenizer import Encoder, find_tokenizer
from tests.shards.conftest import make_texts, tree_hashes, write_jsonl


@pytest.fixture
def settings(tokenizer_dir: Path) -> PartSettings:
    return PartSettings(
        template=find_template("c4", "c4"),
        tokenizer=find_tokenizer(str(tokenizer_dir)),
        row_format=RowFormat(seq_len=16, dtype="uint16", shard_bytes=2048),
        holdout_threshold=1 << 61,
    )


def part_of(source: Path, folder: Path) -> Part:
    return Part(whole_source(str(source)), folder)


def test_engines_and_warmth_give_the_same_part(settings: PartSettings, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", make_texts(50, seed=1))
    encoder = Encoder(replace(settings.tokenizer, engine="gigatoken"))
    for name in ("cold", "warm"):
        convert_part(part_of(source, tmp_path / name), settings, encoder)
    convert_part(part_of(source, tmp_path / "slow"), settings, Encoder(settings.tokenizer))
    assert tree_hashes(tmp_path / "cold") == tree_hashes(tmp_path / "warm") == tree_hashes(tmp_path / "slow")


def test_progress_adds_up(settings: PartSettings, tmp_path: Path) -> None:
    texts = make_texts(50, seed=1)
    source = write_jsonl(tmp_path / "a.jsonl", texts)
    calls: list[tuple[int, int]] = []
    convert_part(
        part_of(source, tmp_path / "p"), settings, Encoder(settings.tokenizer), lambda *counts: calls.append(counts)
    )
    assert sum(read for read, _ in calls) == source.stat().st_size
    assert sum(text for _, text in calls) == sum(len(text.strip().encode()) for text in texts)


def test_a_failed_part_leaves_nothing(settings: PartSettings, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in" / "a.jsonl", make_texts(50, seed=1))
    source.write_bytes(source.read_bytes() + b"{")
    with pytest.raises(Exception, match="line 51"):
        convert_part(part_of(source, tmp_path / "out" / "p"), settings, Encoder(settings.tokenizer))
    assert not any((tmp_path / "out").iterdir())


def test_a_source_that_changes_meanwhile_is_refused(settings: PartSettings, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in" / "a.jsonl", make_texts(5, seed=1))
    size = source.stat().st_size

    def grow(read_bytes: int, text_bytes: int) -> None:
        if source.stat().st_size == size:
            with source.open("a") as file:
                file.write('{"text": "late"}\n')

    with pytest.raises(SourceError, match="changed while it was read"):
        convert_part(part_of(source, tmp_path / "out" / "p"), settings, Encoder(settings.tokenizer), grow)
    assert not any((tmp_path / "out").iterdir())


def test_the_second_of_two_workers_accepts_the_first(settings: PartSettings, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", make_texts(20, seed=1))
    encoder = Encoder(settings.tokenizer)
    convert_part(part_of(source, tmp_path / "out" / "p"), settings, encoder)
    before = tree_hashes(tmp_path / "out")
    convert_part(part_of(source, tmp_path / "out" / "p"), settings, encoder)
    assert tree_hashes(tmp_path / "out") == before


def test_read_part(settings: PartSettings, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", make_texts(20, seed=1))
    convert_part(part_of(source, tmp_path / "p"), settings, Encoder(settings.tokenizer))
    part = read_part(tmp_path / "p")
    assert part is not None
    assert (part.source, part.records, part.empty, part.end) == (str(source), 20, 0, source.stat().st_size)
    assert sum(split.documents for split in part.splits.values()) == 20
    shutil.rmtree(tmp_path / "p")
    assert read_part(tmp_path / "p") is None


@pytest.mark.parametrize(("threshold", "held"), [(0, False), (1 << 64, True)])
def test_the_ends_of_the_threshold(threshold: int, held: bool) -> None:
    assert is_held_out(b"x", threshold) is held
    check: Callable[[bytes], bool] = lambda text: is_held_out(text, 1 << 63)  # noqa: E731
    assert 400 < sum(check(str(n).encode()) for n in range(1000)) < 600
