"""service.batches: what waits together is done together; and reports, which use it."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.batches import Batches
from service.errors import KnownRevisionError, UnknownRunError
from service.runs import Runs
from service.schemas import ProgressIn, RunIn
from service.store import Store
from tests.service.conftest import report_body, run_body


class Work:
    """Doubles numbers, refuses negative ones, fails at 13; the first batch waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go_on = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        assert self.go_on.wait(30)
        if 13 in items:
            raise RuntimeError("thirteen")
        return [ValueError(item) if item < 0 else 2 * item for item in items]


async def ask(work: Work, items: Sequence[int], *, max_size: int = 64) -> list[int | BaseException]:
    """Ask for all items at once, the first of which is at work alone while the others come."""
    batches = Batches(work, key=lambda item: item % 100, max_size=max_size)
    calls = [asyncio.ensure_future(batches(item)) for item in items]
    while not work.batches:
        await asyncio.sleep(0)
    work.go_on.set()
    try:
        return await asyncio.gather(*calls, return_exceptions=True)
    finally:
        batches.close()


def test_what_waits_is_done_together() -> None:
    work = Work()
    assert asyncio.run(ask(work, range(1, 8), max_size=4)) == [2, 4, 6, 8, 10, 12, 14]
    assert work.batches == [[1, 2, 3, 4], [5, 6, 7]]


def test_two_of_one_key_are_done_one_after_the_other() -> None:
    work = Work()
    assert asyncio.run(ask(work, [1, 101, 2, 201])) == [2, 202, 4, 402]
    assert work.batches == [[1, 2], [101], [201]]


def test_an_error_is_that_of_one() -> None:
    answers = asyncio.run(ask(Work(), [1, -2, 3]))
    assert (answers[0], answers[2]) == (2, 6)
    assert isinstance(answers[1], ValueError)


def test_a_failure_is_that_of_its_batch_alone() -> None:
    answers = asyncio.run(ask(Work(), [1, 13, 2, 3], max_size=2))
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError, int, int]


def test_a_caller_that_has_gone_does_not_stop_the_others() -> None:
    async def leave() -> int:
        work = Work()
        batches = Batches(work, key=id, max_size=64)
        gone, stays = asyncio.ensure_future(batches(1)), asyncio.ensure_future(batches(2))
        while not work.batches:
            await asyncio.sleep(0)
        gone.cancel()
        work.go_on.set()
        answer = await stays
        with pytest.raises(asyncio.CancelledError):
            await gone
        batches.close()
        return answer

    assert asyncio.run(leave()) == 4


def test_of_reports_done_together_each_has_its_own_answer(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")
    runs = Runs(store, plan_cache_size=1)  # fewer plans than runs: a report needs none
    made = [runs.create(RunIn.model_validate(run_body()), actor="ada")[0].row.id for _ in range(3)]
    bodies = [report_body(5, 10), report_body(5, 30, known_revision=7), report_body(6, 20)]
    asked = [(run, ProgressIn.model_validate(body), "ada") for run, body in zip(made, bodies, strict=True)]
    first, second, third, unknown = runs.report_all([*asked, ("nope", asked[0][1], "ada")])
    assert isinstance(first, dict)
    assert isinstance(third, dict)
    assert (first["frontier"], third["frontier"]) == (10, 20)
    assert isinstance(second, KnownRevisionError)
    assert isinstance(unknown, UnknownRunError)
    assert [runs.state(run).row.frontier for run in made] == [10, 0, 20]
    assert [len(runs.events(run, after=0, limit=9)) for run in made] == [2, 1, 2]
    assert [len(runs.reports(run, start=0, limit=9)) for run in made] == [1, 0, 1]
    store.close()
