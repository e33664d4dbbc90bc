"""One number says corpus and shard."""

from pathlib import Path

import pytest

from mixer.storage import open_corpus
from mixer.storage.shelf import Shelf
from tests.mixer.storage.conftest import rows_of, write_corpus


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Corpora of three shards, one, and two that are compressed."""
    folders = [write_corpus(tmp_path / "a", rows_of(25)), write_corpus(tmp_path / "b", rows_of(3))]
    folders.append(write_corpus(tmp_path / "c", rows_of(20), compression="zstd:3"))
    return Shelf([open_corpus(folder) for folder in folders])


def test_shards_are_numbered_through(shelf: Shelf, tmp_path: Path) -> None:
    assert shelf.num_shards == 6
    assert shelf.firsts == [0, 3, 4, 6]
    found = [shelf.find(shard) for shard in range(6)]
    assert [(place, number) for place, _, number in found] == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1)]
    assert all(corpus is shelf.corpora[place] for place, corpus, _ in found)
    assert shelf.path(2) == tmp_path / "a" / "shard.00002.mds"
    assert shelf.path(4) == tmp_path / "c" / "shard.00000.mds"


def test_bytes_are_those_on_disk_while_it_is_made_ready(shelf: Shelf, tmp_path: Path) -> None:
    assert shelf.num_bytes(1) == (tmp_path / "a" / "shard.00001.mds").stat().st_size
    zipped = (tmp_path / "c" / "shard.00000.mds.zstd").stat().st_size
    assert shelf.num_bytes(4) == shelf.corpora[2].shard_bytes[0] + zipped
