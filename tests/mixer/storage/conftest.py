"""Small corpora in which every row says which it is, and remote folders behind a link that can fail (`servers`)."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mds import write_manifest, write_shards
from tests.mixer.storage.servers import S3, serve_s3

SEQ_LEN, ROWS_A_SHARD = 128, 10


def rows_of(num_rows: int, *, first: int = 0, dtype: str = "uint16") -> np.ndarray:
    """Row i is [first + i, first + i + 1, …]."""
    return (np.arange(num_rows)[:, None] + np.arange(SEQ_LEN) + first).astype(dtype)


def write_corpus(folder: Path, rows: np.ndarray, *, manifest: bool = False, **options: Any) -> Path:
    """A folder of shards of ten rows each."""
    write_shards(folder, rows, rows_a_shard=ROWS_A_SHARD, **options)
    if manifest:
        write_manifest(folder)
    return folder


@pytest.fixture(scope="session")
def served() -> Iterator[S3]:
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with serve_s3() as s3:
            yield s3


@pytest.fixture
def s3(served: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """An S3 bucket behind a link, where streaming's downloader finds it; what fails is tried again at once."""
    served.link.open()
    monkeypatch.setenv("S3_ENDPOINT_URL", served.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # of boto3 itself, whose waits are long
    monkeypatch.setattr("mixer.storage.remote.FIRST_WAIT_S", 0.001)
    return served


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts what `mount` is told, at a new folder; skips where this process may not."""
    with contextlib.ExitStack() as mounts:

        def mount(*options: str, at: str = "mounted") -> Path:
            folder = tmp_path / at
            folder.mkdir(exist_ok=True)
            done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"may not mount: {done.stderr.strip()}")
            mounts.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return folder

        yield mount
