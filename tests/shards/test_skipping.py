"""Bad records: counted, listed and left out where that is asked, the same in any cut and order of work."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.conversion import Conversion, convert
from shards.errors import CallError, MismatchError, RecordError, SourceError
from shards.manifest import read_manifest
from shards.part import LISTED
from shards.verification import verify
from tests.shards.conftest import all_rows, make_texts, tree_hashes, write_jsonl

Make = Callable[..., Conversion]

BAD = [
    (b'{"text": "\xff"}', "not UTF-8", "byte 0xff at byte 11"),
    (b'{"text": "cut', "not JSON", "not valid JSON"),
    (b'{"text": "\\ud800"}', "not JSON", "not valid JSON"),
    (b"\x00\x00", "not JSON", "not valid JSON"),
    (b'["text"]', "no object", "a JSON list"),
    (b"17", "no object", "a JSON int"),
    (b'{"body": "a"}', "wrong columns", "wants the fields text"),
    (b'{"text": ["a"]}', "wrong columns", "text (list)"),
    (b'{"text": "%s"}' % (b"long " * 1000), "too large", "more than 4000 bytes"),
]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Good lines, with a bad one of each kind after every tenth; the places of the bad are BAD's order."""
    lines = [json.dumps({"text": text}).encode() for text in make_texts(10 * len(BAD), seed=5)]
    path = tmp_path / "in" / "a.jsonl"
    path.parent.mkdir()
    chunks = [b"\n".join([*lines[10 * n : 10 * n + 10], bad]) for n, (bad, _, _) in enumerate(BAD)]
    path.write_bytes(b"\n".join(chunks) + b"\n")
    return path


def skipped(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "skipped.jsonl").open()]


@pytest.mark.parametrize("unit_bytes", [1 << 20, 3000])
def test_bad_lines_are_left_out_and_told(mixed: Path, make_conversion: Make, tmp_path: Path, unit_bytes: int) -> None:
    about = {"on_error": "skip", "max_record_bytes": 4000, "unit_bytes": unit_bytes}
    (train, holdout) = convert(make_conversion(mixed, **about), workers=1).manifests
    assert train.skipped == {"no object": 2, "not JSON": 3, "not UTF-8": 1, "too large": 1, "wrong columns": 2}
    assert (train.records, train.documents + holdout.documents) == (11 * len(BAD), 10 * len(BAD))
    for split in ("train", "holdout"):
        told = skipped(tmp_path / "out" / "c4" / split)
        assert [(line["source"], line["number"]) for line in told] == [
            (str(mixed), 11 * n + 11) for n in range(len(BAD))
        ]
        assert [line["kind"] for line in told] == [kind for _, kind, _ in BAD]
        assert all(reason in str(line["reason"]) for line, (_, _, reason) in zip(told, BAD, strict=True))
        assert verify(tmp_path / "out" / "c4" / split) == []
    good = write_jsonl(tmp_path / "good" / "a.jsonl", make_texts(10 * len(BAD), seed=5))
    convert(make_conversion(good, out=str(tmp_path / "other")), workers=1)
    if unit_bytes == 1 << 20:
        assert np.array_equal(all_rows(tmp_path / "out/c4/train"), all_rows(tmp_path / "other/c4/train"))


def test_stop_names_the_first_and_publishes_nothing(mixed: Path, make_conversion: Make, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"a\.jsonl, line 11: not UTF-8"):
        convert(make_conversion(mixed, max_record_bytes=4000), workers=1)
    assert not (tmp_path / "out").exists()


def test_the_same_bytes_for_any_number_of_workers(mixed: Path, make_conversion: Make, tmp_path: Path) -> None:
    trees = []
    for workers in (1, 2):
        about = {"on_error": "skip", "max_record_bytes": 4000, "unit_bytes": 2000, "out": str(tmp_path / str(workers))}
        convert(make_conversion(mixed, **about), workers=workers)
        trees.append(tree_hashes(tmp_path / str(workers)))
    assert trees[0] == trees[1]


def damaged(tmp_path: Path) -> list[Path]:
    """Sources of which a part can be read, or nothing."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    data = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in make_texts(3000, seed=8, longest=40))
    packed = gzip.compress(data, mtime=0)
    (folder / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (folder / "empty.jsonl").write_bytes(b"")
    (folder / "empty.jsonl.gz").write_bytes(b"")
    (folder / "noise.jsonl.zst").write_bytes(b"noise, not zstd")
    pq.write_table(pa.table({"text": make_texts(500, seed=9)}), folder / "whole.parquet")
    (folder / "cut.parquet").write_bytes((folder / "whole.parquet").read_bytes()[:-100])
    (folder / "whole.parquet").unlink()
    (folder / "blank.jsonl").write_bytes(b"\n \n")
    return sorted(folder.iterdir())


def test_what_can_be_read_of_a_damaged_source_is_kept(make_conversion: Make, tmp_path: Path) -> None:
    sources = damaged(tmp_path)
    trees = []
    for workers in (1, 2):
        report = convert(
            make_conversion(*sources, on_error="skip", holdout=0, out=str(tmp_path / str(workers))), workers=workers
        )
        trees.append(tree_hashes(tmp_path / str(workers)))
    assert trees[0] == trees[1]
    (train,) = report.manifests
    assert train.skipped == {"damaged source": 4, "no records": 2}
    assert 1000 < train.documents == train.records < 2500
    told = {Path(str(line["source"])).name: line for line in skipped(report.folder / "train")}
    assert told["cut.jsonl.gz"]["number"] == train.records
    assert [source.bytes for source in train.sources] == [path.stat().st_size for path in sources]
    again = convert(make_conversion(*sources, on_error="skip", holdout=0, out=str(tmp_path / "1")), workers=1)
    assert again.num_kept == again.num_parts == len(sources)


def test_a_damaged_or_empty_source_stops(make_conversion: Make, tmp_path: Path) -> None:
    for path in damaged(tmp_path):
        with pytest.raises(SourceError, match=path.name):
            convert(make_conversion(path), workers=1)
    assert not (tmp_path / "out").exists()


def test_a_stopped_conversion_may_go_on_skipping_but_not_the_other_way(
    mixed: Path, make_conversion: Make, tmp_path: Path
) -> None:
    good = write_jsonl(tmp_path / "in" / "0.jsonl", make_texts(40, seed=6))
    about = {"max_record_bytes": 4000}
    with pytest.raises(RecordError):
        convert(make_conversion(good, mixed, **about), workers=1)
    report = convert(make_conversion(good, mixed, on_error="skip", **about), workers=1)
    assert report.num_kept == 1
    assert sum(report.manifests[0].skipped.values()) == len(BAD)
    with pytest.raises(MismatchError, match="9 bad records were skipped there, --on-error stop asked"):
        convert(make_conversion(good, mixed, **about), workers=1)


def test_the_list_is_bounded(make_conversion: Make, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", make_texts(20, seed=6))
    with path.open("a") as file:
        file.write("{}\n" * (LISTED + 5) + "[]\n")
    convert(make_conversion(path, on_error="skip", unit_bytes=1000), workers=1)
    folder = tmp_path / "out" / "c4" / "train"
    assert read_manifest(folder).skipped == {"no object": 1, "wrong columns": LISTED + 5}
    told = skipped(folder)
    assert len(told) == LISTED + 1
    assert [line["number"] for line in told] == [*range(21, LISTED + 21), LISTED + 26]


def test_no_other_words(make_conversion: Make, mixed: Path) -> None:
    with pytest.raises(CallError, match="--on-error must be stop or skip, not ignore"):
        convert(make_conversion(mixed, on_error="ignore"))
    with pytest.raises(CallError, match="--max-record-bytes must be at least 1"):
        convert(make_conversion(mixed, max_record_bytes=0))
