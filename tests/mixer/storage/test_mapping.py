"""Shards mapped from their files, and every header that does not fit the index."""

from pathlib import Path

import numpy as np
import pytest

from mixer import ShardError
from mixer.storage.integrity import Identity
from mixer.storage.mapping import Mapping, map_shard
from tests.mixer.storage.conftest import SEQ_LEN, rows_of, write_corpus

ROW_BYTES = 2 * SEQ_LEN


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard of ten rows."""
    return write_corpus(tmp_path / "c4", rows_of(10)) / "shard.00000.mds"


def mapped(
    path: Path,
    *,
    num_samples: int = 10,
    row_bytes: int = ROW_BYTES,
    num_bytes: int | None = None,
    encoding: str | None = None,
) -> Mapping:
    num_bytes = path.stat().st_size if num_bytes is None else num_bytes
    return map_shard(path, num_samples=num_samples, row_bytes=row_bytes, num_bytes=num_bytes, encoding=encoding)


def test_rows_lie_where_it_says(shard: Path) -> None:
    found = mapped(shard)
    start = found.first_row - found.data.ctypes.data
    assert start + 10 * ROW_BYTES == len(found.data)
    assert np.array_equal(found.data[start:].view("<u2").reshape(10, SEQ_LEN), rows_of(10))
    assert found.identity == Identity.of(shard.stat())


def test_it_stays_readable_when_the_file_is_removed(shard: Path) -> None:
    found = mapped(shard)
    content = shard.read_bytes()
    shard.unlink()
    assert found.data.tobytes() == content


def write_header(path: Path, *words: int) -> None:
    data = bytearray(path.read_bytes())
    data[: 4 * len(words)] = np.array(words, "<u4").tobytes()
    path.write_bytes(data)


def test_a_header_of_another_count_is_corrupt(shard: Path) -> None:
    write_header(shard, 11)
    with pytest.raises(ShardError, match=r"does not hold 10 rows of 256 bytes: corrupt; fetch or convert it again"):
        mapped(shard)


@pytest.mark.parametrize("place", range(11))
@pytest.mark.parametrize("shift", [-1, 1, -(2**31), 2**31])
def test_every_offset_is_looked_at(shard: Path, place: int, shift: int) -> None:
    offsets = np.frombuffer(shard.read_bytes(), "<u4", 12)[1:].astype(np.int64)
    offsets[place] = (offsets[place] + shift) % 2**32
    write_header(shard, 10, *offsets)
    with pytest.raises(ShardError, match="does not hold 10 rows"):
        mapped(shard)


def test_offsets_that_are_all_shifted(shard: Path) -> None:
    offsets = np.frombuffer(shard.read_bytes(), "<u4", 12)[1:]
    write_header(shard, 10, *(offsets - 2))
    with pytest.raises(ShardError, match="does not hold 10 rows"):
        mapped(shard)


@pytest.mark.parametrize("expected", [{"num_samples": 9}, {"num_samples": 10**6}, {"row_bytes": 2 * ROW_BYTES}])
def test_an_index_that_says_otherwise(shard: Path, expected: dict[str, int]) -> None:
    with pytest.raises(ShardError, match="does not hold"):
        mapped(shard, **expected)


def test_rows_of_the_same_size_but_of_another_type(shard: Path) -> None:
    assert mapped(shard, encoding="ndarray:uint16:128").identity == Identity.of(shard.stat())
    with pytest.raises(ShardError, match="does not hold rows of ndarray:uint32:64, as its index says"):
        mapped(shard, encoding="ndarray:uint32:64")


def test_a_size_that_is_not_that_of_the_index(shard: Path) -> None:
    size = shard.stat().st_size
    with pytest.raises(ShardError, match=f"has {size} bytes, its index says {size + 1}: truncated or replaced"):
        mapped(shard, num_bytes=size + 1)


def test_files_that_cannot_be_mapped(shard: Path) -> None:
    shard.write_bytes(b"")
    with pytest.raises(ShardError, match="cannot read shard"):
        mapped(shard)
    shard.unlink()
    with pytest.raises(ShardError, match=r"cannot read shard .*No such file.*fetch or convert it again") as caught:
        mapped(shard, num_bytes=1)
    assert caught.value.path == str(shard)


def test_a_shard_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "shard.mds"
    path.write_bytes(np.array([0, 8], "<u4").tobytes())
    assert len(mapped(path, num_samples=0).data) == 8


def test_offsets_beyond_two_gigabytes(tmp_path: Path) -> None:
    """A sparse file: uint32 offsets go up to four."""
    path, num_samples, row_bytes = tmp_path / "shard.mds", 3, 2**30
    offsets = 4096 + np.arange(num_samples + 1) * row_bytes
    with path.open("wb") as file:
        file.write(np.array([num_samples, *offsets], "<u4").tobytes())
        file.truncate(offsets[-1])
    found = mapped(path, num_samples=num_samples, row_bytes=row_bytes)
    assert found.first_row == found.data.ctypes.data + 4096
    assert len(found.data) == 4096 + 3 * 2**30
