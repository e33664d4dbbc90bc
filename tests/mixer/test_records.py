"""Records that are not rows of one size: what streaming's own writer wrote, by address, planned, through a loader."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mixer import CorpusError, Ledger, Schedule, ShardError
from mixer.dataset import PlannedRecords, PlannedSampler, collate
from mixer.reader import RowReader, open_corpus
from mixer.reading import Reading
from mixer.records import RecordReader, pad

NAMES = ("docs", "tokens")


def records_of(name: str) -> list[dict[str, Any]]:
    if name == "docs":
        return [{"text": f"document {i} " + "é" * (i % 7), "meta": {"line": i}, "score": i / 4} for i in range(60)]
    return [{"tokens": np.arange(1 + i % 9, dtype=np.uint16) + i} for i in range(1, 41)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from streaming import MDSWriter

    root = tmp_path_factory.mktemp("records")
    columns = {"docs": {"text": "str", "meta": "json", "score": "float64"}, "tokens": {"tokens": "ndarray:uint16"}}
    for name in NAMES:
        compression = "zstd:3" if name == "docs" else None
        with MDSWriter(
            out=str(root / name), columns=columns[name], size_limit=900, hashes=["sha256"], compression=compression
        ) as writer:
            for record in records_of(name):
                writer.write(record)
    return {name: root / name for name in NAMES}


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in expected)


def test_records_of_any_form_in_any_order(folders: dict[str, Path]) -> None:
    reader = RecordReader([open_corpus(folders[name]) for name in NAMES])
    expected = [*records_of("docs"), *records_of("tokens")]
    assert len(reader.corpora[0].shard_sizes) > 3
    addresses = np.random.default_rng(0).integers(0, len(expected), 200)
    for one in (reader, pickle.loads(pickle.dumps(reader))):
        found = one.read(addresses)
        assert all(same(record, expected[address]) for record, address in zip(found, addresses, strict=True))
    assert reader.corpus_of([0, 59, 60, 99]).tolist() == [0, 0, 1, 1]
    assert reader.read([]) == []
    with pytest.raises(IndexError, match="addresses go from 0 to 99"):
        reader.read([100])


def test_planned_records_come_as_planned_with_any_workers(folders: dict[str, Path]) -> None:
    corpora = {name: open_corpus(folders[name]) for name in NAMES}
    schedule = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"docs": 0.7, "tokens": 0.3}}]},
        num_steps=12, global_batch_size=10, seq_len=1,
    )  # fmt: skip
    expected = {name: records_of(name) for name in NAMES}
    for num_workers in (0, 2):
        rows = RecordReader([corpora[name] for name in NAMES])
        reading = Reading(
            Ledger(base=schedule),
            {name: corpus.shard_sizes for name, corpus in corpora.items()},
            fingerprints={name: corpus.fingerprint for name, corpus in corpora.items()},
            bases=dict(zip(NAMES, rows.bases.tolist(), strict=True)),
            data_seed=3,
            shuffle_window=2,
        )
        data = PlannedRecords(rows, reading)
        loader = DataLoader(
            data, batch_size=None, sampler=PlannedSampler(data), collate_fn=collate, num_workers=num_workers
        )
        for step, batch in enumerate(loader):
            planned = reading.plan.batch(step)
            names = [reading.plan.names[corpus] for corpus in planned.corpus]
            wanted = [expected[name][sample] for name, sample in zip(names, planned.sample_id, strict=True)]
            assert all(same(one, other) for one, other in zip(batch["records"], wanted, strict=True))
        assert step == 11


def test_rows_of_different_lengths_are_filled_up() -> None:
    padded, lengths = pad([np.array([5, 6], np.uint16), np.array([], np.uint16), np.array([7], np.uint16)], filler=9)
    assert padded.tolist() == [[5, 6], [9, 9], [7, 9]]
    assert padded.dtype == np.uint16
    assert lengths.tolist() == [2, 0, 1]
    assert pad([])[0].shape == (0, 0)


def test_a_fast_reader_says_what_it_cannot_read(folders: dict[str, Path]) -> None:
    with pytest.raises(CorpusError, match=r"one column .*, found meta: json, score: float64, text: str"):
        RowReader([open_corpus(folders["docs"])])


def test_pickled_columns_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["tokens"], tmp_path / "copy"))
    index = json.loads((copy / "index.json").read_bytes())
    for shard in index["shards"]:
        shard["column_encodings"] = ["pkl"]
    (copy / "index.json").write_text(json.dumps(index))
    with pytest.raises(CorpusError, match="the column 'tokens' is pickled, and to read it could run any code"):
        RecordReader([open_corpus(copy)])


def test_a_damaged_shard_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["tokens"], tmp_path / "copy"))
    shard = copy / "shard.00000.mds"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ShardError, match=r"shard\.00000\.mds.*its bytes have changed"):
        RecordReader([open_corpus(copy)]).read([0])
