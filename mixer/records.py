"""Records of any form from MDS shards: raw documents, token lists of different lengths, several columns.

The clear and slower path beside `mixer.reader`, which reads rows of one size without any work per sample. Here each
record is decoded by itself, by mosaicml-streaming's own decoders (imported on first use). Addresses, verification,
fetching and the limit of the cache are the same. Encodings that can run code when they are read are refused.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.errors import CorpusError, ShardError
from mixer.storage import StoredCorpus
from mixer.storage.cache import Cache
from mixer.storage.mapping import AGAIN

UNSAFE = {"pkl"}
MAX_OPEN_SHARDS = 256

_I64 = NDArray[np.int64]


class RecordReader:
    """Reads records of several corpora, by addresses as `mixer.reader.RowReader` has them.

    `bases` [num_corpora] is the address of the first of each. Raises CorpusError for a column that is not safe to read.
    """

    def __init__(self, corpora: Sequence[StoredCorpus], cache: Cache | None = None) -> None:
        self.corpora = tuple(corpora)
        for corpus in corpora:
            if unsafe := [name for name, encoding in corpus.columns.items() if encoding.partition(":")[0] in UNSAFE]:
                raise CorpusError(
                    f"{corpus.path}: the column '{unsafe[0]}' is pickled, and to read it could run any code: "
                    "convert it to str, bytes, json or ndarray",
                    path=str(corpus.path),
                )
        self.cache = cache or Cache(self.corpora)
        self.bases, self.corpus_of = self.cache.shelf.bases, self.cache.shelf.corpus_of
        self._begin()

    def read(self, addresses: Sequence[int] | _I64) -> list[dict[str, Any]]:
        """The records at `addresses` [n], in their order, each by column name. Raises as `RowReader.read` does."""
        wanted = np.asarray(addresses, np.int64)
        shards = self.cache.shelf.locate(wanted)
        records = wanted - self.cache.shelf.starts[shards]
        return [self._shard(shard)(record) for shard, record in zip(shards.tolist(), records.tolist(), strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_shard"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._shard = lru_cache(maxsize=MAX_OPEN_SHARDS)(self._open)

    def _open(self, shard: int) -> Callable[[int], dict[str, Any]]:
        """A function from the number of a record in the shard to the record."""
        _, corpus, number = self.cache.shelf.find(shard)
        path, samples = self.cache.path(shard), int(corpus.shard_sizes[number])
        data = np.memmap(path, np.uint8, "r")
        offsets = data[4 : 4 * (samples + 2)].view("<u4").astype(np.int64)
        first = int(data[:4].view("<u4")[0]) if len(data) >= 4 else -1
        if first != samples or len(offsets) != samples + 1 or offsets[-1] != len(data) or (np.diff(offsets) < 0).any():
            raise ShardError(f"shard {path} does not hold {samples} records: corrupt; {AGAIN}", path=str(path))
        decode = _decoder(corpus.columns)
        return lambda record: decode(data[offsets[record] : offsets[record + 1]].tobytes())


def pad(rows: Sequence[NDArray[Any]], filler: int = 0) -> tuple[NDArray[Any], _I64]:
    """Rows of different lengths as one array [n, longest], filled up with `filler`; and their lengths [n]."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.full((len(rows), int(lengths.max(initial=0))), filler, rows[0].dtype if rows else np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded, lengths


def _decoder(columns: Mapping[str, str]) -> Callable[[bytes], dict[str, Any]]:
    """A record is: the uint32 size of each column that has none of its own, then the columns."""
    from streaming.base.format.mds.encodings import get_mds_encoded_size, mds_decode

    fixed = {name: get_mds_encoded_size(encoding) for name, encoding in columns.items()}

    def decode(data: bytes) -> dict[str, Any]:
        num_sizes = sum(not size for size in fixed.values())
        given = iter(np.frombuffer(data, "<u4", num_sizes).tolist())
        start, record = 4 * num_sizes, {}
        for name, encoding in columns.items():
            end = start + (fixed[name] or next(given))
            record[name] = mds_decode(encoding, data[start:end])
            start = end
        return record

    return decode
