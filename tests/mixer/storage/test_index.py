"""What a folder holds, with and without a manifest, and as a cache of a remote one."""

import json
import logging
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from mixer import CorpusError
from mixer.errors import CacheError, FetchError
from mixer.storage import index, open_corpus
from mixer.storage.index import seal, shard_name
from mixer.storage.integrity import digest_of
from mixer.storage.remote import Remote
from tests.mds import write_manifest
from tests.mixer.storage import servers
from tests.mixer.storage.conftest import SEQ_LEN, rows_of, write_corpus
from tests.mixer.storage.servers import BUCKET, S3


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of ten rows, ten and five, with a manifest."""
    return write_corpus(tmp_path_factory.mktemp("written") / "c4", rows_of(25), manifest=True)


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "c4"))


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_with_a_manifest(folder: Path) -> None:
    corpus = open_corpus(folder)
    assert corpus.has_manifest
    assert corpus.shard_names == [shard_name(number) for number in range(3)]
    assert corpus.shard_sizes.tolist() == [10, 10, 5]
    assert corpus.shard_bytes.tolist() == [(folder / name).stat().st_size for name in corpus.shard_names]
    assert list(corpus.digests) == [digest_of(folder / name, "sha256") for name in corpus.shard_names]
    assert (corpus.seq_len, corpus.dtype, corpus.has_fixed_rows) == (SEQ_LEN, np.dtype("<u2"), True)
    assert corpus.num_samples == 25
    assert corpus.remote is None
    assert corpus.zipped is None


def test_without_one_the_index_says_the_same(folder: Path) -> None:
    by_manifest = open_corpus(folder)
    (folder / "corpus.json").unlink()
    by_index = open_corpus(folder)
    assert not by_index.has_manifest
    assert by_index.fingerprint == sha256((folder / "index.json").read_bytes()).hexdigest()
    for name in ("shard_names", "digests", "columns", "seq_len", "dtype"):
        assert list(getattr(by_index, name)) == list(getattr(by_manifest, name)) if name in (
            "shard_names", "digests",
        ) else getattr(by_index, name) == getattr(by_manifest, name)  # fmt: skip
    assert np.array_equal(by_index.shard_bytes, by_manifest.shard_bytes)
    assert np.array_equal(by_index.shard_sizes, by_manifest.shard_sizes)


def test_compressed_shards_are_known_by_both_of_their_forms(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "c4", rows_of(15), compression="zstd:3")
    corpus = open_corpus(folder)
    assert corpus.zipped is not None
    packed = [folder / f"{name}.zstd" for name in corpus.shard_names]
    assert [(z.name, z.num_bytes, z.digest, z.algorithm) for z in corpus.zipped if z] == [
        (path.name, path.stat().st_size, digest_of(path, "sha256"), "zstd:3") for path in packed
    ]


def test_what_the_first_shards_were_known_as(folder: Path, tmp_path: Path) -> None:
    shorter = write_corpus(tmp_path / "shorter", rows_of(20), manifest=True)
    assert open_corpus(folder).fingerprint_of(2) == open_corpus(shorter).fingerprint
    assert open_corpus(folder).fingerprint_of(3) == open_corpus(folder).fingerprint
    assert open_corpus(folder).fingerprint_of(4) is None
    (folder / "corpus.json").unlink()
    assert open_corpus(folder).fingerprint_of(2) is None


def test_one_changed_byte_of_a_manifest_is_seen(folder: Path) -> None:
    path = folder / "corpus.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"vocab_size": null', b'"vocab_size": 5555'))
    with pytest.raises(CorpusError, match=r"corpus\.json is not a whole manifest \(its bytes have changed\)"):
        open_corpus(folder)
    unsealed = json.loads(content)
    del unsealed["manifest_sha256"]
    path.write_text(json.dumps(unsealed))
    with pytest.raises(CorpusError, match=r"it lacks its own hash.*convert the corpus again, or copy it anew"):
        open_corpus(folder)


@pytest.mark.parametrize("number", [1, 2])
def test_manifests_of_the_first_formats(folder: Path, number: int) -> None:
    """They have no hash of themselves."""

    def age(manifest: dict) -> None:
        del manifest["manifest_sha256"]
        manifest["parameters"]["format"] = number

    fingerprint = open_corpus(folder).fingerprint
    edit(folder / "corpus.json", age)
    assert open_corpus(folder).fingerprint == fingerprint
    assert open_corpus(folder).has_manifest
    edit(folder / "corpus.json", lambda manifest: manifest["shards"][1].update(samples=9))
    with pytest.raises(CorpusError, match="its fingerprint is not that of the shards it lists"):
        open_corpus(folder)


def spoil_index(folder: Path, change: Callable[[list[dict]], object]) -> None:
    """`change` the shards of an index that no manifest holds against it."""
    (folder / "corpus.json").unlink()
    edit(folder / "index.json", lambda content: change(content["shards"]))


@pytest.mark.parametrize("hashes", [None, {}, {"sha-256": "0" * 64}, {"sha256": ""}])
def test_an_index_that_has_lost_a_hash_is_refused(folder: Path, hashes: dict | None) -> None:
    spoil_index(folder, lambda shards: shards[1]["raw_data"].update(hashes=hashes))
    with pytest.raises(CorpusError, match=r"says that shard\.00001\.mds has a hash \(\['sha256'\]\), which it lacks"):
        open_corpus(folder)


def test_an_index_with_hashes_of_some_shards_is_refused(folder: Path) -> None:
    spoil_index(folder, lambda shards: (shards[1].update(hashes=[]), shards[1]["raw_data"].update(hashes={})))
    with pytest.raises(CorpusError, match=r"has hashes of other shards, but none of shard\.00001\.mds"):
        open_corpus(folder)


@pytest.mark.parametrize("samples", [0, 9, 11, 10**15])
def test_more_or_fewer_rows_than_a_shard_can_hold_are_refused(folder: Path, samples: int) -> None:
    spoil_index(folder, lambda shards: shards[1].update(samples=samples))
    with pytest.raises(CorpusError, match=rf"shard\.00001\.mds cannot hold {samples} rows of 256 bytes in"):
        open_corpus(folder)


def test_an_index_without_a_single_row_is_that_of_an_empty_split(folder: Path) -> None:
    spoil_index(folder, lambda shards: [shard.update(samples=0) for shard in shards])
    with pytest.raises(CorpusError, match="the split is empty"):
        open_corpus(folder)


def test_one_file_cannot_be_two_compressed_shards(folder: Path) -> None:
    packed = {"basename": "a.zstd", "bytes": 1, "hashes": {"sha256": "0" * 64}}
    spoil_index(folder, lambda shards: [shard.update(zip_data=packed, compression="zstd") for shard in shards])
    with pytest.raises(CorpusError, match=r"lists a\.zstd more than once"):
        open_corpus(folder)


def test_an_index_of_another_corpus(folder: Path) -> None:
    edit(folder / "index.json", lambda content: content["shards"].pop())
    with pytest.raises(CorpusError, match=r"index\.json is not the index of the manifest beside it"):
        open_corpus(folder)


@pytest.mark.parametrize("content", [b"[]", b"{", b"", b'{"parameters": 1}', b'{"parameters": {"format": "new"}}'])
def test_a_torn_manifest_is_named(folder: Path, content: bytes) -> None:
    (folder / "corpus.json").write_bytes(content)
    with pytest.raises(CorpusError, match=r"corpus\.json"):
        open_corpus(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda shard: shard.pop("samples"),
        lambda shard: shard.update(samples="many"),
        lambda shard: shard.update(raw_data=None),
        lambda shard: shard["raw_data"].pop("basename"),
        lambda shard: shard["raw_data"].update(hashes=[1]),
        lambda shard: shard["column_names"].append("more"),
        lambda shard: shard.update(zip_data={"basename": "x", "bytes": 1, "hashes": {"sha256": "0" * 64}}),
        lambda shard: shard.update(samples=float("inf")),
        lambda shard: shard["raw_data"].update(bytes=10**30),
    ],
)
def test_an_index_that_is_not_one_of_mds(folder: Path, change: Callable[[dict], object]) -> None:
    (folder / "corpus.json").unlink()
    edit(folder / "index.json", lambda content: content["shards"][1].pop("compression"))
    edit(folder / "index.json", lambda content: change(content["shards"][1]))
    with pytest.raises(CorpusError, match=r"index\.json does not list shards as MDS does"):
        open_corpus(folder)


@pytest.mark.parametrize("name", ["../shard.00000.mds", "/etc/passwd", "..", ".", "", "a/b", "shard.mds/"])
@pytest.mark.parametrize("kind", ["raw_data", "zip_data"])
def test_names_that_would_leave_the_folder(tmp_path: Path, folder: Path, name: str, kind: str) -> None:
    (folder / "corpus.json").unlink()
    file = {"basename": "shard.00000.mds", "bytes": 1, "hashes": {"sha256": "0" * 64}}
    edit(folder / "index.json", lambda content: content["shards"][0].update(
        raw_data=file, zip_data=file, compression="zstd:3"
    ))  # fmt: skip
    edit(folder / "index.json", lambda content: content["shards"][0].update({kind: {**file, "basename": name}}))
    with pytest.raises(CorpusError, match=f"'{name}' is not the name of a shard in this folder"):
        open_corpus(folder)


@pytest.mark.parametrize("name", ["index.json", "corpus.json", ".lock", ".verified", ".fetch", "shard.00001.mds"])
def test_names_that_belong_to_others(folder: Path, name: str) -> None:
    """Or making room would remove them."""
    (folder / "corpus.json").unlink()
    edit(folder / "index.json", lambda content: content["shards"][0]["raw_data"].update(basename=name))
    with pytest.raises(CorpusError, match=name):
        open_corpus(folder)


@pytest.mark.parametrize(
    "columns", [{"tokens": "bytes"}, {"tokens": "ndarray:uint16"}, {"tokens": "ndarray:uint16:8", "id": "int"}, {}]
)
def test_rows_that_are_not_of_one_size(folder: Path, columns: dict[str, str]) -> None:
    (folder / "corpus.json").unlink()
    edit(folder / "index.json", lambda content: [
        shard.update(column_names=list(columns), column_encodings=list(columns.values())) for shard in content["shards"]
    ])  # fmt: skip
    corpus = open_corpus(folder)
    assert not corpus.has_fixed_rows
    assert dict(corpus.columns) == columns
    found = ", ".join(f"{name}: {encoding}" for name, encoding in columns.items())
    for name in ("seq_len", "dtype"):
        with pytest.raises(CorpusError, match=f"expected shards with the one column .*, found {found}"):
            getattr(corpus, name)


def test_many_shards_are_known_by_the_manifest_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """61,036 of them: the index, of many megabytes, is compared by its hash and never parsed."""
    (tmp_path / "index.json").write_bytes(b"not even JSON " * 1000)
    num_shards, digest = 61_036, "ab" * 32
    lines = [f"uint16 {SEQ_LEN}", *[f"10 {digest}"] * num_shards]
    manifest = {
        "manifest_sha256": "0" * 64,
        "fingerprint": sha256("\n".join(lines).encode()).hexdigest(),
        "parameters": {
            "format": 3, "dtype": "uint16", "seq_len": SEQ_LEN, "tokenizer_sha256": "t", "vocab_size": 7,
        },
        "index_sha256": sha256((tmp_path / "index.json").read_bytes()).hexdigest(),
        "shards": [{"samples": 10, "bytes": 1604, "sha256": digest}] * num_shards,
    }  # fmt: skip
    (tmp_path / "corpus.json").write_bytes(seal(json.dumps(manifest).encode()))
    parsed = []
    monkeypatch.setattr(index, "_parse", lambda path, raw: (parsed.append(path.name), json.loads(raw))[1])
    corpus = open_corpus(tmp_path)
    assert parsed == ["corpus.json"]
    assert len(corpus.shard_names) == num_shards
    assert corpus.shard_names[-1] == "shard.61035.mds"
    assert corpus.num_samples == 610_360
    assert (corpus.tokenizer, corpus.vocab_size) == ("t", 7)


def test_a_remote_folder_is_opened_through_a_local_one(written: Path, tmp_path: Path, s3: S3) -> None:
    corpus = open_corpus(tmp_path / "new" / "cache", s3.upload(written, "opened"))
    assert corpus.fingerprint == open_corpus(written).fingerprint
    assert corpus.remote is not None
    assert corpus.remote.url == f"s3://{BUCKET}/opened"
    assert files_of(corpus.path) == ["corpus.json", "index.json"], "and no shard yet"


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def test_a_new_version_is_taken_and_said(written: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    remote = Path(shutil.copytree(written, tmp_path / "remote"))
    open_corpus(tmp_path / "cache", str(remote))
    open_corpus(tmp_path / "cache", str(remote))
    assert not caplog.records
    shutil.rmtree(remote)
    write_corpus(remote, rows_of(30, first=7), manifest=True)
    corpus = open_corpus(tmp_path / "cache", str(remote))
    assert corpus.fingerprint == open_corpus(remote).fingerprint
    assert f"holds another version of {remote}: shards are fetched again as needed" in caplog.text


def test_without_a_manifest_there_a_stale_one_goes(written: Path, tmp_path: Path) -> None:
    remote = Path(shutil.copytree(written, tmp_path / "remote"))
    open_corpus(tmp_path / "cache", str(remote))
    (remote / "corpus.json").unlink()
    assert not open_corpus(tmp_path / "cache", str(remote)).has_manifest
    assert files_of(tmp_path / "cache") == ["index.json"]
    write_manifest(remote)
    assert open_corpus(tmp_path / "cache", str(remote)).has_manifest


@pytest.mark.parametrize("name", ["index.json", "corpus.json"])
def test_a_remote_out_of_reach_is_no_end_where_it_was_read_before(
    written: Path, tmp_path: Path, s3: S3, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    url = s3.upload(written, "reached")
    remote = Remote(url, attempts=2)
    s3.link.fail(servers.reset, servers.busy, of=name)
    with pytest.raises(FetchError, match=f"cannot fetch {url}/{name} after 2 attempts"):
        open_corpus(tmp_path / "cache", remote)
    before = open_corpus(tmp_path / "cache", remote)
    s3.link.fail(servers.busy, servers.reset, of=name)
    with caplog.at_level(logging.WARNING):
        after = open_corpus(tmp_path / "cache", remote)
    assert after.fingerprint == before.fingerprint
    assert after.has_manifest
    assert f"going on with what {tmp_path / 'cache'} holds" in caplog.text


def test_a_remote_that_is_no_corpus(tmp_path: Path, written: Path, s3: S3) -> None:
    """Even where it was one before: it was moved, or its name is wrong now."""
    for cache in (tmp_path / "cache", Path(shutil.copytree(written, tmp_path / "before"))):
        with pytest.raises(FetchError, match=r"cannot fetch .*no-such/index\.json") as caught:
            open_corpus(cache, f"s3://{BUCKET}/no-such")
        assert caught.value.missing
    assert open_corpus(tmp_path / "before").has_manifest, "and what is there stays"


def test_a_folder_that_cannot_be_written_is_no_cache(
    written: Path, tmp_path: Path, mounted: Callable[..., Path]
) -> None:
    cache = mounted("-t", "tmpfs", "-o", "ro,size=1m", "tmpfs")
    with pytest.raises(CacheError, match=r"cannot keep .* in .*: Read-only file system; name a folder"):
        open_corpus(cache, str(written))


def test_a_full_disk_is_no_cache(written: Path, mounted: Callable[..., Path]) -> None:
    cache = mounted("-t", "tmpfs", "-o", "size=16k", "tmpfs")
    (cache / "filler").write_bytes(bytes(12_000))
    with pytest.raises(CacheError, match=r"cannot keep .* in .*: No space left on device; make room there"):
        open_corpus(cache, str(written))
    assert files_of(cache) == ["filler"]
