"""Finding: which files stand for the inputs, in which order."""

from pathlib import Path

import pytest

from shards.errors import SourceError
from shards.sources import find_sources


def put(path: Path, data: bytes = b'{"text": "a"}\n') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_order_is_the_inputs_then_by_path(tmp_path: Path) -> None:
    for name in (
        "b/2.jsonl",
        "b/10.jsonl",
        "b/a/z.json.gz",
        "b/.hidden.jsonl",
        "b/.x/y.jsonl",
        "b/README.md",
        "c.jsonl",
    ):
        put(tmp_path / name, name.encode())
    found = find_sources([str(tmp_path / "c.jsonl"), str(tmp_path / "b")])
    assert [str(path.relative_to(tmp_path)) for path in map(Path, found)] == [
        "c.jsonl",
        "b/10.jsonl",
        "b/2.jsonl",
        "b/a/z.json.gz",
    ]
    found = find_sources([str(tmp_path / "b" / "*.jsonl")])
    assert [path.name for path in map(Path, found)] == ["10.jsonl", "2.jsonl"]
    found = find_sources([str(tmp_path / "**" / "*.gz")])
    assert [path.name for path in map(Path, found)] == ["z.json.gz"]


def test_inputs_that_cannot_be(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl")
    put(tmp_path / "a.csv")
    (tmp_path / "none").mkdir()
    for inputs, message in [
        (["absent.jsonl"], "absent.jsonl does not exist"),
        ([f"{tmp_path}/*.parquet"], "matches no file"),
        ([f"{tmp_path}/none"], "holds no file ending in .jsonl"),
        ([f"{tmp_path}/a.csv"], "unknown ending; known: .jsonl"),
        ([f"{tmp_path}/a.*"], "a.csv has an unknown ending"),
        ([f"{tmp_path}/a.jsonl", f"{tmp_path}/./a.jsonl"], "is given twice"),
        ([], "no input"),
    ]:
        with pytest.raises(SourceError) as caught:
            find_sources(inputs)
        assert message in str(caught.value)
