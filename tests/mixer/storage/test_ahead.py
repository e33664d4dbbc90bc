"""Fetching ahead: what the next steps need, in that order, and nothing else; through revisions, failures and limits."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mixer import Ledger, Schedule
from mixer.reading import Reading
from mixer.storage import StoredCorpus, ahead, open_corpus
from mixer.storage.ahead import FetchAhead
from mixer.storage.budget import Needs
from mixer.storage.cache import Cache
from mixer.storage.upcoming import uses_from
from tests.mixer.storage.conftest import rows_of, write_corpus

BATCH, STEPS = 10, 60
SIZES = {"c4": 200, "code": 60}
FIRSTS = {"c4": 0, "code": 20}
NAMES = list(SIZES)
PATIENCE_S = 20


@pytest.fixture(scope="module")
def remotes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Twenty shards of c4 and six of code, of ten rows each."""
    folder = tmp_path_factory.mktemp("remotes")
    return {name: write_corpus(folder / name, rows_of(size)) for name, size in SIZES.items()}


@pytest.fixture
def stored(remotes: dict[str, Path], tmp_path: Path) -> list[StoredCorpus]:
    return [open_corpus(tmp_path / name, str(remote)) for name, remote in remotes.items()]


def reading_of(
    stored: list[StoredCorpus], *, code: float = 0.0, frontier: int | None = None, num_steps: int = STEPS
) -> Reading:
    """Of as many samples in any number of steps."""
    mixture = {"c4": 1 - code, "code": code}
    schedule = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": mixture}]},
        num_steps=num_steps, global_batch_size=BATCH * STEPS // num_steps, seq_len=128,
    )  # fmt: skip
    return Reading(
        Ledger(base=schedule),
        {name: corpus.shard_sizes for name, corpus in zip(NAMES, stored, strict=True)},
        fingerprints=dict.fromkeys(NAMES, "-"),
        bases={"c4": 0, "code": SIZES["c4"]},
        data_seed=5,
        shuffle_window=2,
        frontier=frontier,
    )


def needed(reading: Reading, start: int, end: int) -> list[int]:
    """The shards that these steps read, the first needed first."""
    shards = [s for use in uses_from(reading.plan, start, FIRSTS) if use.start <= end for s in use.shards.tolist()]
    return list(dict.fromkeys(shards))


def present(cache: Cache) -> set[int]:
    return {shard for shard in range(cache.shelf.num_shards) if cache.is_ready(shard)}


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


@pytest.fixture
def started() -> Iterator[Callable[..., FetchAhead]]:
    running: list[FetchAhead] = []

    def start(cache: Cache, reading: Reading, **options: int) -> FetchAhead:
        running.append(FetchAhead(cache, reading, NAMES, **{"num_steps": 8, "num_in_flight": 2, **options}))
        return running[-1]

    yield start
    for one in running:
        one.close()


def settled(one: FetchAhead) -> bool:
    """Whether it waits, with nothing under way."""
    return not one._fetching and not one._moved.is_set() and one._view is not None


def test_exactly_what_the_next_steps_need(stored: list[StoredCorpus], started: Callable[..., FetchAhead]) -> None:
    cache, reading = Cache(stored), reading_of(stored, code=0.3)
    one = started(cache, reading)
    for step in (0, 1, 5, 9):
        one.advance(step)
        wait_until(lambda step=step: present(cache) >= set(needed(reading, step, step + 8)))
        wait_until(lambda: settled(one))
        assert present(cache) <= set(needed(reading, 0, step + 8))
    assert len(present(cache)) < cache.shelf.num_shards


def test_in_the_order_of_need(
    stored: list[StoredCorpus], started: Callable[..., FetchAhead], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, reading = Cache(stored), reading_of(stored, code=0.3)
    order: list[int] = []
    prepare = cache.prepare
    monkeypatch.setattr(cache, "prepare", lambda shard, **given: (order.append(shard), prepare(shard, **given))[1])
    ready = cache.is_ready
    monkeypatch.setattr(cache, "is_ready", lambda shard: (time.sleep(0.001), ready(shard))[1])  # others end meanwhile
    started(cache, reading, num_steps=STEPS, num_threads=1).advance(0)
    wait_until(lambda: len(set(order)) == len(needed(reading, 0, STEPS)))
    assert list(dict.fromkeys(order)) == needed(reading, 0, STEPS)


def test_it_follows_a_revision_that_brings_a_corpus_in(
    stored: list[StoredCorpus], started: Callable[..., FetchAhead]
) -> None:
    cache, reading = Cache(stored), reading_of(stored, frontier=30)
    one = started(cache, reading)
    one.advance(0)
    wait_until(lambda: present(cache) >= set(needed(reading, 0, 8)))
    assert not {shard for shard in present(cache) if shard >= FIRSTS["code"]}
    ledger = reading.ledger.propose(
        {"mixture": {"c4": 0.5, "code": 0.5}}, parent=0, effective_step=31, frontier=30,
        author="test", reason="more code", time="-",
    )  # fmt: skip
    reading.follow(ledger.revisions, frontier=STEPS)
    one.advance(25)
    wait_until(lambda: present(cache) >= set(needed(reading, 25, 33)))
    assert {shard for shard in present(cache) if shard >= FIRSTS["code"]}


def test_what_fails_is_tried_again(
    remotes: dict[str, Path], tmp_path: Path, started: Callable[..., FetchAhead], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "PAUSE_S", 0.01)
    remote = Path(shutil.copytree(remotes["c4"], tmp_path / "remote"))
    stored = [open_corpus(tmp_path / "c4", str(remote)), open_corpus(tmp_path / "code", str(remotes["code"]))]
    cache, reading = Cache(stored), reading_of(stored)
    lost, *others = needed(reading, 0, 8)
    hidden = (remote / stored[0].shard_names[lost]).rename(tmp_path / "hidden")
    started(cache, reading).advance(0)
    wait_until(lambda: present(cache) == set(others))
    hidden.rename(remote / stored[0].shard_names[lost])
    wait_until(lambda: present(cache) == {lost, *others})


def test_local_corpora_are_verified_ahead(remotes: dict[str, Path], started: Callable[..., FetchAhead]) -> None:
    local = [open_corpus(remote) for remote in remotes.values()]
    cache, reading = Cache(local), reading_of(local)
    started(cache, reading).advance(0)
    wait_until(lambda: set(cache._verified) >= set(needed(reading, 0, 8)))


def read_through(cache: Cache, reading: Reading, one: FetchAhead, num_in_flight: int) -> None:
    """As a loader does: steps are handed out, and read somewhat later."""
    num_steps, size = reading.plan.schedule.num_steps, cache.shelf.num_bytes(0)
    for step in range(num_steps + num_in_flight):
        if step < num_steps:
            one.advance(step)
        if step >= num_in_flight:
            for shard in read_at(reading, step - num_in_flight):
                cache.open(shard)
                assert len(kept(cache)) * size <= (cache.budget.limit or 0)


def kept(cache: Cache) -> set[int]:
    """What is there or under way, at a moment when nothing came or went while it was listed."""
    while True:
        before, there = {*cache.budget._all_fetching()}, {*cache.budget._present()}
        if before == {*cache.budget._all_fetching()} and there == {*cache.budget._present()}:
            return before | there


def read_at(reading: Reading, step: int) -> list[int]:
    batch = reading.plan.batch(step)
    pairs = zip(batch.corpus.tolist(), batch.sample_id.tolist(), strict=True)
    return sorted({FIRSTS[reading.plan.names[corpus]] + sample // 10 for corpus, sample in pairs})


@pytest.mark.parametrize("num_threads", [1, 4])
def test_with_room_for_two_windows_each_shard_is_fetched_once_a_use(
    stored: list[StoredCorpus], started: Callable[..., FetchAhead], monkeypatch: pytest.MonkeyPatch, num_threads: int
) -> None:
    monkeypatch.setattr(ahead, "PAUSE_S", 0.005)
    size = int(stored[0].shard_bytes[0])
    cache, reading = Cache(stored, limit=2 * 2 * 2 * size), reading_of(stored, code=0.3, num_steps=300)
    fetched: Counter[int] = Counter()
    fetch = cache._fetch
    monkeypatch.setattr(cache, "_fetch", lambda shard, *given: (fetched.update([shard]), fetch(shard, *given))[1])
    one = started(cache, reading, num_steps=6, num_threads=num_threads)
    read_through(cache, reading, one, num_in_flight=2)
    wait_until(lambda: not one._fetching)
    uses = Counter(s for use in uses_from(reading.plan, 0, FIRSTS) for s in use.shards.tolist())
    assert sum(uses.values()) > cache.shelf.num_shards, "there are several epochs"
    assert not {shard: (count, uses[shard]) for shard, count in fetched.items() if count > uses[shard]}


def test_what_is_in_flight_is_never_removed(
    stored: list[StoredCorpus], started: Callable[..., FetchAhead], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hardly any room: what the steps under way read stays until they are through."""
    monkeypatch.setattr(ahead, "PAUSE_S", 0.005)
    size = int(stored[0].shard_bytes[0])
    cache, reading = Cache(stored, limit=4 * size), reading_of(stored, num_steps=300)
    one = started(cache, reading, num_steps=60)
    one.advance(0)
    before = set(needed(reading, 0, 60)[:4])
    wait_until(lambda: present(cache) == before)
    rounds = Counter[str]()
    begin = one._begin_fetching
    monkeypatch.setattr(one, "_begin_fetching", lambda: (rounds.update(["round"]), begin())[1])
    wait_until(lambda: rounds["round"] > 5)
    assert present(cache) == before, "and nothing is exchanged to and fro"


def test_needs_are_told_before_the_step_is_read(
    stored: list[StoredCorpus], started: Callable[..., FetchAhead], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of an earlier run, or of steps long past, would keep what nobody needs any more, and end the run."""
    cache, reading = Cache(stored, limit=10**6), reading_of(stored)
    cache.budget.publish(Needs(np.zeros(cache.shelf.num_shards, np.int64), keep_until=10**6))
    one = started(cache, reading)
    monkeypatch.setattr(one, "_work", lambda: None)  # it has no time yet
    for step in (20, 21, 22, 30):
        one.advance(step)
        found = cache.budget._read_needs()
        assert found is not None
        assert step < found.keep_until <= step + 2
        assert set(needed(reading, step, step)) <= set(np.flatnonzero(found.first_step <= step).tolist())


RUN = """
import sys, threading
from pathlib import Path
from mixer.storage.cache import Cache
from mixer.storage import open_corpus
from mixer.storage.ahead import FetchAhead
from tests.mixer.storage.test_ahead import NAMES, reading_of
stored = [open_corpus(Path(sys.argv[1]) / name) for name in NAMES]
cache, stuck = Cache(stored), threading.Event()
def prepare(shard, needed_at):
    stuck.set()
    threading.Event().wait()
cache.prepare, cache.is_ready = prepare, lambda shard: False
FetchAhead(cache, reading_of(stored), NAMES, num_steps=8).advance(0)
stuck.wait()
print("end")
"""


def test_it_does_not_keep_a_process_alive(remotes: dict[str, Path]) -> None:
    command = [sys.executable, "-c", RUN, str(remotes["c4"].parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "end\n"


def test_a_forked_child_reads_on_its_own(stored: list[StoredCorpus], started: Callable[..., FetchAhead]) -> None:
    """Though fetching goes on in its parent at that moment."""
    cache, reading = Cache(stored), reading_of(stored)
    one = started(cache, reading, num_steps=STEPS)
    one.advance(0)
    process = multiprocessing.get_context("fork").Process(target=open_all, args=(cache,), daemon=True)
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    wait_until(lambda: present(cache) >= set(needed(reading, 0, STEPS)))


def open_all(cache: Cache) -> None:
    for shard in range(cache.shelf.num_shards):
        cache.open(shard)
    os._exit(0)


def test_nothing_begins_before_the_first_step_or_after_the_end(stored: list[StoredCorpus]) -> None:
    cache = Cache(stored)
    before = threading.active_count()
    one = FetchAhead(cache, reading_of(stored), NAMES, num_steps=8)
    assert threading.active_count() == before
    one.close()
    one.advance(0)
    assert one._thread is not None
    one._thread.join(PATIENCE_S)
    assert not one._thread.is_alive()
    assert not present(cache)
