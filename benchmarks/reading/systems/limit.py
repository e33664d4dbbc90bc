"""The limit: NumPy gathers random rows of one array in RAM. No files, no mixture, no order to work out, no tensors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from systems import DTYPE, SEED, SEQ_LEN, Loading, Source

VERSION = f"NumPy {np.__version__}"


def open_loader(source: Source, loading: Loading) -> Iterator[np.ndarray]:
    rows = np.fromfile(Path(source.folder) / "tokens.u2", DTYPE).reshape(-1, SEQ_LEN)
    random = np.random.default_rng(SEED)
    wanted = random.integers(len(rows), size=(1 << 16) // loading.batch * loading.batch).reshape(-1, loading.batch)
    while True:
        for addresses in wanted:
            yield rows[addresses]
