"""Units: together they are the source, record for record and byte for byte, wherever they are cut."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.errors import RecordError
from shards.sources import cut_into_units, read_blocks, stat_source, whole_source
from shards.sources.units import combine_hashes, hash_range, hash_source

FIELDS = frozenset({"text"})
LINES = st.lists(st.sampled_from(["", " ", "a", "long " * 9, "漢" * 5]), max_size=12)


def read_units(path: Path, unit_bytes: int) -> tuple[list[str], list[int], str, int]:
    """Texts, absolute numbers and combined hash of all units, and how many units there are."""
    texts, numbers, hashes, before = [], [], [], 0
    units = cut_into_units([(str(path), stat_source(str(path)))], unit_bytes)
    for unit in units:
        digest, last = hashlib.sha256(), 0
        for block in read_blocks(unit, FIELDS, digest=digest):
            texts += [record["text"] for record in block.records]
            numbers += [before + number for number in block.numbers]
            last = block.last_number
        before += last
        hashes.append(digest.hexdigest())
    return texts, numbers, combine_hashes(hashes), len(units)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.booleans(), st.integers(1, 90), st.integers(1, 50))
def test_lines_in_any_cut(tmp_path: Path, texts: list[str], has_end: bool, unit_bytes: int, block_bytes: int) -> None:
    lines = [json.dumps({"text": text}, ensure_ascii=False) if text.strip() else text for text in ["first", *texts]]
    path = tmp_path / "a.jsonl"
    path.write_bytes(("\n".join(lines) + "\n" * has_end).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shards.sources.blocks.BLOCK_BYTES", block_bytes)
        found, numbers, sha256, count = read_units(path, unit_bytes)
    wanted = [(number, text) for number, text in enumerate(["first", *texts], 1) if text.strip()]
    assert list(zip(numbers, found, strict=True)) == wanted
    size = path.stat().st_size
    assert count == -(-size // unit_bytes)
    assert sha256 == hash_source(str(path), size, count)
    if count == 1:
        assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("unit_bytes", [1 << 20, 9000, 3000, 500])
def test_row_groups_in_any_cut(tmp_path: Path, unit_bytes: int) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"text {number} " * (number % 50) for number in range(1000)]
    pq.write_table(pa.table({"n": range(1000), "text": texts}), path, row_group_size=90, compression="none")
    found, numbers, sha256, count = read_units(path, unit_bytes)
    assert found == texts
    assert numbers == list(range(1, 1001))
    assert sha256 == hash_source(str(path), path.stat().st_size, count)


def test_packed_sources_are_one_unit_and_ranges_are_hashed(tmp_path: Path) -> None:
    for name, count in [("a.jsonl.gz", 1), ("a.json.zst", 1), ("a.jsonl", 4), ("a.parquet", 4)]:
        (tmp_path / name).write_bytes(b"x" * 100)
        stamp = stat_source(str(tmp_path / name))
        units = cut_into_units([(str(tmp_path / name), stamp)], 30)
        assert len(units) == count
        assert [unit.is_whole for unit in units] == [count == 1] * count
        assert (units[0].start, units[-1].end) == (0, 100)
        assert all(before.end == after.start for before, after in pairwise(units))
    assert hash_range(str(tmp_path / "a.jsonl"), 10, 13) == hashlib.sha256(b"xxx").hexdigest()
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert len(cut_into_units([(str(empty), stat_source(str(empty)))])) == 1


@pytest.mark.parametrize("unit_bytes", [10_000, 40, 7])
def test_errors_name_the_line_of_the_whole_file(tmp_path: Path, unit_bytes: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' * 20 + "{broken\n" + '{"text": "a"}\n' * 20)
    with pytest.raises(RecordError, match=r"a\.jsonl, line 21: not valid JSON") as caught:
        read_units(path, unit_bytes)
    assert caught.value.number == 21


def test_str_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 100)
    assert str(whole_source(str(path))) == str(path)
    first, _ = cut_into_units([(str(path), stat_source(str(path)))], 50)
    assert str(first) == f"{path} (bytes 0 to 50)"
