"""Locks between real processes, and between the threads of one."""

import errno
import fcntl
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from mixer.storage.locks import ROOM_LOCK, Locks

FORK = multiprocessing.get_context("fork")
PATIENCE_S = 20


def is_free(locks: Locks, number: int) -> bool:
    with locks.trying(number) as held:
        return held


def seen_elsewhere(folder: Path, number: int) -> bool:
    """Whether a process that has just begun finds the lock free."""
    with FORK.Pool(1) as pool:
        return pool.apply(is_free_in, (folder, number))


def is_free_in(folder: Path, number: int) -> bool:
    return is_free(Locks(folder), number)


def hold(folder: Path, number: int, said: Connection) -> None:
    """Say when the lock is held, and keep it until told, or killed."""
    with Locks(folder).holding(number):
        said.send("held")
        said.recv()


@pytest.fixture
def holder(tmp_path: Path) -> tuple[multiprocessing.Process, Connection]:
    """Another process that holds 3, and the way to tell it to stop."""
    mine, theirs = FORK.Pipe()
    process = FORK.Process(target=hold, args=(tmp_path, 3, theirs), daemon=True)
    process.start()
    assert mine.recv() == "held"
    return process, mine


def test_what_another_process_holds_is_not_free(
    tmp_path: Path, holder: tuple[multiprocessing.Process, Connection]
) -> None:
    locks = Locks(tmp_path)
    assert not is_free(locks, 3)
    assert is_free(locks, 2)
    assert is_free(locks, ROOM_LOCK)
    holder[1].send("stop")
    holder[0].join(PATIENCE_S)
    assert is_free(locks, 3)


def test_a_killed_holder_frees_the_lock_for_those_who_wait(
    tmp_path: Path, holder: tuple[multiprocessing.Process, Connection]
) -> None:
    held = threading.Event()

    def wait() -> None:
        with Locks(tmp_path).holding(3):
            held.set()

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    assert not held.is_set()
    os.kill(holder[0].pid, signal.SIGKILL)
    assert held.wait(PATIENCE_S)


def test_a_forked_child_holds_nothing_and_frees_nothing(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with locks.holding(3):
        with FORK.Pool(1) as pool:
            assert not pool.apply(is_free, (locks, 3))
            assert pool.apply(is_free, (locks, 4))
        mine, theirs = FORK.Pipe()
        child = FORK.Process(target=lambda: theirs.send(is_free(locks, 3)))
        child.start()
        assert not mine.recv(), "the same object, as it was forked"
        child.join(PATIENCE_S)
        assert not seen_elsewhere(tmp_path, 3), "the end of a child does not free what its parent holds"
    assert seen_elsewhere(tmp_path, 3)


def test_what_was_held_at_the_fork_is_free_to_the_child_later(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    mine, theirs = FORK.Pipe()
    with locks.holding(3):
        child = FORK.Process(target=lambda: theirs.send((theirs.recv(), is_free(locks, 3))), daemon=True)
        child.start()
    mine.send("freed")
    assert mine.recv() == ("freed", True)


@pytest.mark.parametrize("other", [lambda locks, folder: locks, lambda locks, folder: Locks(folder)])
def test_threads_of_one_process_keep_each_other_out(tmp_path: Path, other: Callable[[Locks, Path], Locks]) -> None:
    """Through one object, or through two of the same folder."""
    locks = Locks(tmp_path)
    with locks.holding(3):
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(is_free(other(locks, tmp_path), 3)))
        thread.start()
        thread.join(PATIENCE_S)
        assert found == [False]
        assert not seen_elsewhere(tmp_path, 3), "and it is held still"
    assert is_free(other(locks, tmp_path), 3)


def test_many_threads_of_many_processes_one_at_a_time(tmp_path: Path) -> None:
    processes = [FORK.Process(target=add_in_threads, args=(tmp_path,), daemon=True) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    assert (tmp_path / "count").read_text() == str(3 * 4 * 10)


def add_in_threads(folder: Path) -> None:
    locks, path = Locks(folder), folder / "count"

    def add() -> None:
        for _ in range(10):
            with locks.holding(1):
                path.write_text(str(int(path.read_text()) + 1 if path.exists() else 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_that_wait_crosswise_get_through(tmp_path: Path) -> None:
    """A thread of each process holds what a second thread of the other waits for: to the system that is a deadlock."""
    barrier, refused, done = FORK.Barrier(2), FORK.Event(), FORK.Queue()
    processes = [
        FORK.Process(target=wait_crosswise, args=(tmp_path, *numbers, barrier, refused, done), daemon=True)
        for numbers in ((1, 2), (2, 1))
    ]
    for process in processes:
        process.start()
    assert sorted(done.get(timeout=PATIENCE_S) for _ in processes) == [1, 2]
    assert refused.is_set()


def wait_crosswise(folder: Path, mine: int, other: int, barrier, refused, done) -> None:
    locks, lockf = Locks(folder), fcntl.lockf

    def noting(*arguments: int) -> None:
        try:
            lockf(*arguments)
        except OSError as error:
            if error.errno == errno.EDEADLK:
                refused.set()
            raise

    def wait() -> None:
        with locks.holding(other):
            done.put(mine)

    fcntl.lockf = noting
    waiter = threading.Thread(target=wait)
    with locks.holding(mine):
        barrier.wait(PATIENCE_S)
        waiter.start()
        assert refused.wait(PATIENCE_S)
    waiter.join(PATIENCE_S)


def test_a_pickled_one_locks_the_same(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with locks.holding(3):
        assert not is_free(pickle.loads(pickle.dumps(locks)), 3)


def test_it_is_opened_once_a_process(tmp_path: Path) -> None:
    def num_open() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = num_open()
    kept = [Locks(tmp_path) for _ in range(20)]
    assert num_open() == before + 1
    del kept


def test_a_body_that_fails_frees_the_lock(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with pytest.raises(KeyError), locks.holding(3):
        raise KeyError
    with pytest.raises(KeyError), locks.trying(3):
        raise KeyError
    assert is_free(locks, 3)
    assert seen_elsewhere(tmp_path, 3)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Locks(tmp_path / "nowhere")
