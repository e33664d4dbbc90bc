"""Verification: a whole corpus has no faults; every planted fault is found and named, and nothing else."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import zstandard

from mixer.documents import open_documents
from mixer.storage.index import seal
from shards.conversion import Conversion, convert
from shards.documents import DocumentsWriter, Piece, join
from shards.errors import CorpusError
from shards.hashing import identify
from shards.inspection import split_folders
from shards.manifest import fingerprint, read_manifest
from shards.mds import encode_index, write_shard
from shards.tallies import check_together
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


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


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


def count_one_more(key: str) -> Callable[[Path], None]:
    return lambda s: edit(s / "corpus.json", lambda m: m.update({key: m[key] + 1}))


def replace_rows(token: int) -> Callable[[Path], None]:
    """Puts a whole shard of as many rows of `token` in place of the first, and makes everything that names it fit."""

    def replace(split: Path) -> None:
        manifest = read_manifest(split)
        rows = np.full((manifest.shards[0].samples, 32), token, np.uint16)
        shard = write_shard(split / "shard.00000.mds", rows, manifest.row_format)
        edit(split / "corpus.json", lambda m: m["shards"].__setitem__(0, asdict(shard)))
        seal_again(split)

    return replace


def seal_again(split: Path) -> None:
    """Fingerprint, index and hashes of what is there, so that only the content can betray it."""
    manifest = read_manifest(split)
    (split / "index.json").write_bytes(encode_index(manifest.shards, manifest.row_format))
    new = {
        "fingerprint": fingerprint(manifest.row_format, manifest.shards),
        "index_sha256": identify(split / "index.json").sha256,
    }
    edit(split / "corpus.json", lambda m: m.update(new))


def swap_and_seal(split: Path) -> None:
    swap(split / "shard.00001.mds", split / "shard.00004.mds")

    def change(manifest: dict) -> None:
        shards = manifest["shards"]
        shards[1], shards[4] = shards[4], shards[1]

    edit(split / "corpus.json", change)
    seal_again(split)


def move_length(manifest: dict) -> None:
    manifest["lengths"][2] += 1
    manifest["lengths"][-1] -= 1


FAULTS += [
    (lambda s: truncate(s / "shard.00002.mds"), ["shard.00002.mds: .* bytes, not"]),
    (lambda s: truncate(s / "unigram.npy"), ["unigram.npy cannot be read"]),
    (lambda s: truncate(s / "index.json"), ["index.json: cannot be read"]),
    (lambda s: truncate(s / "documents.bin"), ["documents.bin .*truncated"]),
    (lambda s: (s / "shard.00002.mds").rename(s / "shard.00099.mds"), ["00002.mds: missing", "00099.mds: not in the"]),
    (lambda s: np.save(s / "unigram.npy", np.zeros(3, np.float32)), ["unigram.npy holds float32"]),
    (lambda s: (s / "below").mkdir(), ["below: not in the manifest"]),
    (
        lambda s: swap(s / "shard.00000.mds", s.parent / "holdout" / "shard.00000.mds"),
        ["shard.00000.mds: (.* bytes, not|its bytes have changed)"],
    ),
    (lambda s: swap(s / "unigram.npy", s.parent / "holdout" / "unigram.npy"), ["unigram.npy: is not the file"]),
    (lambda s: swap(s / "documents.bin", s.parent / "holdout" / "documents.bin"), ["documents.bin is for"]),
    (lambda s: swap(s / "index.json", s.parent / "holdout" / "index.json"), ["index.json: is not the index"]),
    (replace_rows(5), ["documents.bin: says that a document ends at", "does not count the tokens"]),
    (swap_and_seal, ["documents.bin: says that a document ends at"] * 2),
    (replace_rows(60_000), ["token 60000 is outside the vocabulary"]),
    (lambda s: edit(s / "corpus.json", move_length), ["corpus.json: its lengths are not those"]),
    (count_one_more("tokens"), ["corpus.json: says .* tokens", "documents.bin is for .* tokens, found"]),
    (
        lambda s: edit(s / "corpus.json", lambda m: m["shards"][0].update(sha256="0" * 64)),
        [
            "fingerprint is not that",
            "index.json: is not the index",
            "shard.00000.mds: its bytes have changed",
        ],
    ),
    (lambda s: edit(s / "corpus.json", lambda m: m.update(index_sha256="0" * 64)), ["index.json: is not the index"]),
    (lambda s: edit(s / "corpus.json", lambda m: m.update(unigram_sha256="0" * 64)), ["unigram.npy: is not the file"]),
]


def test_there_are_enough_kinds_of_faults() -> None:
    assert len(FAULTS) >= 40


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


# Packed shards


@pytest.fixture
def packed(corpus_dir: Path, make_conversion: Callable[..., Conversion], tmp_path: Path) -> Path:
    convert(make_conversion(corpus_dir, compression="zstd"), workers=1)
    return tmp_path / "out" / "c4" / "train"


def pack_another(split: Path) -> None:
    """A good archive of other rows, and a manifest that knows its size and hash."""
    path = split / "shard.00000.mds.zstd"
    data = zstandard.decompress(path.read_bytes())
    path.write_bytes(zstandard.compress(data[:-1] + bytes([data[-1] ^ 1])))
    found = identify(path)
    edit(
        split / "corpus.json",
        lambda m: m["shards"][0].update(zip_bytes=path.stat().st_size, zip_sha256=found.sha256),
    )
    seal_again(split)


def pack_nothing(split: Path) -> None:
    path = split / "shard.00000.mds.zstd"
    path.write_bytes(b"no archive at all")
    change = {"zip_bytes": path.stat().st_size, "zip_sha256": identify(path).sha256}
    edit(split / "corpus.json", lambda m: m["shards"][0].update(change))
    seal_again(split)


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (lambda s: flip(s / "shard.00001.mds.zstd", -1), "shard.00001.mds.zstd: its bytes have changed"),
        (lambda s: truncate(s / "shard.00001.mds.zstd"), "shard.00001.mds.zstd: .* bytes, not"),
        (lambda s: (s / "shard.00001.mds.zstd").unlink(), "shard.00001.mds.zstd: missing"),
        (lambda s: (s / "shard.00001.mds").write_bytes(b""), "shard.00001.mds: not in the manifest"),
        (pack_another, "shard.00000.mds.zstd: unpacks to other bytes"),
        (pack_nothing, "shard.00000.mds"),
    ],
)
def test_faults_of_packed_shards(plant: Callable[[Path], object], expected: str, packed: Path) -> None:
    assert verify(packed) == []
    plant(packed)
    (fault,) = verify(packed)
    assert re.search(expected, fault)


# The splits of a corpus beside each other


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (count_one_more("records"), ["its records are not those of", "corpus.json: says .* records"]),
        (count_one_more("empty_records"), ["its empty_records are not those of", "corpus.json: says .* records"]),
        (lambda s: edit(s / "corpus.json", lambda m: m["sources"][0].update(bytes=1)), ["its sources are not those"]),
        (lambda s: edit(s / "corpus.json", lambda m: m["parameters"].update(template="x")), ["its parameters are not"]),
        (lambda s: edit(s / "corpus.json", lambda m: m.update(skipped={"not JSON": 3})), ["its skipped", "3 skipped"]),
        (lambda s: swap(s / "corpus.json", s.parent / "holdout" / "corpus.json"), ["split holdout", "split train"]),
        (lambda s: shutil.rmtree(s.parent / "holdout"), ["the split holdout is missing"]),
        (lambda s: shutil.rmtree(s), ["the split train is missing"]),
    ],
)
def test_faults_of_splits_that_do_not_belong_together(
    plant: Callable[[Path], object], expected: list[str], split: Path
) -> None:
    assert check_together(split_folders(split.parent)) == []
    plant(split)
    faults = check_together(split_folders(split.parent))
    assert len(faults) == len(expected), faults
    for fault, pattern in zip(faults, expected, strict=True):
        assert re.search(pattern, fault), fault
