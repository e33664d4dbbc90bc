"""Where sources lie: files of this machine and of object stores and the hub, by one small face.

A source is a path, or a URL:

    s3://BUCKET/KEY                                   Amazon S3 and what speaks its protocol, by s3fs
    gs://BUCKET/KEY                                   Google Cloud Storage, by gcsfs
    hf://datasets/OWNER/NAME[@REVISION]/FILE          data sets on the hub, by its own client, streamed

Credentials and endpoints are found by those clients, in the places they document (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL or S3_ENDPOINT_URL, STORAGE_EMULATOR_HOST, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN, HF_ENDPOINT,
fsspec's own configuration); nothing of them is kept, shown or put into a manifest. A URL with a user name or a
password in it is refused.

Every failure is one `SourceError` that names the source and what to do. Nothing is imported before a URL is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from shards.errors import SourceError

__all__ = [
    "Stamp",
    "as_source_error",
    "file_system",
    "is_final",
    "is_remote",
    "open_source",
    "stat_source",
    "stat_sources",
]

_STATS_AT_ONCE = 16


@dataclass(frozen=True)
class Stamp:
    """What tells a source from a later state of itself without reading it.

    Attributes:
        bytes: its size.
        version: mtime in nanoseconds of a local file; ETag, generation or hash of a remote one.
    """

    bytes: int
    version: str


class _Store(NamedTuple):
    """A kind of remote storage: who reads it, what to install for it, and where its credentials come from."""

    protocol: str
    package: str
    credentials: str


_STORES = {
    "s3": _Store("s3", "s3fs", "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret, or FSSPEC_S3_ANON=true"),
    "gs": _Store("gs", "gcsfs", "run: gcloud auth application-default login; or set GOOGLE_APPLICATION_CREDENTIALS"),
    "hf": _Store("hf", "huggingface-hub", "run: hf auth login; or set HF_TOKEN; accept the data set's terms there"),
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def is_remote(name: str) -> bool:
    """Whether `name` is a URL, and not a path of this machine."""
    return _SCHEME.match(name) is not None


def stat_source(name: str) -> Stamp:
    """The stamp of the source `name` now, never from a cache. Raises SourceError."""
    if not is_remote(name):
        with as_source_error(name):
            found = Path(name).stat()
        return Stamp(found.st_size, str(found.st_mtime_ns))
    with as_source_error(name):
        files = file_system(name)
        if name.startswith("hf://"):
            return _stat_on_hub(files, name)
        info = files.info(name)
        version = info.get("ETag") or info.get("generation") or info.get("etag") or info.get("LastModified") or ""
        return Stamp(int(info["size"]), str(version).strip('"'))


def stat_sources(names: Sequence[str]) -> list[Stamp]:
    """The stamps of `names`, in order; of remote ones several at once. Raises SourceError."""
    if not any(map(is_remote, names)):
        return [stat_source(name) for name in names]
    with ThreadPoolExecutor(_STATS_AT_ONCE) as pool:
        return list(pool.map(stat_source, names))


def open_source(name: str) -> BinaryIO:
    """The source `name` for reading: seekable, buffered; of a remote one a few blocks are in memory at a time.

    Raises:
        SourceError: it cannot be opened; later, while a remote one is read, that it cannot be read on.
    """
    with as_source_error(name):
        if not is_remote(name):
            return Path(name).open("rb")
        from shards.sources.remote import open_remote

        return open_remote(file_system(name), name)


def file_system(name: str) -> Any:
    """The fsspec file system that reads the URL `name`; it keeps no listings. Raises SourceError."""
    scheme = name.partition("://")[0].lower()
    if scheme not in _STORES:
        known = ", ".join(f"{known}://" for known in _STORES)
        raise SourceError(f"{_shown(name)}: unknown kind of URL; known: {known}, and paths", path=_shown(name))
    if scheme != "hf" and "@" in name.split("/")[2]:
        raise SourceError(f"{_shown(name)}: no credentials in a URL; {_STORES[scheme].credentials}", path=_shown(name))
    if scheme == "hf" and not re.match(r"hf://datasets/[^/@]+/[^/@]+(@[^/]|/|$)", name):
        raise SourceError(
            f"{_shown(name)}: a source on the hub is hf://datasets/OWNER/NAME/FILES or hf://datasets/OWNER/NAME@REVISION/FILES",
            path=name,
        )
    return _make(_STORES[scheme])


def _make(store: _Store) -> Any:
    options: dict[str, Any] = {"use_listings_cache": False}
    try:
        import fsspec

        if store.protocol == "hf":
            from huggingface_hub import HfFileSystem

            # No instance of before: it would remember listings and revisions.
            return HfFileSystem(endpoint=os.environ.get("HF_ENDPOINT"), skip_instance_cache=True)
        if store.protocol == "s3" and "AWS_ENDPOINT_URL" not in os.environ and "S3_ENDPOINT_URL" in os.environ:
            options["endpoint_url"] = os.environ["S3_ENDPOINT_URL"]  # where the trainer looks
        return fsspec.filesystem(store.protocol, **options)
    except ImportError as error:
        raise SourceError(
            f"{store.protocol}:// needs the package {store.package}: pip install {store.package} ({error})"
        ) from None


def _stat_on_hub(files: Any, name: str) -> Stamp:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    where = files.resolve_path(name)
    found = HfApi(endpoint=files.endpoint).get_paths_info(
        where.repo_id, where.path_in_repo, repo_type=where.repo_type, revision=where.revision
    )
    if not found or not isinstance(found[0], RepoFile):
        raise FileNotFoundError(name)
    file = found[0]
    return Stamp(file.size, file.lfs.sha256 if file.lfs else file.blob_id)


@contextmanager
def as_source_error(name: str) -> Iterator[None]:
    """Turn whatever a client raises inside into a `SourceError` that names the source and the remedy."""
    try:
        yield
    except (SourceError, MemoryError):
        raise
    except Exception as error:  # clients raise errors of a dozen libraries
        if not is_remote(name):
            reason = getattr(error, "strerror", None) or error
            raise SourceError(f"cannot read {name}: {reason}", path=name) from error
        shown = _shown(name)
        raise SourceError(f"{shown}: {_explain(error, name)}", path=shown) from None  # its cause may hold keys


def _explain(error: Exception, name: str) -> str:
    store, text = _STORES[name.partition("://")[0].lower()], _without_secrets(error)
    if "FileExpired" in type(error).__name__:
        return "it changed while it was read; run again when it is at rest"
    if _is_missing(error):
        return f"no such file, folder, bucket or data set that these credentials may see; check the name ({text})"
    if _is_denied(error):
        return f"access denied or no credentials; {store.credentials} ({text})"
    return f"cannot be reached or read; check the network and the endpoint, then run again ({text})"


def is_final(error: Exception) -> bool:
    """Whether asking again cannot help: the source is not there, has changed, or is not ours to read."""
    changed = "FileExpired" in type(error).__name__
    return changed or isinstance(error, SourceError) or _is_missing(error) or _is_denied(error)


def _is_missing(error: Exception) -> bool:
    named = "NotFound" in type(error).__name__ or _status(error) == 404
    return not _is_denied(error) and (named or isinstance(error, FileNotFoundError))


def _is_denied(error: Exception) -> bool:
    named = any(word in type(error).__name__ for word in ("Credentials", "GatedRepo"))
    return named or isinstance(error, PermissionError) or _status(error) in (401, 403) or "Forbidden" in str(error)


def _status(error: Exception) -> int | None:
    """The HTTP status of an answer that a client made `error` of."""
    response = getattr(error, "response", None)
    found = getattr(response, "status_code", None) or getattr(error, "code", None)
    return int(str(found)) if str(found).isdigit() else None


def _without_secrets(error: Exception) -> str:
    """The first line of `error` without query strings, where signed URLs carry their keys."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\?[^\s'\")]+", "", lines[0] if lines else type(error).__name__)[:300]


def _shown(name: str) -> str:
    """`name` as it may be shown: without user name, password and query."""
    if not is_remote(name):
        return name
    scheme, _, rest = name.partition("://")
    if scheme.lower() == "hf":
        return name
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?X-')[0]}"
