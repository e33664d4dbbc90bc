"""Small MDS corpora made on the spot, in which every row says which corpus and sample it is.

The tokens of sample i of the n-th corpus lie in [64n, 64n + 64): position 0 and 1 hold i in base 64, the rest counts
upwards from a random start, so a tiny model learns it within tens of steps, and a batch can be checked by eye.
"""

from pathlib import Path

import numpy as np
from streaming import MDSWriter

SEQ_LEN = 32
NAMES = ("c4", "code", "math")


def write_corpus(
    folder: Path, *, name: str, num_samples: int, rows_a_shard: int = 40, seed: int = 0, seq_len: int = SEQ_LEN
) -> np.ndarray:
    """Write `folder`, an MDS directory of `num_samples` rows; returns the rows [num_samples, seq_len] uint16."""
    rows = make_rows(name, num_samples=num_samples, seed=seed, seq_len=seq_len)
    columns = {"tokens": f"ndarray:uint16:{seq_len}"}
    size_limit = rows_a_shard * (seq_len * 2 + 4) + 4096 if rows_a_shard else None
    with MDSWriter(out=str(folder), columns=columns, size_limit=size_limit, hashes=["sha1"]) as writer:
        for row in rows:
            writer.write({"tokens": row})
    return rows


def make_rows(name: str, *, num_samples: int, seed: int, seq_len: int = SEQ_LEN) -> np.ndarray:
    base = 64 * NAMES.index(name)
    generator = np.random.default_rng(seed)
    ids = np.arange(num_samples)
    start = generator.integers(0, 64, num_samples)
    rows = (start[:, None] + np.arange(seq_len)) % 64
    rows[:, 0], rows[:, 1] = ids // 64, ids % 64
    return (base + rows).astype(np.uint16)
