"""Reading a remote file as if it were here: blocks fetched ahead, a few of them in memory, broken connections mended.

Memory of one open file is at most `BLOCKS_KEPT` + 1 blocks of `BLOCK_BYTES`, whatever its size. While a file is read
from front to back the next block is on its way already. A fetch that fails is tried again, `TRIES` times in all and
with longer and longer waits, unless asking again cannot help.
"""

from __future__ import annotations

import io
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from shards.sources.storage import as_source_error, is_final

__all__ = ["BLOCKS_KEPT", "BLOCK_BYTES", "TRIES", "open_remote"]

BLOCK_BYTES = 4 << 20
BLOCKS_KEPT = 3
TRIES = 5
FIRST_WAIT = 0.5  # seconds; doubled after each try


def open_remote(files: Any, name: str) -> BinaryIO:
    """The file `name` of the fsspec file system `files`: buffered, seekable, to be closed. Raises SourceError."""
    return cast(BinaryIO, io.BufferedReader(_RemoteFile(files, name), 1 << 18))


class _RemoteFile(io.RawIOBase):
    def __init__(self, files: Any, name: str) -> None:
        super().__init__()
        self._files, self._name = files, name
        self._handle: Any = None
        self._position = 0
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()
        # One thread does all fetching: a handle of fsspec is not for two at a time.
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="source")
        try:
            self._size = self._fetcher.submit(self._open).result()
        except BaseException:
            self._fetcher.shutdown()
            raise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence], 0)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        if self._position >= self._size:
            return 0
        number, start = divmod(self._position, BLOCK_BYTES)
        view = memoryview(buffer).cast("B")
        piece = memoryview(self._block(number))[start : start + len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._fetcher.shutdown(cancel_futures=True)
            self._blocks.clear()
            self._handle = None
        super().close()

    def _block(self, number: int) -> bytes:
        forward = number == 0 or number - 1 in self._blocks
        block = self._request(number)
        if forward and (number + 1) * BLOCK_BYTES < self._size:
            self._request(number + 1)
            self._blocks.move_to_end(number)
        return block.result()

    def _request(self, number: int) -> Future[bytes]:
        if number not in self._blocks:
            self._blocks[number] = self._fetcher.submit(self._fetch, number)
            while len(self._blocks) > BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _open(self) -> int:
        with as_source_error(self._name):
            self._handle = self._files.open(self._name, "rb", cache_type="none", block_size=BLOCK_BYTES)
            return int(self._handle.size)

    def _fetch(self, number: int) -> bytes:
        start = number * BLOCK_BYTES
        length = min(BLOCK_BYTES, self._size - start)
        with as_source_error(self._name):
            for attempt in range(1, TRIES + 1):
                try:
                    return self._read(start, length)
                except Exception as error:  # clients raise errors of a dozen libraries
                    if attempt == TRIES or is_final(error):
                        raise
                    time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        raise AssertionError("the last try returns or raises")

    def _read(self, start: int, length: int) -> bytes:
        self._handle.seek(start)
        data = bytes(self._handle.read(length))
        if len(data) != length:
            raise OSError(f"{len(data)} bytes came of {length} at byte {start}")
        return data
