"""Room within a limit: what is removed for what, who counts, and what is said when there is not enough."""

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import combinations
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.errors import CacheError
from mixer.storage import StoredCorpus, open_corpus
from mixer.storage.budget import NEEDS, NEVER, Needs
from mixer.storage.cache import Cache
from mixer.storage.remote import FETCHING
from tests.mixer.storage.conftest import rows_of, write_corpus

FORK = multiprocessing.get_context("fork")
NUM_SHARDS = 8
PATIENCE_S = 20


@pytest.fixture(scope="module")
def remotes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two corpora of four shards each, all of one size."""
    folder = tmp_path_factory.mktemp("remotes")
    return [write_corpus(folder / name, rows_of(40, first=first)) for name, first in (("a", 0), ("b", 100))]


@pytest.fixture(scope="module")
def shard_bytes(remotes: list[Path]) -> int:
    (size,) = {path.stat().st_size for remote in remotes for path in remote.glob("*.mds")}
    return size


@pytest.fixture
def corpora(remotes: list[Path], tmp_path: Path) -> list[StoredCorpus]:
    return [open_corpus(tmp_path / remote.name, str(remote)) for remote in remotes]


def present(cache: Cache) -> set[int]:
    return {shard for shard in range(cache.shelf.num_shards) if cache.shelf.path(shard).exists()}


def needing(first_step: dict[int, int], keep_until: int = 0) -> Needs:
    steps = np.full(NUM_SHARDS, NEVER)
    steps[list(first_step)] = list(first_step.values())
    return Needs(steps, keep_until)


def test_without_a_limit_nothing_goes(corpora: list[StoredCorpus]) -> None:
    cache = Cache(corpora)
    for shard in range(NUM_SHARDS):
        cache.open(shard)
    assert present(cache) == set(range(NUM_SHARDS))


def test_what_is_needed_last_makes_room(corpora: list[StoredCorpus], shard_bytes: int) -> None:
    cache = Cache(corpora, limit=3 * shard_bytes)
    for shard in (0, 1, 6):
        cache.open(shard)
    cache.budget.publish(needing({0: 30, 1: 10, 6: 20, 2: 1}))
    cache.open(2)
    assert present(cache) == {1, 6, 2}
    assert cache.budget.used() == 3 * shard_bytes
    assert not cache.is_ready(0)
    cache.open(0)
    assert present(cache) == {1, 2, 0}, "6 was needed later than 1 and 2"
    assert np.array_equal(cache.open(6).data, np.fromfile(corpora[1].remote.url + "/shard.00002.mds", np.uint8))


def test_what_the_plan_does_not_need_goes_first(corpora: list[StoredCorpus], shard_bytes: int) -> None:
    cache = Cache(corpora, limit=3 * shard_bytes)
    for shard in (0, 1, 2):
        cache.open(shard)
    cache.budget.publish(needing({0: 10**6, 2: 10**6}))
    cache.open(3)
    assert present(cache) == {0, 2, 3}


def test_without_a_plan_what_was_fetched_first_goes(corpora: list[StoredCorpus], shard_bytes: int) -> None:
    cache = Cache(corpora, limit=3 * shard_bytes)
    for number, shard in enumerate((2, 0, 1)):
        cache.open(shard)
        os.utime(cache.shelf.path(shard), (number, number))
    cache.open(7)
    assert present(cache) == {0, 1, 7}


def test_what_is_in_use_stays_and_the_numbers_are_said(corpora: list[StoredCorpus], shard_bytes: int) -> None:
    cache = Cache(corpora, limit=2 * shard_bytes)
    cache.open(0)
    cache.open(1)
    cache.budget.publish(needing({0: 5, 1: 8, 2: 6}, keep_until=8))
    total = f"{3 * shard_bytes:,}"
    with pytest.raises(
        CacheError, match=rf"limit of {2 * shard_bytes:,} bytes is too small.*3 shards .* {total} bytes"
    ):
        cache.open(2)
    assert present(cache) == {0, 1}
    assert not list((corpora[0].path / FETCHING).iterdir())


def test_a_limit_below_one_shard(corpora: list[StoredCorpus], shard_bytes: int) -> None:
    cache = Cache(corpora, limit=shard_bytes - 1)
    with pytest.raises(CacheError, match=r"raise the limit, or lower shuffle_window") as caught:
        cache.open(0)
    assert caught.value.path == str(corpora[0].path)


def test_ahead_only_what_is_needed_later_makes_room(corpora: list[StoredCorpus], shard_bytes: int) -> None:
    cache = Cache(corpora, limit=2 * shard_bytes)
    cache.open(0)
    cache.open(1)
    cache.budget.publish(needing({0: 20, 1: 10, 2: 20}))
    assert not cache.prepare(2, needed_at=20)
    assert present(cache) == {0, 1}
    assert cache.prepare(2, needed_at=19)
    assert present(cache) == {1, 2}


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", "half", b"not an array", "other"])
def test_needs_that_are_torn_or_of_other_shards_are_none(
    corpora: list[StoredCorpus], shard_bytes: int, content: bytes | str
) -> None:
    cache = Cache(corpora, limit=2 * shard_bytes)
    cache.budget.publish(needing({0: 1, 1: 2}, keep_until=9))
    path = corpora[0].path / NEEDS
    assert Needs.read(path, NUM_SHARDS) is not None
    if content == "other":
        Needs(np.zeros(3, np.int64), 0).write(path)
    else:
        path.write_bytes(path.read_bytes()[:-9] if isinstance(content, str) else content)
    assert Needs.read(path, NUM_SHARDS) is None
    for shard in range(NUM_SHARDS):
        cache.open(shard)
    assert len(present(cache)) == 2


def test_needs_that_are_missing(tmp_path: Path) -> None:
    assert Needs.read(tmp_path / NEEDS, NUM_SHARDS) is None


def test_needs_that_cannot_be_written_leave_nothing(
    remotes: list[Path], mounted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs")
    cache = Cache([open_corpus(folder, str(remotes[0]))], limit=10**6)
    free = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize))
    before = sorted(folder.iterdir())
    cache.budget.publish(Needs(np.zeros(4, np.int64), 0))
    assert sorted(folder.iterdir()) == before


def test_who_is_killed_while_writing_needs_leaves_what_the_next_one_takes(
    corpora: list[StoredCorpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are killed there: not a file of each."""
    cache, folder = Cache(corpora, limit=10**6), corpora[0].path
    cache.budget.publish(needing({0: 1}))
    before = sorted(folder.iterdir())
    with monkeypatch.context() as killed:
        killed.setattr(Path, "replace", lambda path, target: os._exit(9))
        for _ in range(2):
            if (child := os.fork()) == 0:
                cache.budget.publish(needing({0: 2}))
            os.waitpid(child, 0)
    cache.budget.publish(needing({0: 3}))
    assert sorted(folder.iterdir()) == before
    assert Needs.read(folder / NEEDS, NUM_SHARDS) is not None


def test_local_corpora_are_neither_counted_nor_removed(remotes: list[Path], tmp_path: Path, shard_bytes: int) -> None:
    local = Path(shutil.copytree(remotes[0], tmp_path / "local"))
    packed = write_corpus(tmp_path / "packed", rows_of(40), compression="zstd:3")
    remote = open_corpus(tmp_path / "cache", str(remotes[1]))
    cache = Cache([open_corpus(local), remote, open_corpus(packed)], limit=shard_bytes)
    for shard in range(12):
        cache.open(shard)
    assert present(cache) == {0, 1, 2, 3, 7, 8, 9, 10, 11}


def test_what_arrives_while_it_is_counted_is_not_missed(
    corpora: list[StoredCorpus], shard_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(corpora, limit=10**6)
    fetching = cache.budget._all_fetching

    def finish_after() -> list[int]:
        found = fetching()
        (corpora[0].path / FETCHING / "shard.00000.mds").rename(corpora[0].path / "shard.00000.mds")
        return found

    with cache._locks[0].holding(1), cache.budget.room(0):
        monkeypatch.setattr(cache.budget, "_all_fetching", finish_after)
        assert cache.budget.used() >= shard_bytes


def reserve(cache: Cache, shard: int, said: Connection) -> None:
    """Reserve room for a shard as a fetcher does, say so, and keep it until told, or killed."""
    place, _, number = cache.shelf.find(shard)
    with cache._locks[place].holding(number + 1), cache.budget.room(shard):
        said.send("reserved")
        said.recv()


@pytest.fixture
def fetcher() -> Iterator[Callable[[Cache, int], tuple[multiprocessing.Process, Connection]]]:
    """Starts a process that has begun to fetch a shard."""
    started: list[multiprocessing.Process] = []

    def start(cache: Cache, shard: int) -> tuple[multiprocessing.Process, Connection]:
        mine, theirs = FORK.Pipe()
        process = FORK.Process(target=reserve, args=(cache, shard, theirs), daemon=True)
        process.start()
        started.append(process)
        assert mine.recv() == "reserved"
        return process, mine

    yield start
    for process in started:
        process.kill()


def test_what_others_fetch_counts_until_they_die(
    corpora: list[StoredCorpus], shard_bytes: int, fetcher: Callable[..., tuple[multiprocessing.Process, Connection]]
) -> None:
    cache = Cache(corpora, limit=2 * shard_bytes)
    process, _ = fetcher(cache, 5)
    assert cache.budget.used() == shard_bytes
    cache.open(0)
    cache.budget.publish(needing({0: 3}, keep_until=3))
    assert not cache.prepare(1, needed_at=9)
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE_S)
    assert cache.prepare(1, needed_at=9)
    assert cache.budget.used() == 2 * shard_bytes
    assert not list((corpora[1].path / FETCHING).iterdir())


def test_who_needs_a_shard_now_waits_for_those_who_fetch(
    corpora: list[StoredCorpus], shard_bytes: int, monkeypatch: pytest.MonkeyPatch,
    fetcher: Callable[..., tuple[multiprocessing.Process, Connection]],
) -> None:  # fmt: skip
    """And finds their room when they have given it back, in whatever moment that was."""
    cache = Cache(corpora, limit=shard_bytes)
    process, told = fetcher(cache, 5)
    reserved = cache.budget._reserve

    def give_back_after(*arguments: object) -> bool:
        found = reserved(*arguments)
        if process.is_alive():
            told.send("stop")
            process.join(PATIENCE_S)
        return found

    monkeypatch.setattr(cache.budget, "_reserve", give_back_after)
    cache.open(0)
    assert present(cache) == {0}


def test_a_new_process_sweeps_what_the_dead_left(
    corpora: list[StoredCorpus], fetcher: Callable[..., tuple[multiprocessing.Process, Connection]]
) -> None:
    cache = Cache(corpora, limit=10**6)
    process, _ = fetcher(cache, 5)
    alive, _ = fetcher(cache, 2)
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE_S)
    for name in ("index.json", "anything"):
        (corpora[1].path / FETCHING / name).mkdir()
    Cache(corpora)
    assert not list((corpora[1].path / FETCHING).iterdir())
    assert [path.name for path in (corpora[0].path / FETCHING).iterdir()] == ["shard.00002.mds"]
    assert alive.is_alive()


def test_what_is_unpacked_elsewhere_is_not_swept(
    tmp_path: Path, fetcher: Callable[..., tuple[multiprocessing.Process, Connection]]
) -> None:
    packed = open_corpus(write_corpus(tmp_path / "packed", rows_of(40), compression="zstd:3"))
    fetcher(Cache([packed]), 1)
    Cache([packed])
    assert [path.name for path in (packed.path / FETCHING).iterdir()] == ["shard.00001.mds"]


@st.composite
def demands(draw: st.DrawFn) -> tuple[list[set[int]], int]:
    """The shards that each step reads, and how many the limit holds: as many as any step needs, or more."""
    steps = draw(st.lists(st.sets(st.integers(0, NUM_SHARDS - 1), min_size=1, max_size=3), min_size=1, max_size=25))
    return steps, draw(st.integers(max(map(len, steps)), NUM_SHARDS))


@settings(max_examples=max(settings().max_examples // 4, 1))
@given(demands(), st.data())
def test_never_above_the_limit_and_never_better_than_beladys_choice(
    remotes: list[Path], shard_bytes: int, tmp_path_factory: pytest.TempPathFactory,
    demand: tuple[list[set[int]], int], data: st.DataObject,
) -> None:  # fmt: skip
    """As many shards are fetched as by removing whatever is read again last; fetching ahead changes nothing of that."""
    steps, room = demand
    folder = tmp_path_factory.mktemp("limit")
    corpora = [open_corpus(folder / remote.name, str(remote)) for remote in remotes]
    cache = Cache(corpora, limit=room * shard_bytes)
    fetches: list[int] = []
    for step, shards in enumerate(steps):
        cache.budget.publish(needing(reads_from(steps, step), keep_until=step))
        for shard in sorted(shards):
            before = present(cache)
            cache.open(shard)
            fetches += sorted(present(cache) - before)
            assert cache.budget.used() <= room * shard_bytes
            assert shards & before <= present(cache), "what the step reads stays"
    assert len(fetches) == fewest_fetches(steps, room)
    shutil.rmtree(folder)


def reads_from(steps: list[set[int]], start: int) -> dict[int, int]:
    """The step from `start` on at which each shard is read first."""
    return {shard: step for step in range(len(steps) - 1, start - 1, -1) for shard in steps[step]}


def fewest_fetches(steps: list[set[int]], room: int) -> int:
    """By trying everything: of all sets that can be kept, the cheapest way to each."""
    cheapest = {frozenset[int](): 0}
    for shards in steps:
        following: dict[frozenset[int], int] = {}
        for kept, cost in cheapest.items():
            everything = kept | shards
            excess = max(len(everything) - room, 0)
            for gone in subsets(sorted(everything - shards), excess):
                left = frozenset(everything - set(gone))
                following[left] = min(following.get(left, 10**9), cost + len(shards - kept))
        cheapest = following
    return min(cheapest.values())


def subsets(items: list[int], size: int) -> list[tuple[int, ...]]:
    return list(combinations(items, size))


def test_ahead_and_now_together_never_exceed_the_limit(corpora: list[StoredCorpus], shard_bytes: int) -> None:
    """Threads that fetch ahead and a reader in between, each step of another shard."""
    cache = Cache(corpora, limit=4 * shard_bytes)
    order = [step % NUM_SHARDS for step in range(40)]
    most, done = 0, threading.Event()

    def fetch_ahead() -> None:
        while not done.is_set():
            for ahead in (1, 2):
                step = min(now[0] + ahead, len(order) - 1)
                cache.prepare(order[step], needed_at=step)

    now = [0]
    threads = [threading.Thread(target=fetch_ahead) for _ in range(2)]
    for thread in threads:
        thread.start()
    for step, shard in enumerate(order):
        now[0] = step
        first = reads_from([{s} for s in order], step)
        cache.budget.publish(needing(first, keep_until=step))
        cache.open(shard)
        most = max(most, sum(1 for s in present(cache)))
    done.set()
    for thread in threads:
        thread.join()
    assert most <= 4
    assert cache.budget.used() <= 4 * shard_bytes
