"""Sources in object stores and on the hub: real clients against real HTTP servers on this machine."""

from __future__ import annotations

import gzip
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards import task
from shards.conversion import Conversion, convert
from shards.errors import MismatchError, RecordError, SourceError
from shards.manifest import read_manifest
from shards.sources import find_sources, open_source, remote, stat_source
from shards.sources.storage import as_source_error, stat_sources
from tests.s3 import s3_server, upload
from tests.shards.conftest import make_texts, tree_hashes, write_jsonl
from tests.shards.gcs import gcs_server
from tests.shards.hub import hub_server

STORES = ("s3", "gs", "hf")


def make_files(folder: Path) -> None:
    """Sources of every form in folders, among them files that are none."""
    write_jsonl(folder / "b" / "x.jsonl", make_texts(60, seed=1))
    write_jsonl(folder / "a" / "deep" / "y.jsonl", make_texts(30, seed=2))
    data = write_jsonl(folder / "a" / "z.jsonl", make_texts(40, seed=3)).read_bytes()
    (folder / "a" / "z.jsonl").unlink()
    (folder / "a" / "z.json.gz").write_bytes(gzip.compress(data, mtime=0))
    pq.write_table(pa.table({"text": make_texts(50, seed=4), "n": list(range(50))}), folder / "b" / "p.parquet")
    (folder / "a" / "readme.md").write_text("no source")
    (folder / "a" / ".hidden").mkdir()
    write_jsonl(folder / "a" / ".hidden" / "h.jsonl", ["hidden"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "datasets" / "own" / "er"
    make_files(folder)
    return folder


@pytest.fixture(scope="module")
def stores(files: Path) -> Iterator[SimpleNamespace]:
    """Addresses of the same files at all stores, the environment that finds them, and the hub's state."""
    with s3_server() as environment, gcs_server(files.parent.parent) as gcs, hub_server(files.parents[2]) as hub:
        keys = {key: value for key, value in environment.items() if key != "S3_ENDPOINT_URL"}
        yield SimpleNamespace(
            s3=upload(environment, files, "own/er"),
            gs="gs://own/er",
            hf="hf://datasets/own/er",
            s3_environment=environment,
            hub=hub,
            environment={
                **keys,
                "AWS_ENDPOINT_URL": environment["S3_ENDPOINT_URL"],
                "STORAGE_EMULATOR_HOST": gcs,
                "HF_ENDPOINT": hub.url,
            },
        )


@pytest.fixture(params=STORES)
def at(request: pytest.FixtureRequest, stores: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the files are, store by store."""
    for key, value in stores.environment.items():
        monkeypatch.setenv(key, value)
    return getattr(stores, request.param)


def test_files_folders_and_globs_in_order(at: str, files: Path) -> None:
    def names(*inputs: str) -> list[str]:
        return [name.removeprefix(f"{at}/") for name in find_sources([f"{at}/{text}" for text in inputs])]

    assert names("") == ["a/deep/y.jsonl", "a/z.json.gz", "b/p.parquet", "b/x.jsonl"]
    assert names("b", "a/") == ["b/p.parquet", "b/x.jsonl", "a/deep/y.jsonl", "a/z.json.gz"]
    assert names("b/x.jsonl") == ["b/x.jsonl"]
    assert names("*/*.json*") == ["a/z.json.gz", "b/x.jsonl"]
    assert names("**/*.jsonl") == ["a/deep/y.jsonl", "b/x.jsonl"]
    assert names("?/[xp]*") == ["b/p.parquet", "b/x.jsonl"]
    for text in ("", "b", "*/*.json*", "**/*.jsonl", "?/[xp]*"):  # the order of local files
        local = find_sources([str(files / text)])
        assert names(text) == [Path(name).relative_to(files).as_posix() for name in local]


def test_what_is_not_there_is_told_with_its_url(at: str) -> None:
    for text, wrong in [
        ("nope.jsonl", "no such file"),
        ("a/*.zip", "matches no file"),
        ("a/readme.md", "unknown ending"),
        ("a/readme.*", "unknown ending"),
        ("a/.hidden", None),
    ]:
        if wrong is None:
            assert len(find_sources([f"{at}/{text}"])) == 1  # hidden ones count when they are asked for
            continue
        with pytest.raises(SourceError) as caught:
            find_sources([f"{at}/{text}"])
        assert str(caught.value).startswith(f"{at}/{text.partition('*')[0]}")
        assert wrong in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="given twice"):
        find_sources([f"{at}/b", f"{at}/b/x.jsonl"])
    with pytest.raises(SourceError, match="no such file"):
        stat_source(f"{at}/nope.jsonl")
    with pytest.raises(SourceError, match="no such file"):
        open_source(f"{at}/nope.jsonl")


def test_reading_is_that_of_a_local_file(at: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BLOCK_BYTES", 3000)
    rng = random.Random(7)
    with open_source(f"{at}/b/x.jsonl") as far, (files / "b" / "x.jsonl").open("rb") as near:
        assert far.seekable()
        assert far.read() == near.read()
        assert far.read(1) == b""
        for _ in range(30):
            offset, size = rng.randrange(12_000), rng.randrange(3000)
            for file in (far, near):
                file.seek(offset)
            assert far.read(size) == near.read(size)
            assert far.tell() == near.tell()
        assert far.seek(-5, os.SEEK_END) == near.seek(-5, os.SEEK_END)
        assert far.readline() == near.readline()
    assert far.closed
    with pytest.raises(ValueError, match="closed"):
        far.read(1)


def test_stamps_name_size_and_content(at: str, files: Path) -> None:
    stamps = stat_sources([f"{at}/b/x.jsonl", f"{at}/a/deep/y.jsonl", f"{at}/b/x.jsonl"])
    assert stamps[0] == stamps[2] != stamps[1]
    assert [stamp.bytes for stamp in stamps] == [
        (files / name).stat().st_size for name in ("b/x.jsonl", "a/deep/y.jsonl")
    ] + [stamps[0].bytes]
    assert all(stamp.version for stamp in stamps)


def test_shards_are_those_of_local_files(
    at: str, files: Path, make_conversion: Callable[..., Conversion], tmp_path: Path
) -> None:
    convert(make_conversion(f"{at}/", out=str(tmp_path / "far")), workers=1)
    convert(make_conversion(files, out=str(tmp_path / "near")), workers=1)
    far, near = tree_hashes(tmp_path / "far"), tree_hashes(tmp_path / "near")
    assert {name for name in far if far[name] != near[name]} == {"c4/train/corpus.json", "c4/holdout/corpus.json"}
    assert far.keys() == near.keys()
    for split in ("train", "holdout"):
        ours, theirs = (read_manifest(tmp_path / side / "c4" / split) for side in ("far", "near"))
        assert [source.path for source in ours.sources] == find_sources([f"{at}/"])
        assert [(s.bytes, s.sha256) for s in ours.sources] == [(s.bytes, s.sha256) for s in theirs.sources]
        assert (ours.fingerprint, ours.parameters) == (theirs.fingerprint, theirs.parameters)


def test_a_source_that_has_changed_is_refused(
    stores: SimpleNamespace,
    make_conversion: Callable[..., Conversion],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, value in stores.environment.items():
        monkeypatch.setenv(key, value)
    folder = tmp_path / "changing"
    for number in range(4):
        write_jsonl(folder / f"{number}.jsonl", make_texts(50, seed=number))
    write_jsonl(folder / "3.jsonl", ["x"]).write_text("no JSON\n")
    conversion = make_conversion(upload(stores.s3_environment, folder, "changing"))
    with pytest.raises(RecordError, match=r"s3://corpora/changing/3\.jsonl, line 1"):
        convert(conversion, workers=1)
    before = stat_source("s3://corpora/changing/0.jsonl")
    write_jsonl(folder / "0.jsonl", [*make_texts(49, seed=0), "another text"])
    write_jsonl(folder / "3.jsonl", make_texts(50, seed=3))
    upload(stores.s3_environment, folder, "changing")
    assert stat_source("s3://corpora/changing/0.jsonl") != before, "a stamp must not come from a cache"
    with pytest.raises(MismatchError, match=r"s3://corpora/changing/0\.jsonl has changed"):
        convert(conversion, workers=1)


def test_broken_connections_are_mended_and_lasting_ones_told(
    stores: SimpleNamespace, files: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", stores.hub.url)
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.001)
    monkeypatch.setattr("huggingface_hub.hf_file_system.http_backoff", _once)
    stores.hub.broken = remote.TRIES - 1
    with open_source("hf://datasets/own/er/b/x.jsonl") as file:
        assert file.read() == (files / "b" / "x.jsonl").read_bytes()
    assert stores.hub.broken == 0
    stores.hub.broken = 10**6
    try:
        with (
            open_source("hf://datasets/own/er/b/x.jsonl") as file,
            pytest.raises(
                SourceError, match=r"hf://datasets/own/er/b/x\.jsonl: cannot be reached or read; check the net"
            ),
        ):
            file.read()
        assert stores.hub.broken == 10**6 - remote.TRIES
    finally:
        stores.hub.broken = 0


@pytest.mark.parametrize("name", ["b/p.parquet", "b/x.jsonl", "a/z.json.gz"])
def test_an_outage_is_no_damage_to_be_skipped(
    stores: SimpleNamespace,
    make_conversion: Callable[..., Conversion],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", stores.hub.url)
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.001)
    monkeypatch.setattr("huggingface_hub.hf_file_system.http_backoff", _once)
    conversion = make_conversion(f"hf://datasets/own/er/{name}", on_error="skip")
    choose = task.choose_engine

    def choose_and_break(*arguments: Any) -> Any:  # the sample has been read, the work has not begun
        stores.hub.broken = 10**6
        return choose(*arguments)

    monkeypatch.setattr(task, "choose_engine", choose_and_break)
    try:
        with pytest.raises(SourceError, match=f"hf://datasets/own/er/{name}: cannot be reached or read"):
            convert(conversion, workers=1)
    finally:
        stores.hub.broken = 0
    assert not (tmp_path / "out").exists()


def _once(method: str, url: str, **settings: object) -> object:
    """The hub's client without its own retries, which wait for seconds."""
    from huggingface_hub.utils import get_session

    return get_session().request(method, url, **settings)


@pytest.mark.parametrize(
    ("status", "message"), [(401, "access denied or no credentials; run: hf auth login"), (403, "access denied")]
)
def test_the_hub_refuses(stores: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, status: int, message: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", stores.hub.url)
    stores.hub.status = status
    try:
        with pytest.raises(SourceError, match=r"^hf://datasets/own/er/b/x\.jsonl: ") as caught:
            find_sources(["hf://datasets/own/er/b/x.jsonl"])
        assert message in str(caught.value)
    finally:
        stores.hub.status = None


def test_the_hub_is_streamed_by_range_and_nothing_is_kept(
    stores: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", stores.hub.url)
    monkeypatch.setattr(remote, "BLOCK_BYTES", 1000)
    stores.hub.requests.clear()
    with open_source("hf://datasets/own/er@v1.0/b/x.jsonl") as file:
        file.read(10)
    read = [request for request in stores.hub.requests if "/resolve/" in request]
    assert set(read) == {"GET /datasets/own/er/resolve/v1.0/b/x.jsonl"}
    assert len(read) <= 2, "the block that was asked for, and the one behind it"
    assert find_sources(["hf://datasets/own/er@refs/convert/parquet/b/*.parquet"]) == [
        "hf://datasets/own/er@refs/convert/parquet/b/p.parquet"
    ]


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, stores: SimpleNamespace, tmp_path: Path) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    code = "from shards.sources import find_sources; find_sources(['s3://corpora/own/er'])"
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": stores.environment["AWS_ENDPOINT_URL"],
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "SourceError: s3://corpora/own/er: access denied or no credentials; set AWS_PROFILE" in found.stderr


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(
            SourceError, match=r"^hf://datasets/a/b/c\.jsonl: cannot be reached or read; check the network"
        ):
            find_sources(["hf://datasets/a/b/c.jsonl"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ftp://host/x.jsonl", "ftp://host/x.jsonl: unknown kind of URL; known: s3://, gs://, hf://, and paths"),
        ("s3://key:hush@bucket/x.jsonl", "s3://bucket/x.jsonl: no credentials in a URL; set AWS_PROFILE"),
        ("hf://own/model/x.jsonl", "a source on the hub is hf://datasets/OWNER/NAME/FILES"),
        ("hf://datasets/own", "a source on the hub is hf://datasets/OWNER/NAME/FILES"),
        ("no/such.jsonl", "no/such.jsonl does not exist; check the path"),
    ],
)
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        find_sources([name])
    assert message in str(caught.value)
    assert "hush" not in str(caught.value)


def test_no_message_shows_what_signs_a_url() -> None:
    signed = "https://host/x?X-Amz-Signature=hush&b=1"
    with pytest.raises(SourceError) as caught, as_source_error("hf://datasets/a/b/c.jsonl"):
        raise OSError(f"cannot read '{signed}' now\nsecond line: {signed}")
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "cannot read 'https://host/x' now" in str(caught.value)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(SourceError, match=r"s3:// needs the package s3fs: pip install s3fs"):
        stat_source("s3://bucket/x.jsonl")


def test_memory_is_a_few_blocks(stores: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", stores.hub.url)
    monkeypatch.setattr(remote, "BLOCK_BYTES", 100)
    with open_source("hf://datasets/own/er/b/x.jsonl") as file:
        raw = file.raw  # type: ignore[attr-defined]
        while file.read(64):
            assert len(raw._blocks) <= remote.BLOCKS_KEPT
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("source")]
