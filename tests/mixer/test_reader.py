"""Rows from shards that streaming's own writer wrote, and every way in which they can be wrong."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixer import CorpusError, ShardError
from mixer.reader import RowReader, open_corpus
from tests.mixer.conftest import SEQ_LEN, SIZES, rows_of


@pytest.fixture
def copy(corpora: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpora["c4"], tmp_path / "c4"))


def test_an_index_says_what_there_is(corpora: dict[str, Path]) -> None:
    corpus = open_corpus(corpora["c4"])
    assert corpus.num_samples == 500
    assert len(corpus.shard_sizes) > 5
    assert corpus.seq_len == SEQ_LEN
    assert corpus.dtype == np.uint16
    assert len(corpus.fingerprint) == 64


def test_any_rows_in_any_order_with_repeats(corpora: dict[str, Path]) -> None:
    reader = RowReader([open_corpus(corpora[name]) for name in sorted(SIZES)])
    everything = np.concatenate([rows_of(name) for name in sorted(SIZES)])
    addresses = np.random.default_rng(0).integers(0, len(everything), 400)
    assert np.array_equal(reader.read(addresses), everything[addresses])
    assert np.array_equal(reader.read(addresses.tolist()), everything[addresses])
    assert reader.read([]).shape == (0, SEQ_LEN)
    assert [sorted(SIZES)[c] for c in reader.corpus_of([0, 499, 500, 589, 590, 626])] == [
        "c4", "c4", "code", "code", "math", "math",
    ]  # fmt: skip
    for outside in (-1, len(everything)):
        with pytest.raises(IndexError, match="addresses go from 0 to 626"):
            reader.read([outside])


def test_a_reader_reads_on_in_another_process(corpora: dict[str, Path]) -> None:
    reader = RowReader([open_corpus(corpora["math"])])
    reader.read([0])
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read([5]), rows_of("math")[[5]])


def truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-1])


def lengthen(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes() + b"x")


def change_count(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[0] += 1
    shard.write_bytes(data)


def swap_for_another(shard: Path) -> None:
    """Another corpus's shard of just the same number of bytes, but of half as many rows twice as long."""
    data = bytearray(shard.read_bytes())
    data[0:4] = (int.from_bytes(data[0:4], "little") // 2).to_bytes(4, "little")
    shard.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, lengthen, change_count, swap_for_another, Path.unlink])
def test_a_damaged_shard_is_named_and_never_served(copy: Path, damage: Callable[[Path], None]) -> None:
    shard = copy / "shard.00000.mds"
    damage(shard)
    reader = RowReader([open_corpus(copy)])
    with pytest.raises(ShardError, match=r"shard\.00000\.mds.*fetch or convert it again") as caught:
        reader.read([0])
    assert caught.value.path == str(shard)


def edit_index(copy: Path, change: Callable[[dict], None]) -> None:
    index = json.loads((copy / "index.json").read_text())
    change(index)
    (copy / "index.json").write_text(json.dumps(index))


def test_a_folder_without_a_corpus_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"there is no index\.json; make it with 'switchpoint-shards convert'"):
        open_corpus(tmp_path)


def test_a_broken_index_is_named(copy: Path) -> None:
    (copy / "index.json").write_text('{"shards": [')
    with pytest.raises(CorpusError, match="cannot read"):
        open_corpus(copy)
    (copy / "index.json").write_text('{"shards": []}')
    with pytest.raises(CorpusError, match="lists no shards"):
        open_corpus(copy)


def test_other_columns_are_refused(copy: Path) -> None:
    edit_index(copy, lambda index: index["shards"][0].update(column_encodings=["bytes"]))
    with pytest.raises(CorpusError, match="expected shards that all have the same columns, found"):
        open_corpus(copy)
    edit_index(copy, lambda index: [shard.update(column_encodings=["bytes"]) for shard in index["shards"]])
    with pytest.raises(CorpusError, match=r"expected shards with the one column ndarray:uint16.*found tokens: bytes"):
        RowReader([open_corpus(copy)])


def test_a_shard_name_cannot_leave_the_folder(copy: Path) -> None:
    edit_index(copy, lambda index: index["shards"][0]["raw_data"].update(basename="../c4/shard.00000.mds"))
    with pytest.raises(CorpusError, match="is not the name of a shard in this folder"):
        open_corpus(copy)


def test_without_a_manifest_the_index_names_the_content(copy: Path) -> None:
    before = open_corpus(copy).fingerprint
    edit_index(copy, lambda index: index["shards"][0]["raw_data"]["hashes"].update(sha1="0" * 40))
    assert open_corpus(copy).fingerprint != before
