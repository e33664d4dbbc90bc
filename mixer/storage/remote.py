"""One file from a remote folder: S3, GCS, Azure, OCI, SFTP, Hugging Face, DBFS, Alipan, or another local folder.

The downloading itself is mosaicml-streaming's, with its schemes and its environment variables for credentials and
endpoints. It is imported on first use, since it brings torch with it. What fails for a while (a connection, a busy
server) is tried again, each time after a longer wait; what cannot succeed (no such file, no permission, an unknown
scheme, a missing library) fails at once.
"""

import contextlib
import errno
import logging
import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mixer.errors import FetchError

FETCHING = ".fetch"  # where files are fetched to, each in a folder of its own, before they are moved to their place
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 30.0

GONE = {"404", "NoSuchKey", "NoSuchBucket"}
REFUSED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
FULL = {errno.ENOSPC, errno.EDQUOT}
DISK = {*FULL, errno.EROFS}
_log = logging.getLogger(__name__)
_free: dict[tuple[int, str], list[Any]] = {}  # by process and folder, the downloaders that nobody uses now


class Remote:
    """A remote folder. `attempts` to get a file; each waits `timeout_s` for the other side."""

    def __init__(self, url: str, *, attempts: int = 6, timeout_s: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._attempts, self._timeout_s = attempts, timeout_s

    def fetch(self, name: str, target: Path) -> None:
        """Write the file `name` of the folder to `target`, whose folder must exist and be for this alone.

        Raises FetchError, with the cause in its text and `.missing` where there is no such file; OSError where
        `target` cannot be written. Whatever fails, its folder is empty afterwards.
        """
        source = f"{self.url}/{name}"
        for attempt in range(self._attempts):
            try:
                _clean(target.parent)  # a downloader takes what is there for its result
                with _downloader(self.url) as downloader:
                    downloader.download(source, str(target), self._timeout_s)
                return
            except Exception as raised:  # what a backend raises is its own
                error = _cause(raised)
                _clean(target.parent)
                if _is_ours(error, target):
                    raise
                if _is_final(error) or attempt + 1 == self._attempts:
                    tries = f" after {attempt + 1} attempts" if attempt else ""
                    raise FetchError(
                        f"cannot fetch {source}{tries}: {' '.join(str(error).split()) or type(error).__name__}",
                        path=source,
                        missing=_is_missing(error),
                    ) from error
                wait = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
                _log.warning("%s: %s; trying again in %.1f s", source, error or type(error).__name__, wait)
                time.sleep(wait)


def make_empty(folder: Path) -> None:
    """Make the folder, without what was in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@contextmanager
def _downloader(url: str) -> Iterator[Any]:
    """A downloader for the folder at `url`, for one thread of this process: their clients are not made for more.

    It is kept for whoever comes next, since a client is dear to make; but not after a failure, which it may be part of.
    """
    free = _free.setdefault((os.getpid(), url), [])
    try:
        downloader = free.pop()
    except IndexError:
        from streaming.base.storage.download import CloudDownloader

        downloader = CloudDownloader.get(url)
    yield downloader
    free.append(downloader)


def _cause(error: Exception) -> Exception:
    """The hub's client says of whatever went wrong that the file is not in its cache, and names that as the cause."""
    hidden = type(error).__name__ == "LocalEntryNotFoundError" and isinstance(error.__cause__, Exception)
    return error.__cause__ if hidden else error  # type: ignore[return-value]


def _is_missing(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or type(error).__name__ == "EntryNotFoundError" or _code(error) in GONE


def _is_final(error: Exception) -> bool:
    hopeless = isinstance(error, ImportError | ValueError | PermissionError)
    return hopeless or _is_missing(error) or _code(error) in REFUSED or "Credentials" in type(error).__name__


def _code(error: Exception) -> str:
    """The code of a boto3 error, or the status of an HTTP error."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    return str(getattr(response, "status_code", ""))


def _is_ours(error: Exception, target: Path) -> bool:
    """Whether it is this machine's disk that failed, not the other side."""
    if not isinstance(error, OSError) or error.errno is None:
        return False
    named = [str(name) for name in (error.filename, error.filename2) if name]
    return error.errno in DISK or any(name.startswith(str(target.parent)) for name in named)


def _clean(folder: Path) -> None:
    """Remove what a downloader has left of a file: some write beside it first."""
    for left in folder.iterdir():
        with contextlib.suppress(OSError):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
