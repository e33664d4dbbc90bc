"""The errors of `shards`: one tree, each with the exit code its command ends with.

    ShardsError                 1  the work failed
    ├── StorageError            1  the output could not be written (disk full, no permission)
    ├── WorkerError             1  a worker process died
    └── CallError               2  the call or its input is wrong
        ├── SourceError         2  an input file that is missing, damaged or not in a known form
        ├── RecordError         2  one record that cannot become a document
        ├── TokenizerError      2  no usable tokenizer under that name
        ├── MismatchError       2  the output belongs to another conversion
        └── CorpusError         2  a directory that is no readable corpus

A message is one line: what was asked, what is allowed, what was found, what to do. All of them pickle,
so that a worker's error arrives whole.
"""

from __future__ import annotations

__all__ = [
    "CallError",
    "CorpusError",
    "MismatchError",
    "RecordError",
    "ShardsError",
    "SourceError",
    "StorageError",
    "TokenizerError",
    "WorkerError",
]


class ShardsError(Exception):
    """Base of all errors of this package.

    `path` is the file or folder concerned and `number` the line (JSON lines) or row (Parquet) in it,
    both counted from 1 and None where there is none. `exit_code` is what a command ends with.
    """

    exit_code = 1

    def __init__(self, message: str, *, path: str | None = None, number: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.number = number


class StorageError(ShardsError):
    """The output could not be written."""


class WorkerError(ShardsError):
    """A worker process ended without an answer."""


class CallError(ShardsError):
    """The call or its input is wrong; the same call will fail again."""

    exit_code = 2


class SourceError(CallError):
    """An input file is missing, damaged, empty or not in a known form."""


class RecordError(CallError):
    """A record cannot become a document: not JSON, not UTF-8, or without the fields of the template."""


class TokenizerError(CallError):
    """No usable tokenizer under that name."""


class MismatchError(CallError):
    """The output directory holds the result, finished or not, of another conversion."""


class CorpusError(CallError):
    """A directory is no corpus that this version can read."""
