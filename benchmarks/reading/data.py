"""The rows that every system reads: random token ids."""

import hashlib
from pathlib import Path

import numpy as np
from systems import DTYPE, SEED, SEQ_LEN, VOCABULARY, Source

WEIGHTS = (0.5, 0.2, 0.1, 0.1, 0.05, 0.05)
SHARDS = (12, 5, 2, 2, 2, 1)


def write_tokens(source: Source) -> None:
    """`tokens.u2`: every row differs from every other, but for chance that does not happen."""
    random = np.random.default_rng(SEED)
    with (Path(source.folder) / "tokens.u2").open("wb") as file:
        for _ in range(sum(source.shards)):
            rows = random.integers(VOCABULARY, size=(source.shard_rows, SEQ_LEN), dtype=np.uint16)
            file.write(rows.astype(DTYPE).data)


def hashes(rows: np.ndarray) -> list[bytes]:
    """A short hash of each row."""
    return [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
