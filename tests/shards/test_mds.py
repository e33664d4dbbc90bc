"""Shards are byte for byte those of streaming's own writer, and its reader gives back the rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from shards.errors import CallError, CorpusError
from shards.mds import RowFormat, encode_index, read_rows, shard_name, write_shard

FORMATS = [
    RowFormat(seq_len=8, dtype="uint16", shard_bytes=1000),
    RowFormat(seq_len=5, dtype="uint32", shard_bytes=777),
    RowFormat(seq_len=64, dtype="uint16"),
]


def make_rows(row_format: RowFormat, num_rows: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, np.iinfo(row_format.dtype).max, (num_rows, row_format.seq_len)).astype(row_format.dtype)


def write_all(folder: Path, rows: np.ndarray, row_format: RowFormat) -> None:
    step = row_format.rows_per_shard
    blocks = [rows[start : start + step] for start in range(0, len(rows), step)]
    shards = [write_shard(folder / shard_name(n), block, row_format) for n, block in enumerate(blocks)]
    (folder / "index.json").write_bytes(encode_index(shards, row_format))


@pytest.mark.parametrize("row_format", FORMATS)
def test_same_bytes_as_the_stock_writer(row_format: RowFormat, tmp_path: Path) -> None:
    from streaming import MDSWriter

    rows = make_rows(row_format, 100)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    write_all(ours, rows, row_format)
    columns = {"tokens": f"ndarray:{row_format.dtype}:{row_format.seq_len}"}
    limit = row_format.shard_bytes
    with MDSWriter(columns=columns, out=str(theirs), hashes=["sha256"], size_limit=limit) as writer:
        for row in rows:
            writer.write({"tokens": row})
    names = sorted(path.name for path in theirs.iterdir())
    assert sorted(path.name for path in ours.iterdir()) == names
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


@pytest.mark.parametrize("row_format", FORMATS)
def test_rows_come_back(row_format: RowFormat, tmp_path: Path) -> None:
    rows = make_rows(row_format, row_format.rows_per_shard)
    shard = write_shard(tmp_path / "s.mds", rows, row_format)
    assert shard.bytes == (tmp_path / "s.mds").stat().st_size <= row_format.shard_bytes
    assert np.array_equal(read_rows(tmp_path / "s.mds", row_format), rows)


def test_a_damaged_shard_is_refused(tmp_path: Path) -> None:
    row_format, path = FORMATS[0], tmp_path / "s.mds"
    write_shard(path, make_rows(row_format, 10), row_format)
    whole = path.read_bytes()
    for broken in (
        b"",
        whole[:3],
        whole[:-1],
        whole + b"x",
        b"\xff" * 4 + whole[4:],
        whole[:5] + b"\xff" + whole[6:],
    ):
        path.write_bytes(broken)
        with pytest.raises(CorpusError, match=r"s\.mds"):
            read_rows(path, row_format)
    with pytest.raises(CorpusError):
        read_rows(tmp_path / "absent.mds", row_format)


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(CallError, match="--seq-len must be at least 1, not 0"):
        RowFormat(seq_len=0, dtype="uint16")
    with pytest.raises(CallError, match="--shard-bytes 1000 must hold a row"):
        RowFormat(seq_len=2048, dtype="uint16", shard_bytes=1000)
    with pytest.raises(CallError, match="below 4 GiB"):
        RowFormat(seq_len=2048, dtype="uint16", shard_bytes=1 << 32)


def test_index_of_nothing() -> None:
    assert json.loads(encode_index([], FORMATS[0])) == {"version": 2, "shards": []}
