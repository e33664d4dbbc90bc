"""Planned rows through torch's own DataLoader: the same global batches for any ranks, workers and prefetching."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from mixer import Ledger, Schedule
from mixer.dataset import PlannedDataset, PlannedSampler, collate, end_with_parent
from mixer.handover import Buffers
from mixer.reader import RowReader, open_corpus
from mixer.reading import Reading
from tests.mixer.conftest import SIZES, rows_of

BATCH, STEPS = 12, 60
SCHEDULE = Schedule.from_dict(
    {"phases": [
        {"start": 0, "mixture": {"c4": 1}},
        {"start": 20, "mixture": {"c4": 0.5, "code": 0.3, "math": 0.2}, "ramp": {"shape": "linear", "length": 10}},
    ]},
    num_steps=STEPS, global_batch_size=BATCH, seq_len=16,
)  # fmt: skip


def dataset(corpora: dict[str, Path]) -> PlannedDataset:
    rows = RowReader([open_corpus(corpora[name]) for name in sorted(corpora)])
    reading = Reading(
        Ledger(base=SCHEDULE),
        {name: open_corpus(path).shard_sizes for name, path in corpora.items()},
        fingerprints={name: open_corpus(path).fingerprint for name, path in corpora.items()},
        bases=dict(zip(sorted(corpora), rows.bases.tolist(), strict=True)),
        data_seed=3,
        shuffle_window=2,
    )
    return PlannedDataset(rows, reading)


def batches(data: PlannedDataset, *, num_ranks: int = 1, num_workers: int = 0) -> list[np.ndarray]:
    """Every global batch [BATCH, seq_len], put together from what each rank's loader gives."""
    loaders = [
        DataLoader(
            data,
            batch_size=None,
            sampler=PlannedSampler(data, rank=rank, num_ranks=num_ranks),
            collate_fn=collate,
            num_workers=num_workers,
        )
        for rank in range(num_ranks)
    ]
    return [np.concatenate([part["tokens"].numpy() for part in parts]) for parts in zip(*loaders, strict=True)]


@pytest.fixture(scope="module")
def expected(corpora: dict[str, Path]) -> list[np.ndarray]:
    """Straight from the plan and the rows as they were written."""
    plan = dataset(corpora)._reading.plan
    rows = {name: rows_of(name) for name in SIZES}
    result = []
    for step in range(STEPS):
        batch = plan.batch(step)
        pairs = zip(batch.corpus.tolist(), batch.sample_id.tolist(), strict=True)
        result.append(np.stack([rows[plan.names[corpus]][sample] for corpus, sample in pairs]))
    return result


@pytest.mark.parametrize(("num_ranks", "num_workers"), [(1, 0), (1, 1), (1, 3), (2, 0), (2, 1), (4, 0), (4, 3)])
def test_global_batches_do_not_depend_on_the_topology(
    corpora: dict[str, Path], expected: list[np.ndarray], num_ranks: int, num_workers: int
) -> None:
    found = batches(dataset(corpora), num_ranks=num_ranks, num_workers=num_workers)
    assert len(found) == STEPS
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_resumed_run_goes_on_in_place_on_any_number_of_ranks(
    corpora: dict[str, Path], expected: list[np.ndarray]
) -> None:
    state = dataset(corpora).state_dict(num_samples=25 * BATCH, from_beginning=True)
    for num_ranks in (1, 2, 3):
        resumed = dataset(corpora)
        resumed.load_state_dict(state)
        found = batches(resumed, num_ranks=num_ranks)
        assert len(found) == STEPS - 25
        assert all(np.array_equal(one, other) for one, other in zip(found, expected[25:], strict=True))


def test_every_row_carries_its_address(corpora: dict[str, Path]) -> None:
    for num_workers in (0, 1):
        data = dataset(corpora)
        loader = DataLoader(
            data, batch_size=None, sampler=PlannedSampler(data), collate_fn=collate, num_workers=num_workers
        )
        batch = next(iter(loader))
        assert batch["tokens"].dtype == torch.uint16
        corpus = data.rows.corpus_of(batch["addresses"])
        assert batch["tokens"][:, 0].tolist() == corpus.tolist()
        assert batch["tokens"][:, 1].tolist() == (batch["addresses"] - data.rows.bases[corpus] + 1).tolist()
        counts = batch["counts"]
        shards = {
            int(shard) for shard in np.searchsorted(data.rows.cache.shelf.starts, batch["addresses"], side="right")
        }
        assert counts.hits + counts.misses == len(shards)


def loader_of(data: PlannedDataset, num_workers: int, **options: Any) -> DataLoader:
    sampler = PlannedSampler(data)
    return DataLoader(
        data, batch_size=None, sampler=sampler, collate_fn=collate, num_workers=num_workers,
        worker_init_fn=end_with_parent, **options,
    )  # fmt: skip


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_batches_that_are_kept_are_never_written_over(
    corpora: dict[str, Path], expected: list[np.ndarray], context: str
) -> None:
    """Three buffers, and every batch of the run held at once; where nothing is shared, they travel."""
    data = dataset(corpora)
    data.num_buffers = 3
    kept = list(loader_of(data, 2, multiprocessing_context=context))
    assert [batch["tokens"].tolist() for batch in kept] == [rows.tolist() for rows in expected]


def test_buffers_are_lent_again_when_nobody_holds_the_rows(
    corpora: dict[str, Path], expected: list[np.ndarray]
) -> None:
    data = dataset(corpora)
    data.num_buffers = 6
    places, views = set(), []
    for step, batch in enumerate(loader_of(data, 1)):
        places.add(batch["tokens"].data_ptr())
        assert np.array_equal(batch["tokens"].numpy(), expected[step])
        if step == 20:
            views.append(batch["tokens"][3:5])  # a part of a batch keeps it
        del batch
    assert views[0].tolist() == expected[20][3:5].tolist()
    assert len(places) <= 6
    assert len(data.buffers._free) == 5  # one is held by the view


def test_a_batch_that_does_not_fit_a_buffer_travels(corpora: dict[str, Path]) -> None:
    data = dataset(corpora)
    data.buffers = Buffers(1, 100)
    assert data.buffers.rows(0, (3, 16), np.dtype(np.uint16)) is not None
    assert data.buffers.rows(0, (4, 16), np.dtype(np.uint16)) is None


def test_workers_end_with_their_process(corpora: dict[str, Path], tmp_path: Path) -> None:
    """At once, when it is killed: torch's own look at the parent comes every five seconds."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    parent = context.Process(target=_hold_a_loader, args=(dataset(corpora), theirs))
    parent.start()
    workers = [psutil.Process(pid) for pid in ours.recv()]
    assert len(workers) == 2
    parent.kill()
    parent.join()
    _, alive = psutil.wait_procs(workers, timeout=4)
    assert not alive


def test_a_worker_whose_process_has_gone_before_it_began_ends(corpora: dict[str, Path]) -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    parent = context.Process(target=_leave_a_worker, args=(theirs,))
    parent.start()
    theirs.close()
    worker = psutil.Process(ours.recv())
    parent.kill()
    parent.join()
    ours.send("begin")
    psutil.wait_procs([worker], timeout=4)
    assert not worker.is_running()


def _leave_a_worker(pipe: Any) -> None:
    def begin_late() -> None:
        pipe.recv()
        end_with_parent(0)
        time.sleep(60)

    worker = multiprocessing.get_context("fork").Process(target=begin_late)
    worker.start()
    pipe.send(worker.pid)
    time.sleep(60)


def _hold_a_loader(data: PlannedDataset, pipe: Any) -> None:
    batches = iter(loader_of(data, 2))
    next(batches)
    pipe.send([child.pid for child in psutil.Process().children()])
    pipe.recv()


def test_samples_can_be_asked_for_one_by_one(corpora: dict[str, Path]) -> None:
    """As a DataLoader with a batch_size does, or anybody who looks at one."""
    data = dataset(corpora)
    assert data[7].tokens.tolist() == [rows_of("c4")[7].tolist()]
    batch = next(iter(DataLoader(data, batch_size=3, sampler=[1, 600, 2], collate_fn=collate)))
    assert batch["tokens"].tolist() == [
        rows_of("c4")[1].tolist(),
        rows_of("math")[10].tolist(),
        rows_of("c4")[2].tolist(),
    ]


def test_lengths_are_those_of_the_run(corpora: dict[str, Path]) -> None:
    data = dataset(corpora)
    assert len(data) == STEPS * BATCH
    assert len(PlannedSampler(data, rank=1, num_ranks=4)) == STEPS
