"""Rows from shards that streaming's own writer wrote, and every way in which they can be wrong."""

import gc
import json
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import CorpusError, ShardError
from mixer import reader as reader_module
from mixer.reader import RowReader, open_corpus
from tests.mds import write_shards
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


def test_a_forked_process_reads_on_where_it_was_mapped(corpora: dict[str, Path]) -> None:
    reader = RowReader([open_corpus(corpora["math"])])
    reader.read([0])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply(reader.read, ([36, 0],)), rows_of("math")[[36, 0]])
    assert np.array_equal(reader.read([20]), rows_of("math")[[20]])


def test_rows_go_where_they_are_wanted(corpora: dict[str, Path]) -> None:
    reader = RowReader([open_corpus(corpora["math"])])
    out = np.zeros((3, SEQ_LEN), np.uint16)
    assert reader.read([5, 0, 5], out=out) is out
    assert np.array_equal(out, rows_of("math")[[5, 0, 5]])
    assert reader.read([], out=out) is out


WIDTHS = ("uint16", "int32", "int64", "uint32")
LARGEST = {"uint16": 65_535, "int32": 2**31 - 1, "uint32": 2**32 - 1, "int64": 2**62}


@pytest.fixture(scope="module")
def of_widths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    """Corpora of every integer that shards can have, with the rows they were written from."""
    folder, found = tmp_path_factory.mktemp("widths"), {}
    for number, dtype in enumerate(WIDTHS):
        rows = np.random.default_rng(number).integers(0, LARGEST[dtype], (90 + number, 8)).astype(dtype)
        found[dtype] = write_shards(folder / dtype, rows), rows
    return found


@given(st.lists(st.sampled_from(WIDTHS), min_size=1, max_size=4), st.data())
def test_any_addresses_are_rows_of_the_source(
    of_widths: dict[str, tuple[Path, np.ndarray]], kinds: list[str], data: st.DataObject
) -> None:
    """In any order, of corpora of any widths, mapped all at once or by and by."""
    reader = RowReader([open_corpus(of_widths[kind][0]) for kind in kinds])
    sources = [of_widths[kind][1] for kind in kinds]
    widest = max(sources, key=lambda rows: rows.itemsize).dtype
    everything = np.concatenate([rows.astype(widest) for rows in sources])
    assert reader.dtype == widest
    for _ in range(data.draw(st.integers(1, 4))):
        addresses = data.draw(st.lists(st.integers(0, len(everything) - 1), max_size=30))
        assert np.array_equal(reader.read(addresses), everything[addresses])


def test_only_so_many_shards_are_mapped(corpora: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Except by a batch that needs more at once."""
    monkeypatch.setattr(reader_module, "MAX_MAPPED_SHARDS", 3)
    reader = RowReader([open_corpus(corpora["c4"])])
    for address in np.random.default_rng(0).integers(0, 500, 200):
        assert np.array_equal(reader.read([address]), rows_of("c4")[[address]])
        assert len(reader._mapped) <= 3
    assert np.array_equal(reader.read(np.arange(500)), rows_of("c4"))
    reader._let_go(0)
    assert np.array_equal(reader.read([499, 0]), rows_of("c4")[[499, 0]])
    assert len(reader._mapped) == 3


def num_mapped(path: Path) -> int:
    gc.collect()
    return Path("/proc/self/maps").read_text().count(f"{path}")


def test_what_is_removed_is_let_go_and_fetched_again(corpora: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    reader = RowReader([open_corpus(folder, str(corpora["c4"]))])
    reader.read([0, 499])
    assert num_mapped(folder) == 2
    (folder / "shard.00000.mds").unlink()
    reader._next_check = 0.0
    reader.read([499])
    assert num_mapped(folder) == 1
    assert np.array_equal(reader.read([3]), rows_of("c4")[[3]])
    assert num_mapped(folder) == 2


def test_a_file_that_is_written_to_while_it_is_in_use(copy: Path) -> None:
    reader = RowReader([open_corpus(copy)])
    reader.read([0, 499])
    with (copy / "shard.00000.mds").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    reader._next_check = 0.0
    for _ in range(2):
        with pytest.raises(ShardError, match=r"shard\.00000\.mds was changed while it was in use: .*last checkpoint"):
            reader.read([499])


def test_a_file_that_is_replaced_is_read_anew(copy: Path, tmp_path: Path) -> None:
    reader = RowReader([open_corpus(copy)])
    reader.read([0])
    shutil.copy(copy / "shard.00000.mds", tmp_path / "fresh")
    (tmp_path / "fresh").replace(copy / "shard.00000.mds")
    reader._next_check = 0.0
    assert np.array_equal(reader.read([1]), rows_of("c4")[[1]])
    assert reader._mapped[0].identity.inode == (copy / "shard.00000.mds").stat().st_ino


def test_after_a_shard_that_fails_the_others_are_read_right(copy: Path) -> None:
    """Those mapped before it in the same batch as well."""
    truncate(copy / "shard.00003.mds")
    reader = RowReader([open_corpus(copy)])
    reader.read([499])
    starts = reader.cache.shelf.starts
    with pytest.raises(ShardError, match=r"shard\.00003\.mds"):
        reader.read([starts[0], starts[1], starts[3]])
    wanted = [int(starts[0]), int(starts[1]), 499]
    assert np.array_equal(reader.read(wanted), rows_of("c4")[wanted])


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


@pytest.fixture(scope="module")
def of_lengths(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, np.ndarray]]:
    """Corpora of two lengths and two widths, with the rows they were written from."""
    folder, found = tmp_path_factory.mktemp("lengths"), []
    for number, (dtype, length) in enumerate([("uint16", 8), ("uint16", 16), ("uint32", 8), ("uint32", 16)]):
        rows = np.random.default_rng(number).integers(0, 60_000, (70 + number, length)).astype(dtype)
        found.append((write_shards(folder / str(number), rows), rows))
    return found


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.data())
def test_each_batch_has_the_length_of_its_corpora(
    of_lengths: list[tuple[Path, np.ndarray]], kinds: list[int], data: st.DataObject
) -> None:
    reader = RowReader([open_corpus(of_lengths[kind][0]) for kind in kinds])
    sources = [of_lengths[kind][1] for kind in kinds]
    assert reader.seq_len == max(rows.shape[1] for rows in sources)
    for _ in range(data.draw(st.integers(1, 4))):
        length = data.draw(st.sampled_from([rows.shape[1] for rows in sources]))
        alike = [index for index, rows in enumerate(sources) if rows.shape[1] == length]
        chosen = [(i, data.draw(st.integers(0, len(sources[i]) - 1))) for i in data.draw(st.permutations(alike))]
        found = reader.read([int(reader.bases[i]) + row for i, row in chosen])
        assert np.array_equal(found, [sources[i][row] for i, row in chosen])


def test_rows_of_two_lengths_in_one_batch(of_lengths: list[tuple[Path, np.ndarray]]) -> None:
    reader = RowReader([open_corpus(of_lengths[0][0]), open_corpus(of_lengths[1][0])])
    with pytest.raises(CorpusError, match=r"in one step have rows of one length, found .*/0: 8, .*/1: 16"):
        reader.read([0, 70])
