"""Sends checkpoints to a bucket while training goes on, on rank 0.

What is to be sent lies in the spool. A checkpoint that cannot be sent is not the end of the run: it is sent again
together with the next one, which takes its place unless it is one at a switchpoint; only at the end of the run it is an
error. So the spool holds one checkpoint that goes up, one that is being written, and those at switchpoints that wait.
"""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from trainer.checkpoints.bucket import Bucket, StorageError
from trainer.checkpoints.files import complete_checkpoints, remove
from trainer.checkpoints.names import Name, superseded
from trainer.errors import CheckpointError

log = logging.getLogger(__name__)


class Uploads:
    """One at a time, in a thread of its own, oldest first."""

    def __init__(self, bucket: Bucket, *, num_to_keep: int) -> None:
        self._bucket = bucket
        self._num_to_keep = num_to_keep
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._waiting: list[Path] = []
        self._sending: Future[None] | None = None

    def settle(self) -> None:
        """Waits for what is on its way; a failure that may pass is only told of. Raises StorageError for others."""
        error = self._sending.exception() if self._sending else None
        self._sending = None
        if isinstance(error, StorageError) and not error.is_final:
            log.warning("%s; it stays in %s and is sent again with the next", error, self._waiting[0].parent)
        elif error:
            raise error

    def send(self, path: Path) -> None:
        """Send a checkpoint, and what could not be sent before; after `settle`."""
        for other in [other for other in self._waiting if not _name(other).at_switchpoint]:
            self._waiting.remove(other)
            remove(other)
        self._waiting.append(path)
        self._sending = self._pool.submit(self._send_waiting)

    def finish(self) -> None:
        """After `settle`: sends what could not be sent until now; raises CheckpointError with what to do."""
        try:
            self._send_waiting()
        except StorageError as error:
            raise CheckpointError(
                f"{error}; {self._waiting[-1]} is whole: put it there by hand, or go on from it by load_path"
            ) from error

    def _send_waiting(self) -> None:
        while self._waiting:
            path = self._waiting[0]
            self._bucket.upload(path, path.name)
            for name in superseded(self._bucket.names(), self._num_to_keep):
                self._bucket.remove(name)
            self._waiting.pop(0)
            for earlier in complete_checkpoints(path.parent):
                if earlier not in self._waiting and _name(earlier) <= _name(path):
                    remove(earlier)


def _name(path: Path) -> Name:
    name = Name.parse(path.name)
    assert name
    return name
