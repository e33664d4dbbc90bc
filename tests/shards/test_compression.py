"""Compressed shards: the same rows under the same fingerprint, for every reader; damage is found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixer.reader import RowReader
from mixer.storage import open_corpus
from shards.conversion import Conversion, convert
from shards.errors import CallError
from shards.inspection import inspect
from shards.verification import verify
from tests.shards.conftest import all_rows

Make = Callable[..., Conversion]


@pytest.fixture
def split(corpus_dir: Path, make_conversion: Make, tmp_path: Path) -> Path:
    convert(make_conversion(corpus_dir, compression="zstd"), workers=1)
    return tmp_path / "out" / "c4" / "train"


def test_the_same_rows_in_fewer_bytes(corpus_dir: Path, make_conversion: Make, tmp_path: Path, split: Path) -> None:
    plain = convert(make_conversion(corpus_dir, out=str(tmp_path / "plain")), workers=1)
    again = convert(make_conversion(corpus_dir, compression="zstd"), workers=1)
    assert again.num_kept == again.num_parts
    assert again.manifests[0].fingerprint == plain.manifests[0].fingerprint
    assert np.array_equal(all_rows(split), all_rows(plain.folder / "train"))
    shards = again.manifests[0].shards
    assert sum(shard.zip_bytes or 0 for shard in shards) < sum(shard.bytes for shard in shards)
    assert [path.name for path in sorted(split.glob("shard*"))] == [
        f"shard.{n:05}.mds.zstd" for n in range(len(shards))
    ]
    assert verify(split) == []
    tokenizer = make_conversion(corpus_dir).tokenizer
    assert inspect(split, [3], tokenizer=tokenizer)[0].pieces == inspect(plain.folder / "train", [3])[0].pieces


def test_the_stock_reader_reads_it(split: Path) -> None:
    from streaming import StreamingDataset

    dataset = StreamingDataset(local=str(split), shuffle=False, batch_size=1, validate_hash="sha256")
    rows = all_rows(split)
    assert len(dataset) == len(rows) > 0
    assert all(np.array_equal(sample["tokens"], row) for sample, row in zip(dataset, rows, strict=True))


@pytest.mark.parametrize("is_remote", [False, True])
def test_our_reader_reads_it(split: Path, tmp_path: Path, is_remote: bool) -> None:
    rows = all_rows(split)
    corpus = open_corpus(tmp_path / "cache", remote=str(split)) if is_remote else open_corpus(split)
    read = RowReader([corpus]).read(np.arange(len(rows)))
    assert np.array_equal(read, rows)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"\0" + data[1:]])
def test_a_damaged_shard_is_found(split: Path, change: Callable[[bytes], bytes]) -> None:
    path = split / "shard.00001.mds.zstd"
    path.write_bytes(change(path.read_bytes()))
    faults = verify(split)
    assert len(faults) == 1
    assert "shard.00001.mds.zstd: " in faults[0]


def test_no_other_compression(corpus_dir: Path, make_conversion: Make) -> None:
    with pytest.raises(CallError, match="--compression must be zstd or left out, not gzip"):
        convert(make_conversion(corpus_dir, compression="gzip"))
