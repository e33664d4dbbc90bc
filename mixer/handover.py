"""Handing rows from a loader's workers to the process that trains, through memory that both see.

The main process makes a few buffers before its workers are forked, and lends one with each request. The worker writes
the rows there; what travels back is the buffer's number. When nobody in the main process holds the rows any more, the
buffer is lent again: no copy, no new memory for each batch, and nothing that has a name or outlives its processes
(torch hands tensors over by named segments, of which a kill leaves some behind). Where there is no buffer (all are
lent, the batch is larger, or the worker was not forked), the rows travel through the pipe. What an iteration that was
broken off had lent is not lent again.
"""

import itertools
import math
import mmap
import weakref
from collections import deque
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

_numbers = itertools.count()
_made: "weakref.WeakValueDictionary[int, Buffers]" = weakref.WeakValueDictionary()


class Request(NamedTuple):
    """What a worker is asked for: rows at `addresses` [n], to be written into the buffer of this number, if any."""

    addresses: NDArray[np.int64]
    buffer: int | None


class Buffers:
    """`num_buffers` of `num_bytes` each. `lend` and `give_back` are for the main process, `rows` for all."""

    def __init__(self, num_buffers: int, num_bytes: int) -> None:
        self.number = next(_numbers)
        self._num_bytes = num_bytes
        self._memory = mmap.mmap(-1, num_buffers * num_bytes)  # shared with the processes that are forked from here
        self._free = deque(range(num_buffers))
        _made[self.number] = self

    def lend(self) -> int | None:
        """The number of a buffer that nobody uses, None if there is none."""
        try:
            return self._free.popleft()
        except IndexError:
            return None

    def give_back(self, buffer: int) -> None:
        self._free.append(buffer)

    def rows(self, buffer: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """The buffer as an array; None where it is too small."""
        if math.prod(shape) * dtype.itemsize > self._num_bytes:
            return None
        return np.ndarray(shape, dtype, self._memory, offset=buffer * self._num_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()  # a process that was not forked does not see the memory


class Written:
    """Rows in a buffer, as a worker sends them: in the main process they are a tensor."""

    def __init__(self, buffers: Buffers, buffer: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self._facts = buffers.number, buffer, shape, dtype.str

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, self._facts


class Sent:
    """Rows that travel themselves: in the main process they are a tensor."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self._rows = rows

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.from_numpy, (self._rows,)


def _receive(number: int, buffer: int, shape: tuple[int, int], dtype: str) -> torch.Tensor:
    """The rows in a buffer, which is lent again when the tensor and all its views are gone."""
    buffers = _made[number]
    rows = buffers.rows(buffer, shape, np.dtype(dtype))
    assert rows is not None
    weakref.finalize(rows, buffers.give_back, buffer)
    return torch.from_numpy(rows)


def _nothing() -> None:
    return None
