"""Verification: a whole corpus has no faults; every planted fault is found and named, and nothing else."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shards.conversion import Conversion, convert
from shards.errors import CorpusError
from shards.manifest import read_manifest
from shards.mds import write_shard
from shards.sources import identify
from shards.verification import verify


@pytest.fixture
def split(corpus_dir: Path, make_conversion: Callable[..., Conversion], tmp_path: Path) -> Path:
    convert(make_conversion(corpus_dir), workers=1)
    return tmp_path / "out" / "c4" / "train"


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def edit(path: Path, change: Callable[[dict], None]) -> None:
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data))


def swap(first: Path, second: Path) -> None:
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def add_row(split: Path) -> None:
    manifest = read_manifest(split)
    last = len(manifest.shards) - 1
    rows = np.zeros((manifest.shards[last].samples + 1, 32), np.uint16)
    write_shard(split / f"shard.{last:05}.mds", rows, manifest.row_format)


def set_first(key: str, value: object) -> Callable[[dict], None]:
    return lambda index: index["shards"][0].__setitem__(key, value)


FAULTS: list[tuple[Callable[[Path], object], list[str]]] = [
    (lambda s: flip(s / "shard.00002.mds", -1), ["shard.00002.mds: its bytes have changed"]),
    (lambda s: flip(s / "shard.00000.mds", 0), ["shard.00000.mds: its bytes have changed"]),
    (lambda s: (s / "shard.00001.mds").write_bytes(b""), ["shard.00001.mds: 0 bytes, not"]),
    (lambda s: (s / "shard.00003.mds").unlink(), ["shard.00003.mds: missing"]),
    (
        lambda s: swap(s / "shard.00001.mds", s / "shard.00004.mds"),
        [
            "shard.00001.mds: it is shard.00004.mds, in the wrong place",
            "shard.00004.mds: it is shard.00001.mds",
        ],
    ),
    (add_row, ["bytes, not"]),
    (lambda s: (s / "shard.09999.mds").write_bytes(b"x"), ["shard.09999.mds: not in the manifest"]),
    (lambda s: edit(s / "index.json", set_first("samples", 1)), ["index.json: .* shard 0"]),
    (lambda s: edit(s / "index.json", lambda i: i["shards"].pop()), ["index.json: .* shards, not"]),
    (lambda s: (s / "index.json").write_text("{}"), ["index.json: cannot be read"]),
    (lambda s: (s / "index.json").unlink(), ["index.json: No such file"]),
    (lambda s: edit(s / "index.json", lambda i: i.update(x=1)), ["index.json: .* other bytes"]),
    (
        lambda s: flip(s / "unigram.npy", -8),
        [
            "unigram.npy: is not the file",
        ],
    ),
    (lambda s: (s / "unigram.npy").unlink(), ["unigram.npy cannot be read"]),
    (
        lambda s: edit(s / "corpus.json", lambda m: m.update(samples=m["samples"] + 1)),
        ["says .* samples, its shards"],
    ),
    (
        lambda s: edit(s / "corpus.json", lambda m: m.update(dropped_tokens=40)),
        ["corpus.json: says .* tokens"],
    ),
    (
        lambda s: edit(s / "corpus.json", lambda m: m.update(fingerprint="0" * 64)),
        ["corpus.json: its fingerprint"],
    ),
]


@pytest.mark.parametrize(("plant", "expected"), FAULTS, ids=range(len(FAULTS)))
def test_planted_faults(plant: Callable[[Path], object], expected: list[str], split: Path) -> None:
    assert verify(split) == []
    plant(split)
    faults = verify(split)
    assert len(faults) == len(expected), faults
    for fault, pattern in zip(faults, expected, strict=True):
        assert re.search(pattern, fault), fault
        assert str(split) in fault


def test_a_manifest_with_other_counts_is_found(split: Path) -> None:
    """Counts that were replaced together with their hash."""
    counts = np.load(split / "unigram.npy")
    counts[[3, 4]] += [1, -1]
    np.save(split / "unigram.npy", counts)
    edit(split / "corpus.json", lambda m: m.update(unigram_sha256=identify(split / "unigram.npy").sha256))
    (fault,) = verify(split)
    assert "does not count the tokens of the shards" in fault


def test_what_is_no_corpus(tmp_path: Path, split: Path) -> None:
    with pytest.raises(CorpusError, match=r"is no corpus.* without corpus\.json"):
        verify(tmp_path)
    (split / "corpus.json").write_text("{}")
    with pytest.raises(CorpusError, match="cannot be read"):
        verify(split)


def test_another_format_is_refused(split: Path) -> None:
    edit(split / "corpus.json", lambda m: m["parameters"].update(format=99))
    with pytest.raises(CorpusError, match="has format 99; this version reads 1"):
        verify(split)


def test_progress_is_the_bytes_of_the_shards(split: Path) -> None:
    done: list[int] = []
    verify(split, done.append)
    assert sum(done) == sum(path.stat().st_size for path in split.glob("*.mds"))
