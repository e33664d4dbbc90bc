"""Rows of planned samples: a batch is gathered by row arithmetic from mapped shards, without any work per sample.

An *address* is a row's number, counted through all corpora in the order given. Shards are mapped when a batch first
needs them, verified by then (`mixer.storage`), and let go when they have been removed from the cache. NumPy only.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.errors import CorpusError, ShardError
from mixer.storage import StoredCorpus, open_corpus
from mixer.storage.cache import Cache
from mixer.storage.integrity import Identity
from mixer.storage.mapping import Mapping

__all__ = ["RowReader", "open_corpus"]

MAX_MAPPED_SHARDS = 16_384  # a mapping costs address space, not memory; the system allows some 65,000 a process
CHECK_EVERY_S = 1.0
UNMAPPED = np.iinfo(np.int64).min

_I64 = NDArray[np.int64]


class RowReader:
    """Gathers rows of several corpora. `cache` makes their shards ready (default: one without a limit).

    A row is the `row_size` integers of a corpus: `seq_len` tokens, after two counts where rows are examples. Raises
    CorpusError if one has rows that are not of one size. Corpora may differ in it (`seq_len` and `row_size` are the
    largest), the rows of one batch may not. Corpora of different integer widths are read into the wider. Not for
    several threads at once; every process may have its own.
    """

    def __init__(self, corpora: Sequence[StoredCorpus], cache: Cache | None = None) -> None:
        self.corpora = tuple(corpora)
        self.cache = cache or Cache(self.corpora)
        if len({corpus.has_examples for corpus in corpora}) != 1:
            found = ", ".join(f"{corpus.path}: {'examples' if corpus.has_examples else 'packed'}" for corpus in corpora)
            raise CorpusError(f"corpora of one run are all packed or all examples, a row each, found {found}", path="")
        self.seq_len = max(corpus.seq_len for corpus in corpora)
        self.row_size = max(corpus.row_size for corpus in corpora)
        self.dtype = max((corpus.dtype for corpus in corpora), key=lambda dtype: dtype.itemsize)
        self._sizes = np.array([corpus.row_size for corpus in corpora])
        self._has_one_size = len(set(self._sizes.tolist())) == 1
        self._is_uniform = self._has_one_size and len({corpus.dtype for corpus in corpora}) == 1
        row_bytes = [corpus.row_size * corpus.dtype.itemsize for corpus in corpora]
        self._row_bytes = np.repeat(row_bytes, [len(corpus.shard_sizes) for corpus in corpora])
        self.bases, self.corpus_of = self.cache.shelf.bases, self.cache.shelf.corpus_of
        self._begin()

    def read(self, addresses: Sequence[int] | _I64, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Rows at `addresses` [n], in their order: `out`, or a new array, [n, their row_size] of `dtype`.

        Raises IndexError for an address outside, CorpusError for rows of different lengths, and what `Cache.open`
        raises for the shards it needs.
        """
        wanted = np.asarray(addresses, np.int64)
        if not len(wanted):
            return np.empty((0, self.row_size), self.dtype) if out is None else out
        shards = self.cache.shelf.locate(wanted)
        origins = self._origins[shards]
        if origins.min() == UNMAPPED or time.monotonic() >= self._next_check:
            self._map(np.unique(shards))
            origins = self._origins[shards]
        rows = self._gather(origins, wanted, shards)
        if out is None:
            return rows
        out[...] = rows
        return out

    def size_of(self, addresses: _I64) -> int:
        """Integers of each of the rows at `addresses` [n]. Raises CorpusError where they differ."""
        if self._has_one_size or not len(addresses):
            return self.row_size
        corpora = np.unique(self.corpus_of(addresses))
        sizes = self._sizes[corpora]
        if len(set(sizes.tolist())) != 1:
            found = ", ".join(f"{self.corpora[corpus].path}: {self._sizes[corpus]}" for corpus in corpora.tolist())
            raise CorpusError(f"corpora that are read in one step have rows of one length, found {found}", path="")
        return int(sizes[0])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_mapped", "_memory")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        """Nothing is mapped yet."""
        self._mapped: dict[int, Mapping] = {}
        # where in this process's memory the row with the address 0 would lie, were all like those of the shard
        self._origins = np.full(len(self._row_bytes), UNMAPPED)
        self._memory: dict[int, tuple[int, NDArray[Any]]] = {}
        self._next_check = time.monotonic() + CHECK_EVERY_S

    def _gather(self, origins: _I64, addresses: _I64, shards: _I64) -> NDArray[Any]:
        """The rows at `addresses` [n], which lie in `shards` [n]."""
        if self._is_uniform:
            start, memory = self._memory[self.row_size * self.dtype.itemsize]
            places = addresses * (self.row_size * self.dtype.itemsize) + (origins - start)
            found: NDArray[Any] = memory[places].view(self.dtype).reshape(len(places), self.row_size)
            return found
        size = self.size_of(addresses)
        rows = np.empty((len(addresses), size), self.dtype)
        for corpus, dtype in enumerate(corpus.dtype for corpus in self.corpora):
            alike = np.flatnonzero(self.corpus_of(addresses) == corpus)
            if len(alike):
                start, memory = self._memory[size * dtype.itemsize]
                places = addresses[alike] * (size * dtype.itemsize) + (origins[alike] - start)
                rows[alike] = memory[places].view(dtype).reshape(len(alike), size)
        return rows

    def _map(self, shards: _I64) -> None:
        """Map these shards, and let go of those that were removed; once in a while, look whether any was changed."""
        if time.monotonic() >= self._next_check:
            self._check()
        missing = shards[self._origins[shards] == UNMAPPED].tolist()
        excess = len(self._mapped) + len(missing) - MAX_MAPPED_SHARDS
        if excess > 0:
            needed = set(shards.tolist())
            for shard in [shard for shard in self._mapped if shard not in needed][:excess]:  # the oldest first
                self._let_go(shard)
        try:
            for shard in missing:
                self._mapped[shard] = self.cache.open(shard)
                self._origins[shard] = (
                    self._mapped[shard].first_row - self.cache.shelf.starts[shard] * self._row_bytes[shard]
                )
        finally:  # one that fails does not end the reading of others
            self._memory = {row_bytes: self._view(row_bytes) for row_bytes in np.unique(self._row_bytes).tolist()}

    def _view(self, row_bytes: int) -> tuple[int, NDArray[Any]]:
        """All memory from the first mapped row to the last as one array, of whose items one begins at every byte.

        So one indexing copies rows from wherever they lie. Only places of rows that are mapped are ever asked for.
        """
        mappings = [m for shard, m in self._mapped.items() if self._row_bytes[shard] == row_bytes]
        start = min((mapping.first_row for mapping in mappings), default=0)
        end = max((m.data.ctypes.data + len(m.data) for m in mappings), default=0)
        memory = np.asarray(_Memory(start, max(end - start - row_bytes + 1, 0), row_bytes)) if mappings else np.empty(0)
        return start, memory

    def _check(self) -> None:
        """Let go of what was removed or replaced. Raises ShardError where a file was written to while it was in use."""
        for shard, mapping in list(self._mapped.items()):
            path = self.cache.shelf.path(shard)
            try:
                found = Identity.of(path.stat())
            except OSError:
                self._let_go(shard)
                continue
            if found.inode != mapping.identity.inode:
                self._let_go(shard)
            elif found != mapping.identity:
                raise ShardError(
                    f"shard {path} was changed while it was in use: batches of the last {CHECK_EVERY_S:g} s may hold "
                    "wrong samples; go on from the last checkpoint",
                    path=str(path),
                )
        self._next_check = time.monotonic() + CHECK_EVERY_S

    def _let_go(self, shard: int) -> None:
        self._origins[shard] = UNMAPPED
        del self._mapped[shard]


class _Memory:
    """`num_places` overlapping items of `item_bytes` from the address `start` on, for NumPy."""

    def __init__(self, start: int, num_places: int, item_bytes: int) -> None:
        self.__array_interface__ = {
            "shape": (num_places,),
            "typestr": f"|V{item_bytes}",
            "data": (start, True),
            "strides": (1,),
            "version": 3,
        }
