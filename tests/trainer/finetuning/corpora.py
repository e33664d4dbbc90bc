"""Small corpora of examples made on the spot: questions of one pattern, answers that follow from them."""

from pathlib import Path

import numpy as np
from streaming import MDSWriter

SEQ_LEN = 32
VOCAB_SIZE = 256


def make_rows(num_samples: int, *, seed: int = 0) -> np.ndarray:
    """Rows [num_samples, 2 + SEQ_LEN] uint16 of very different lengths; the last fills its row and is all prompt."""
    generator = np.random.default_rng(seed)
    rows = np.zeros((num_samples, 2 + SEQ_LEN), np.uint16)
    for row in rows:
        num_prompt, num_output = generator.integers(1, 9), generator.integers(1, SEQ_LEN - 10)
        start = generator.integers(1, 100)
        row[0], row[1] = num_prompt, num_prompt + num_output + 1
        row[2 : 2 + row[1] - 1] = (start + np.arange(row[1] - 1)) % 200 + 1  # end-of-text is 0, as what fills it up
    rows[-1, :2] = SEQ_LEN
    rows[-1, 2:] = 7
    return rows


def write_examples(folder: Path, *, num_samples: int, seed: int = 0) -> np.ndarray:
    """Write `folder`, an MDS directory of examples without a manifest; returns its rows."""
    rows = make_rows(num_samples, seed=seed)
    columns = {"num_prompt_tokens": "uint16", "num_tokens": "uint16", "tokens": f"ndarray:uint16:{SEQ_LEN}"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=2048, hashes=["sha1"]) as writer:
        for row in rows:
            writer.write({"num_prompt_tokens": row[0], "num_tokens": row[1], "tokens": row[2:]})
    return rows
