"""Verification: a whole corpus has no faults; every planted fault is found and named, and nothing else."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixer.documents import open_documents
from mixer.storage.index import seal
from shards.conversion import Conversion, convert
from shards.documents import DocumentsWriter, Piece, join
from shards.errors import CorpusError
from shards.hashing import identify
from shards.manifest import read_manifest
from shards.mds import write_shard
from shards.verification import verify
from tests.shards.conftest import forget_index


@pytest.fixture
def split(corpus_dir: Path, make_conversion: Callable[..., Conversion], tmp_path: Path) -> Path:
    convert(make_conversion(corpus_dir), workers=1)
    return tmp_path / "out" / "c4" / "train"


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def edit(path: Path, change: Callable[[dict], None]) -> None:
    """Change a JSON file; a manifest gets the hash that belongs to what it says then."""
    data = json.loads(path.read_bytes())
    change(data)
    if "manifest_sha256" in data:
        data["manifest_sha256"] = "0" * 64
    path.write_bytes(seal(json.dumps(data).encode()))


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
    (lambda s: flip(s / "documents.bin", -1), ["documents.bin: is not the file of this manifest"]),
    (lambda s: (s / "documents.bin").unlink(), ["documents.bin cannot be read"]),
    (lambda s: (s / "documents.bin").write_bytes(b"swpdocs1"), ["documents.bin ends within its tables"]),
    (lambda s: edit(s / "corpus.json", lambda m: m.update(documents_sha256="0" * 64)), ["documents.bin: is not the"]),
    (
        lambda s: edit(s / "corpus.json", lambda m: m.update(documents=m["documents"] + 1)),
        ["documents.bin is for .* documents, found"],
    ),
    (lambda s: edit(s / "corpus.json", lambda m: m["sources"].pop()), ["documents.bin is no index of the 4 sources"]),
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


def test_an_index_that_does_not_fit_the_rows_is_found(split: Path) -> None:
    """An index that was replaced together with its hash: two documents of it have swapped their lengths."""
    path = split / "documents.bin"
    pieces, writer = [], DocumentsWriter()
    index = open_documents(split)
    lengths = [index.document(number).num_tokens for number in range(index.num_documents)]
    own_tokens = np.frombuffer(path.read_bytes(), "<i8", 20, 24).reshape(5, 4)[:, 3]
    documents_of = np.frombuffer(path.read_bytes(), "<i8", 25, 24 + 160).reshape(5, 5)[:, 3]
    at = 0
    lengths[50], lengths[51] = lengths[51], lengths[50]
    assert lengths[50] != lengths[51]
    for number, documents in enumerate(documents_of.tolist()):
        writer = DocumentsWriter()
        numbers = range(at, at + documents)
        writer.add([index.document(n).record for n in numbers], np.array([lengths[n] for n in numbers], np.int64))
        at += documents
        piece = split.parent / f"{number}.piece"
        piece.write_bytes(b"".join(writer.finish()))
        pieces.append(Piece(piece, int(own_tokens[number]), number))
    path.unlink()
    path.write_bytes(b"".join(join(pieces)))
    edit(split / "corpus.json", lambda m: m.update(documents_sha256=identify(path).sha256))
    faults = verify(split)
    assert len(faults) == 1
    assert re.search(
        r"documents\.bin: says that a document ends at token \d+ of sample \d+, where none does", faults[0]
    )


def test_a_split_without_index_is_whole(split: Path) -> None:
    index = (split / "documents.bin").read_bytes()
    forget_index(split)
    assert verify(split) == []
    (split / "documents.bin").write_bytes(index)
    (fault,) = verify(split)
    assert fault.endswith("documents.bin: not in the manifest; remove it")


def test_what_is_no_corpus(tmp_path: Path, split: Path) -> None:
    with pytest.raises(CorpusError, match=r"is no corpus.* without corpus\.json"):
        verify(tmp_path)
    (split / "corpus.json").write_text("{}")
    with pytest.raises(CorpusError, match="cannot be read"):
        verify(split)


def test_another_format_is_refused(split: Path) -> None:
    edit(split / "corpus.json", lambda m: m["parameters"].update(format=99))
    with pytest.raises(CorpusError, match="has format 99; this version reads 1 and 2 and 3"):
        verify(split)


def test_a_manifest_whose_bytes_have_changed_is_found(split: Path) -> None:
    path = split / "corpus.json"
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CorpusError):
            verify(split)
    path.write_bytes(whole)
    assert verify(split) == []


def test_progress_is_the_bytes_of_the_shards(split: Path) -> None:
    done: list[int] = []
    verify(split, done.append)
    assert sum(done) == sum(path.stat().st_size for path in split.glob("*.mds"))
