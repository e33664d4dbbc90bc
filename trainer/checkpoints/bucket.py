"""Checkpoints in S3 or what speaks its protocol, by boto3, with its environment variables; `S3_ENDPOINT_URL` too.

An object appears whole or not at all, also one that goes up in parts; so it is its own commit mark. A checkpoint of
several files is there when its `complete.json` is, which goes up last. What fails for a while is tried again by
boto3 (`AWS_MAX_ATTEMPTS` times, with growing waits) and then raised as StorageError. No torch.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.checkpoints.files import MARK, read_mark, sha256
from trainer.checkpoints.names import Name
from trainer.errors import CheckpointError

log = logging.getLogger(__name__)

ATTEMPTS = 5
FINAL = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "NoSuchKey", "404", "403"}


class StorageError(CheckpointError):
    """`is_final`: to try again is no use (no permission, no such bucket)."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        self.is_final = is_final
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (str(self), self.is_final)


def _restored(message: str, is_final: bool) -> StorageError:
    return StorageError(message, is_final=is_final)


class Bucket:
    """What lies below `address` (s3://bucket/prefix); one of these may be used by several threads."""

    def __init__(self, address: str) -> None:
        import boto3
        from botocore.config import Config

        self.address = address
        self._bucket, _, prefix = address.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=os.environ.get("S3_ENDPOINT_URL"),
            config=Config(
                retries={"mode": "standard", "total_max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS", ATTEMPTS))},
                connect_timeout=10,
                read_timeout=60,
                request_checksum_calculation="when_required",  # what is not Amazon's does not know the newer ones
                response_checksum_validation="when_required",
            ),
        )

    def names(self) -> list[Name]:
        """The complete checkpoints, oldest first."""
        keys = self._keys("step-")
        found = [Name.parse(key.removesuffix(f"/{MARK}")) for key in keys if "/" not in key or key.endswith(f"/{MARK}")]
        return sorted(name for name in found if name)

    def upload(self, path: Path, name: str) -> None:
        """Put the file there, with its SHA-256 beside it."""
        with self._errors(f"write {self.address}/{name}"):
            extra = {"Metadata": {"sha256": sha256(path)}}
            self._client.upload_file(str(path), self._bucket, self._prefix + name, ExtraArgs=extra)

    def download(self, name: str, target: Path) -> None:
        """Write the object to `target`; raises StorageError where it is not what was put there."""
        key = self._prefix + name
        with self._errors(f"read {self.address}/{name}"):
            head = self._client.head_object(Bucket=self._bucket, Key=key)
            self._client.download_file(self._bucket, key, str(target))
        told, found = head["Metadata"].get("sha256"), sha256(target)
        if told and told != found:
            target.unlink()
            raise StorageError(f"{self.address}/{name} is damaged: SHA-256 {found} instead of {told}", is_final=True)

    def fetch(self, name: Name, folder: Path) -> Path:
        """Bring a whole checkpoint into `folder`; returns where it is."""
        target = folder / str(name)
        if not name.is_sharded:
            self.download(str(name), target)
            return target
        target.mkdir()
        self.download(f"{name}/{MARK}", target / MARK)
        for part in read_mark(target)["parts"]:
            if Path(part).name != part:
                raise StorageError(f"{self.address}/{name} names a part {part!r}, which is no file", is_final=True)
            self.download(f"{name}/{part}", target / part)
        return target

    def remove(self, name: Name) -> None:
        """Remove a checkpoint, its commit mark first."""
        keys = self._keys(f"{name}/") if name.is_sharded else [str(name)]
        for key in sorted(keys, key=lambda key: not key.endswith(MARK)):
            with self._errors(f"remove {self.address}/{key}"):
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def _keys(self, start: str) -> list[str]:
        """Names below the address that begin so."""
        with self._errors(f"list {self.address}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + start
            )
            return [item["Key"].removeprefix(self._prefix) for page in pages for item in page.get("Contents", ())]

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            cause = error.__context__ if isinstance(error, Boto3Error) and error.__context__ else error
            code = cause.response["Error"].get("Code") if isinstance(cause, ClientError) else None
            is_final = code in FINAL or isinstance(cause, NoCredentialsError)
            raise StorageError(f"cannot {doing}: {cause}", is_final=is_final) from error
