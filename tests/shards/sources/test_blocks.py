"""Blocks: the same records from every form of source, one clear error for each damage."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from shards.errors import RecordError, SourceError
from shards.sources import blocks, read_blocks, whole_source

FIELDS = frozenset({"text"})
RECORDS = [{"text": f"text {n} " + "é漢\n" * (n % 7), "url": "u", "n": n} for n in range(3000)]
LINES = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)


def put(path: Path, data: bytes = b'{"text": "a"}\n') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read_all(path: Path) -> list[dict[str, object]]:
    return [record for block in read_blocks(whole_source(str(path)), FIELDS) for record in block.records]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.jsonl", bytes),
        ("a.json", bytes),
        ("a.jsonl.gz", gzip.compress),
        ("a.json.gz", lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:])),
        ("a.jsonl.zst", zstandard.compress),
        ("a.json.zst", lambda data: zstandard.compress(data[:1000]) + zstandard.compress(data[1000:])),
    ],
)
def test_lines_of_every_packing(
    name: str, pack: "callable[[bytes], bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10_000)
    path = put(tmp_path / name, pack(LINES))
    found = list(read_blocks(whole_source(str(path)), FIELDS))
    assert [record for block in found for record in block.records] == RECORDS
    assert [number for block in found for number in block.numbers] == list(range(1, len(RECORDS) + 1))
    assert len(found) > 5
    positions = [block.position for block in found]
    assert positions == sorted(positions)
    assert positions[-1] == path.stat().st_size


def test_parquet_gives_only_the_wanted_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(RECORDS), path, row_group_size=700)
    assert read_all(path) == [{"text": record["text"]} for record in RECORDS]
    found = list(read_blocks(whole_source(str(path)), FIELDS))
    assert [number for block in found for number in block.numbers] == list(range(1, len(RECORDS) + 1))
    assert found[-1].position == path.stat().st_size
    assert list(next(read_blocks(whole_source(str(path)), frozenset({"absent"}))).records[0]) == ["text", "url", "n"]


def test_blank_lines_count_but_hold_nothing(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", b'{"text": "a"}\n\n  \r\n{"text": "b"}')
    found = list(read_blocks(whole_source(str(path)), FIELDS))
    assert [number for block in found for number in block.numbers] == [1, 4]


BAD_LINES = [
    (b'{"text": "a"}\n{"text": \n', "line 2: not valid JSON"),
    (b'{"text": "a"}\n{"text": "\xff"}\n', "line 2: not UTF-8 (byte 0xff at byte 11 of the line)"),
    (b'{"text": "\\ud800"}\n', "line 1: not valid JSON"),
    (b'["a"]\n', "line 1: a JSON list, not an object"),
    (b'[\n{"text": "a"}\n]\n', "line 1: a JSON array over several lines"),
    (b'{"text": "a"}\n{"text": "cut o', "line 2: not valid JSON"),
    (b'{"text": "a"}\x00\n', "line 1: not valid JSON"),
]


@pytest.mark.parametrize(("data", "message"), BAD_LINES)
def test_bad_lines_are_named(data: bytes, message: str, tmp_path: Path) -> None:
    path = put(tmp_path / "bad.jsonl", data)
    with pytest.raises(RecordError) as caught:
        read_all(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.number == int(message.split()[1].rstrip(":"))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_damaged_packing_is_one_error(name: str, tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(20_000).hex()
    data = b"".join(b'{"text": "%s"}\n' % noise[n : n + 50].encode() for n in range(0, len(noise), 50))
    whole = gzip.compress(data) if name.endswith("gz") else zstandard.ZstdCompressor(write_checksum=True).compress(data)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    broken = [
        whole[: len(whole) // 2],
        whole[:-1],
        whole[:4],
        bytes(flipped),
        b"plain text\n",
        whole + b"more",
    ]
    for cut in broken:
        with pytest.raises((SourceError, RecordError)) as caught:
            read_all(put(tmp_path / name, cut))
        assert name in str(caught.value)
    for cut in broken[:2]:
        with pytest.raises(SourceError, match=r"damaged or truncated .* after line \d+; fetch the file again"):
            read_all(put(tmp_path / name, cut))


def test_damaged_parquet_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(RECORDS), path)
    whole = path.read_bytes()
    for broken in (
        whole[:-1],
        whole[: len(whole) // 2],
        b"not parquet",
        whole[:100] + b"\xff" * 500 + whole[600:],
    ):
        with pytest.raises(SourceError, match=r"a\.parquet: damaged or no Parquet file"):
            read_all(put(path, broken))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl"])
def test_a_file_without_records_is_an_error(name: str, tmp_path: Path) -> None:
    data = gzip.compress(b"") if name.endswith("gz") else b"\n\n"
    with pytest.raises(SourceError, match="holds no records"):
        read_all(put(tmp_path / name, data))
