"""Real MDS corpora, written by streaming's own writer, in which every row says which corpus and sample it is.

And a real service with one run, "live" (see `tests.mixer.served`).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.mixer.served import id_of, make_history, make_run

SEQ_LEN = 16
SIZES = {"c4": 500, "code": 90, "math": 37}


def rows_of(name: str) -> np.ndarray:
    """Row i of a corpus is [its number in the alphabet, i, i + 1, …]."""
    rows = np.arange(SIZES[name])[:, None] + np.arange(SEQ_LEN)
    rows[:, 0] = sorted(SIZES).index(name)
    return rows.astype(np.uint16)


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name → MDS directory of several shards, the last one shorter."""
    from streaming import MDSWriter

    folder = tmp_path_factory.mktemp("corpora")
    for name in SIZES:
        columns = {"tokens": f"ndarray:uint16:{SEQ_LEN}"}
        with MDSWriter(out=str(folder / name), columns=columns, size_limit=1500, hashes=["sha1"]) as writer:
            for row in rows_of(name):
                writer.write({"tokens": row})
    return {name: folder / name for name in SIZES}


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "runs.db"


@pytest.fixture(scope="session")
def server(database: Path) -> Iterator[str]:
    """The address of the service."""
    from service.settings import Settings
    from tests.service.processes import serve_in_thread

    with serve_in_thread(Settings(database=database)) as url:
        make_run(url, "live")
        make_history(url, "live")
        yield url


@pytest.fixture
def ledger(server: str, database: Path, tmp_path: Path) -> Path:
    """Its run as `switchpoint-service export` writes it."""
    from service.cli import main

    path = tmp_path / "ledger.jsonl"
    assert main(["export", "--db", str(database), id_of(server, "live"), "-o", str(path)]) == 0
    return path
