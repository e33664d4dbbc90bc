"""The compiled path: bit for bit what NumPy says; loaded when it pays, and never missed where it is missing."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer import Ledger, MixerError, Plan, Schedule, compiled
from mixer.apportion import Stretch
from mixer.compiled import FillBatch, Windows
from mixer.epochs import Run, sample_ids
from mixer.keys import random_words
from mixer.permutation import MAX_SIZE
from tests.mixer.test_apportion import stretches
from tests.strategies import corpus_changes, schedules, shard_sizes

pytest.importorskip("numba")

WORDS = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def fill_batch() -> FillBatch:
    loaded = compiled.load()
    assert loaded is not None
    return loaded


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A process that has picked nothing yet."""
    monkeypatch.setattr(compiled, "_num_picked", 0)
    monkeypatch.setattr(compiled, "_loaded", None)
    monkeypatch.setattr(compiled, "_is_decided", False)
    return monkeypatch


@st.composite
def runs(draw: st.DrawFn, length: int) -> list[Run]:
    """`length` ordinals in one to three windows of any size, whose segments may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, length), max_size=2)))
    made = []
    for start, end in pairwise([0, *cuts, length]):
        least = max(end - start, 1)
        size = draw(st.integers(least, least + 50) | st.integers(least, MAX_SIZE))
        ends = np.array([*sorted(draw(st.lists(st.integers(0, size), max_size=20))), size])
        sample_ends, strides = (
            np.array(draw(st.lists(numbers, min_size=len(ends), max_size=len(ends))))
            for numbers in (st.integers(0, 2**40), st.sampled_from([1, 2]))
        )
        epoch, key, offset = draw(st.integers(0, 2**40)), draw(WORDS), draw(st.integers(0, size - (end - start)))
        made.append(Run(epoch, key, size, offset, end - start, ends, sample_ends, strides))
    return made


@settings(max_examples=300)
@given(stretches(), st.integers(1, 70), st.integers(0, 10**12) | st.integers(0, 50), WORDS, WORDS, st.data())
def test_any_batch_is_what_numpy_makes_of_it(
    fill_batch: FillBatch,
    case: tuple[Stretch, list[int]],
    batch_size: int,
    start: int,
    low: int,
    high: int,
    data: st.DataObject,
) -> None:
    stretch, _ = case
    step = data.draw(st.integers(0, 2**63 - 1))
    drawn = [data.draw(st.integers(0, 2**40)) for _ in range(stretch.num_corpora)]
    begin, end = stretch.counts(start), stretch.counts(start + batch_size)
    made = [data.draw(runs(b - a)) if b > a else [] for a, b in zip(begin, end, strict=True)]
    firsts = [d + a for d, a in zip(drawn, begin, strict=True)]

    expected = np.empty((4, batch_size), np.int64)  # by draw
    for corpus, rank, places in stretch.pick(start, batch_size):
        expected[0, places] = corpus
        expected[1, places] = drawn[corpus] + rank + np.arange(len(places))
        expected[2, places] = np.repeat([run.epoch for run in made[corpus]], [run.length for run in made[corpus]])
        expected[3, places] = np.concatenate([sample_ids([run]) for run in made[corpus]])
    words = random_words(high << 64 | low, step, batch_size)

    out = np.empty((4, batch_size), np.int64)
    slots = (np.uint64(low), np.uint64(high), np.uint64(step))
    windows = Windows.of(list(zip(firsts, made, strict=True)))
    assert fill_batch(stretch.arrays, np.array(drawn), start, slots, tuple(windows), out) == -1
    assert np.array_equal(out, expected[:, np.argsort(words, kind="stable")])


@given(st.lists(st.sampled_from([0, 1, 2**63, 2**64 - 1]) | WORDS, max_size=40))
def test_words_that_are_equal_stay_in_their_order(words: list[int]) -> None:
    from mixer import kernels

    array = np.array(words, np.uint64)
    order = kernels.argsort.py_func(array)  # too rare to be seen in a batch
    assert np.array_equal(order, np.argsort(array, kind="stable"))


@given(schedules(max_steps=40), st.data())
def test_plans_are_the_same_in_any_order_of_steps_and_with_changes(
    fill_batch: FillBatch, schedule: Schedule, data: st.DataObject
) -> None:
    shapes = {name: data.draw(shard_sizes()) for name in schedule.names}
    plan = Plan(schedule, shapes, data_seed=5, shuffle_window=2)
    ledger = Ledger(base=schedule)
    for verb in data.draw(st.lists(st.sampled_from(["quarantine", "skip", "grow", "split", "rename"]), max_size=3)):
        change = {"corpora": data.draw(corpus_changes(verb, shapes, {}))}
        step = data.draw(st.integers(0, schedule.num_steps - 1))
        by = {"author": "ada", "reason": "", "time": ""}
        proposed = ledger.propose(change, parent=ledger.in_force, effective_step=step, frontier=0, **by)
        try:
            plan, ledger = Plan(proposed.schedule, shapes, data_seed=5, shuffle_window=2), proposed
        except MixerError:
            continue
    for step in [*range(schedule.num_steps), *data.draw(st.lists(st.integers(0, schedule.num_steps - 1)))]:
        assert_same(plan, step, fill_batch)


def test_a_corpus_that_comes_to_the_end_of_its_windows_is_looked_up_again(fill_batch: FillBatch) -> None:
    schedule = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"a": 0.75, "b": 0.25}}]},
        num_steps=1000,
        global_batch_size=64,
        seq_len=8,
    )
    plan = Plan(schedule, {"a": [500] * 9, "b": [3] * 50}, data_seed=5, shuffle_window=3)
    looked_up: list[int] = []

    def noted(*arguments: object) -> int:
        looked_up.append(fill_batch(*arguments))
        return looked_up[-1]

    for step in range(1000):
        assert_same(plan, step, noted)
    assert sum(missing >= 0 for missing in looked_up) == -(-1000 // compiled.AHEAD)


def test_nothing_is_looked_up_that_will_not_be_read(fill_batch: FillBatch) -> None:
    """Behind the end of a stretch a corpus may have nothing left to read."""
    schedule = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"a": 0.5, "b": 0.5}}]}, num_steps=10, global_batch_size=4, seq_len=8
    )
    change = {"mixture": {"b": 1}, "corpora": {"a": {"quarantine": {"shards": [0]}}}}
    by = {"author": "ada", "reason": "", "time": ""}
    ledger = Ledger(base=schedule).propose(change, parent=0, effective_step=5, frontier=0, **by)
    plan = Plan(ledger.schedule, {"a": [20], "b": [20]}, data_seed=5)
    for step in range(10):
        assert_same(plan, step, fill_batch)


def assert_same(plan: Plan, step: int, fill_batch: FillBatch) -> None:
    segment = plan._segment(step)
    plan._filler._is_trusted = True  # else it would give NumPy's answer where they differ
    filled = plan._filler.fill(fill_batch, plan._place(step, segment), lambda: pytest.fail("not needed"))
    assert np.array_equal(filled, plan._columns(step, segment))


def test_numpy_works_until_loading_pays(fill_batch: FillBatch, undecided: pytest.MonkeyPatch) -> None:
    assert compiled.fill_batch(compiled.WORTH_LOADING - 1) is None
    assert compiled.fill_batch(1) is fill_batch


def test_a_loader_worker_never_compiles(undecided: pytest.MonkeyPatch) -> None:
    worker = multiprocessing.get_context("fork").Process(target=exit_with_whether_compiled, daemon=True)
    worker.start()
    worker.join()
    assert worker.exitcode == 0


def exit_with_whether_compiled() -> None:
    sys.exit(compiled.fill_batch(compiled.WORTH_LOADING) is not None)


def test_code_that_picks_other_samples_than_numpy_is_not_used(
    fill_batch: FillBatch, undecided: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"a": 1}}]}, num_steps=2, global_batch_size=4, seq_len=8
    )
    plan = Plan(schedule, {"a": [9]}, data_seed=5)
    right = plan.batch(1).sample_id

    def wrong(*arguments: Any) -> int:
        missing = fill_batch(*arguments)
        arguments[-1][3, 2] += 1
        return missing

    compiled.use(wrong)
    assert np.array_equal(plan.batch(1).sample_id, right)
    assert compiled.fill_batch(compiled.WORTH_LOADING) is None
    assert [record.levelname for record in caplog.records] == ["ERROR"]


WITHOUT = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from mixer import compiled
assert not sys.modules.get('numba')
print([compiled.fill_batch(compiled.WORTH_LOADING) is None for _ in range(3)])
"""


def test_where_numba_is_missing_the_log_says_so_once() -> None:
    said = run_python("import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None\n" + WITHOUT)
    first, second = said.splitlines()
    assert first.startswith("samples are picked with NumPy, for numba cannot be used: ")
    assert second == "[True, True, True]"


@pytest.mark.soak
def test_where_nothing_can_be_kept_every_process_compiles(tmp_path: Path) -> None:
    shutil.copytree(Path(compiled.__file__).parent, tmp_path / "mixer", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "mixer" / "__pycache__").touch()
    said = run_python(WITHOUT, cwd=tmp_path, env={**os.environ, "XDG_CACHE_HOME": "/dev/null", "PYTHONPATH": "."})
    first, second = said.splitlines()
    assert first.startswith("compiling in every process, for the result cannot be kept: ")
    assert second == "[False, False, False]"


def run_python(code: str, **where: Any) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **where).stdout
