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
import threading
import time
from pathlib import Path
from typing import Any

from mixer.errors import FetchError

FETCHING = ".fetch"  # where files are fetched to, each in a folder of its own, before they are moved to their place
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 30.0

GONE = {"404", "NoSuchKey", "NoSuchBucket"}
REFUSED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_log = logging.getLogger(__name__)
_mine = threading.local()


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
                _downloader(self.url).download(source, str(target), self._timeout_s)
                return
            except Exception as error:  # what a backend raises is its own
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


def _downloader(url: str) -> Any:
    """This thread's downloader for the scheme of `url`: their clients are not made for threads or forks."""
    kept: dict[tuple[int, str], Any] = _mine.__dict__.setdefault("downloaders", {})
    key = os.getpid(), url.partition("://")[0]
    if key not in kept:
        from streaming.base.storage.download import CloudDownloader

        kept[key] = CloudDownloader.get(url)
    return kept[key]


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
