"""service.runs and service.edits: freezing, outages, and what is superseded."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer import FrozenStepError, Ledger, Plan, Revision, StaleParentError
from service.edits import base_schedule, make_plan, passed_over
from service.runs import Runs
from service.schemas import ProgressIn, RevisionIn, RunIn
from service.store import Store
from tests.service.conftest import edit_body, report_body, run_body

MakeRun = Callable[..., str]


def edit(api: httpx.Client, run: str, parent: int, effective_step: int, **changes: Any) -> int:
    """Make an edit that must be accepted; its number."""
    answer = api.post(f"{run}/revisions", json=edit_body(parent, effective_step, **changes))
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["number"]
    return number


def report(api: httpx.Client, run: str, *arguments: int, **changes: Any) -> dict[str, Any]:
    """Send a report that must be accepted; the answer."""
    answer = api.post(f"{run}/progress", json=report_body(*arguments, **changes))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# -- reports and freezing


def test_the_frontier_only_grows(api: httpx.Client, run: str) -> None:
    seen = [report(api, run, step, through)["frontier"] for step, through in ((0, 50), (10, 20), (60, 90))]
    assert seen == [50, 50, 90]
    assert api.get(run).json()["frontier"] == 90


def test_the_frontier_ends_with_the_run(api: httpx.Client, run: str) -> None:
    assert report(api, run, 990, 1200)["frontier"] == 1000
    assert report(api, run, 1000, 1200)["frontier"] == 1000
    answer = api.post(f"{run}/progress", json=report_body(1001, 1200))
    assert answer.json()["problems"][0]["place"] == "$.step"


def test_handed_out_is_frozen(api: httpx.Client, run: str) -> None:
    assert report(api, run, 10, 20, decided_through=35)["frontier"] == 35
    answer = api.post(f"{run}/progress", json=report_body(10, 20, decided_through=9))
    assert answer.status_code == 422


def test_the_trainer_gets_what_it_lacks(api: httpx.Client, run: str) -> None:
    assert report(api, run, 0, 10)["revisions"] == []
    edit(api, run, 0, 500)
    edit(api, run, 1, 400)
    answer = report(api, run, 5, 15)
    assert [item["number"] for item in answer["revisions"]] == [1, 2]
    assert (answer["revision"], answer["superseded"]) == (2, [])
    assert [item["number"] for item in report(api, run, 5, 15, 1)["revisions"]] == [2]
    assert report(api, run, 5, 15, 2)["revisions"] == []


def test_the_answer_makes_the_services_schedule(api: httpx.Client, run: str) -> None:
    """A trainer that extends its ledger by what it gets has the schedule that everybody sees."""
    body = run_body()
    ledger = Ledger(base=base_schedule(RunIn.model_validate(body).model_dump()))
    edit(api, run, 0, 500)
    edit(api, run, 1, 450, ramp={"shape": "cosine", "length": "30ba"})
    revisions = [Revision.from_dict(item) for item in report(api, run, 5, 15)["revisions"]]
    ours = ledger.extend(revisions).schedule.to_dict()["phases"]
    assert ours == api.get(f"{run}/schedule").json()["phases"]


def test_reports_are_kept_by_step(api: httpx.Client, run: str) -> None:
    report(api, run, 20, 30, metrics={"loss": 2.5}, counts={"c4": 320})
    report(api, run, 10, 30, metrics={"loss": 3.5})
    report(api, run, 10, 30, metrics={"loss": 3.25, "grad_norm": None}, counts={"c4": 160, "code": 0})
    page = api.get(f"{run}/progress", params={"limit": 1}).json()
    assert page["next"] == 20
    (first,) = page["reports"]
    assert (first["step"], first["frontier"], first["known_revision"]) == (10, 30, 0)
    assert (first["metrics"], first["counts"]) == (
        {"loss": 3.25, "grad_norm": None},
        {"c4": 160, "code": 0},
    )
    rest = api.get(f"{run}/progress", params={"start": page["next"]}).json()
    assert [(item["step"], item["counts"]) for item in rest["reports"]] == [(20, {"c4": 320})]
    assert rest["next"] is None


def test_a_loss_that_is_no_number_is_kept_as_null(api: httpx.Client, run: str) -> None:
    content = '{"step": 3, "freeze_through": 9, "known_revision": 0, "metrics": {"loss": NaN, "norm": Infinity}}'
    answer = api.post(f"{run}/progress", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert api.get(f"{run}/progress").json()["reports"][0]["metrics"] == {"loss": None, "norm": None}


def test_counts_of_an_unknown_corpus(api: httpx.Client, run: str) -> None:
    answer = api.post(f"{run}/progress", json=report_body(3, 9, counts={"c5": 1}))
    assert answer.status_code == 422
    assert answer.json()["problems"][0]["place"] == "$.counts.c5"
    assert api.get(f"{run}/progress").json()["reports"] == []


# -- outages


def test_an_edit_the_trainer_passed_is_superseded(api: httpx.Client, run: str) -> None:
    report(api, run, 90, 100)
    before = api.get(f"{run}/schedule").json()
    edit(api, run, 0, 150)  # the trainer cannot hear of it
    answer = report(api, run, 300, 320, 0, decided_through=310)
    assert answer["superseded"] == [1]
    assert (answer["revision"], answer["frontier"]) == (0, 320)
    assert "passed step 150 under revision 0" in answer["revisions"][0]["superseded"]
    assert api.get(f"{run}/schedule").json() == before
    history = api.get(f"{run}/revisions").json()
    assert history["current"] == 0
    assert history["revisions"][0]["superseded"] == answer["revisions"][0]["superseded"]
    assert history["revisions"][0]["superseded_time"] is not None


def test_an_edit_beyond_what_was_handed_out_stays_in_force(api: httpx.Client, run: str) -> None:
    report(api, run, 90, 100)
    edit(api, run, 0, 310)
    answer = report(api, run, 300, 320, 0, decided_through=310)
    assert (answer["superseded"], answer["revision"]) == ([], 1)
    assert [item["superseded"] for item in answer["revisions"]] == [None]


def test_what_was_made_after_a_superseded_edit_goes_with_it(api: httpx.Client, run: str) -> None:
    edit(api, run, 0, 50)
    report(api, run, 20, 100)
    edit(api, run, 1, 150)
    edit(api, run, 2, 800)
    answer = report(api, run, 300, 320, 1, decided_through=310)
    assert answer["superseded"] == [2, 3]
    assert "made after revision 2" in answer["revisions"][1]["superseded"]
    assert answer["revision"] == 1


def test_numbers_go_on_after_superseded_ones(api: httpx.Client, run: str) -> None:
    edit(api, run, 0, 150)
    report(api, run, 300, 320, 0)
    stale = api.post(f"{run}/revisions", json=edit_body(1, 500))  # its author still looks at revision 1
    assert (stale.status_code, stale.json()["current_revision"]) == (409, 0)
    assert edit(api, run, 0, 500) == 2
    answer = report(api, run, 320, 340, 1, superseded=[1])
    assert [(item["number"], item["parent"]) for item in answer["revisions"]] == [(2, 0)]
    assert api.get(f"{run}/schedule").headers["etag"] == '"2"'


def test_a_lost_answer_changes_nothing(api: httpx.Client, run: str) -> None:
    """The service froze and answered, the trainer never heard: it asks again and gets the same."""
    edit(api, run, 0, 150)
    first = report(api, run, 100, 200)
    assert report(api, run, 100, 200) == first
    assert (first["revision"], first["superseded"]) == (1, [])


def test_a_rerun_from_a_checkpoint_sees_what_was_in_force(api: httpx.Client, run: str) -> None:
    """The trainer went to step 900 under an edit, crashed, and starts again before that edit."""
    report(api, run, 100, 120)
    edit(api, run, 0, 150)
    report(api, run, 900, 920, 1, decided_through=920)
    answer = report(api, run, 100, 120, 0, decided_through=120)
    assert (answer["frontier"], answer["revision"], answer["superseded"]) == (920, 1, [])


def test_a_ledger_of_an_abandoned_lineage_is_refused(api: httpx.Client, run: str) -> None:
    edit(api, run, 0, 150)
    report(api, run, 200, 220, 1, decided_through=220)  # one trainer went on under revision 1
    report(api, run, 200, 220, 0, decided_through=220)  # another, from an older checkpoint, without it
    answer = api.post(f"{run}/progress", json=report_body(300, 320, 1, superseded=[]))
    assert answer.status_code == 409
    assert answer.json()["type"].endswith("revision-not-in-force")
    assert answer.json()["current_revision"] == 0
    assert report(api, run, 300, 320, 1, superseded=[1])["frontier"] == 320


def test_a_revision_the_service_never_had_is_refused(api: httpx.Client, run: str) -> None:
    answer = api.post(f"{run}/progress", json=report_body(3, 9, 4))
    assert (answer.status_code, answer.json()["known_revision"]) == (409, 4)
    assert api.get(run).json()["frontier"] == 0


# -- the same as properties


@st.composite
def histories(draw: st.DrawFn) -> list[Revision]:
    steps = draw(st.lists(st.integers(0, 20), max_size=8))
    gone = draw(st.lists(st.booleans(), min_size=len(steps), max_size=len(steps)))
    return [
        Revision(
            number=index + 1,
            parent=index,
            effective_step=step,
            schedule={},
            author="a",
            reason="r",
            time="t",
            superseded="earlier" if lost else None,
        )
        for index, (step, lost) in enumerate(zip(steps, gone, strict=True))
    ]


@given(histories(), st.integers(0, 9), st.integers(0, 21))
def test_passed_over_is_a_tail_that_begins_with_a_passed_edit(
    history: list[Revision], known: int, decided: int
) -> None:
    open_ones = [item for item in history if item.number > known and item.superseded is None]
    passed = [item.number for item in open_ones if item.effective_step < decided]
    found = passed_over(history, known_revision=known, decided_through=decided)
    expected = [item.number for item in open_ones if passed and item.number >= passed[0]]
    assert list(found) == expected


def stands(plan: Plan, step: int) -> tuple[list[int], list[int]]:
    """The corpus and the sample in each slot of a step."""
    batch = plan.batch(step)
    return batch.corpus.tolist(), batch.sample_id.tolist()


class Trainer:
    """A trainer that hands out steps by its ledger, hears from the service or not, and remembers what it did."""

    def __init__(self, definition: Mapping[str, Any], ledger: Ledger) -> None:
        self.definition = definition
        self.ledger = ledger
        self.step = 0
        self.frontier = 0
        self.handed_out: list[tuple[list[int], list[int]]] = []

    def work(self, count: int, *, away: bool) -> None:
        """Hand out steps: below the frontier only, or on and on while the service is away."""
        last = min(self.ledger.base.num_steps, len(self.handed_out) + count)
        last = last if away else min(last, self.frontier)
        plan = make_plan(self.definition, self.ledger.schedule)
        while len(self.handed_out) < last:
            self.handed_out.append(stands(plan, len(self.handed_out)))
        self.frontier = max(self.frontier, len(self.handed_out))
        self.step = max(self.step, len(self.handed_out) - 2)

    def body(self) -> ProgressIn:
        known = self.ledger.number
        gone = [item.number for item in self.ledger.revisions if item.superseded is not None]
        decided = max(self.step, self.frontier)
        return ProgressIn(
            step=self.step,
            freeze_through=self.step + 5,
            known_revision=known,
            decided_through=decided,
            superseded=gone,
        )

    def hear(self, answer: dict[str, Any]) -> None:
        self.ledger = self.ledger.extend([Revision.from_dict(item) for item in answer["revisions"]])
        self.frontier = max(self.frontier, answer["frontier"])


@contextmanager
def fresh_runs() -> Iterator[Runs]:
    with TemporaryDirectory() as folder:
        store = Store(Path(folder) / "a.db")
        yield Runs(store, plan_cache_size=2)
        store.close()


def edit_of(amount: int) -> dict[str, Any]:
    """A mixture, a change of the corpora, or both."""
    corpora = [
        None,
        {"c4": {"quarantine": {"samples": [[100 * amount, 2000 * amount]]}}},
        {"c4": {"skip": {"samples": 50 * amount}}, "code": {"quarantine": {"shards": [amount % 10]}}},
    ][amount % 3]
    mixture = {"c4": 1 - amount / 10, "code": amount / 10} if corpora is None or amount > 6 else None
    return {"mixture": mixture, "corpora": corpora}


EVENTS = st.one_of(
    st.tuples(st.just("edit"), st.integers(-3, 25), st.integers(0, 10)),
    st.tuples(st.just("report"), st.sampled_from(["heard", "request lost", "answer lost"]), st.integers(0, 9)),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EVENTS, min_size=3, max_size=20))
def test_what_was_handed_out_is_what_the_service_shows(events: list[tuple[str, Any, int]]) -> None:
    """Edits, outages, lost requests and lost answers in any order: the record never differs from the deed."""
    body = run_body(num_steps=60, schedule={"phases": [{"start": 0, "mixture": {"c4": 1.0}}]})
    with fresh_runs() as runs:
        run_id = runs.create(RunIn.model_validate(body), actor="test")[0].row.id
        trainer = Trainer(runs.state(run_id).definition, runs.state(run_id).ledger)
        accepted: list[int] = []
        frontier = 0
        for kind, what, amount in [*events, ("report", "heard", 0)]:
            row = runs.state(run_id).row
            if kind == "edit":
                step = max(0, row.frontier + what)
                change = RevisionIn.model_validate(edit_body(None, step, **edit_of(amount)))
                if step < row.frontier:
                    with pytest.raises(FrozenStepError):
                        runs.revise(run_id, change, parent=row.revision, actor="test")
                elif step < 60:
                    accepted.append(runs.revise(run_id, change, parent=row.revision, actor="test")[0]["number"])
                    with pytest.raises(StaleParentError):
                        runs.revise(run_id, change, parent=row.revision, actor="test")
                continue
            if what != "request lost":
                answer = runs.report(run_id, trainer.body(), actor="test")
                if what == "heard":
                    trainer.hear(answer)
            trainer.work(amount, away=what != "heard")
            state = runs.state(run_id)
            assert state.row.frontier >= frontier
            frontier = state.row.frontier
        trainer.hear(runs.report(run_id, trainer.body(), actor="test"))
        state = runs.state(run_id)
        assert [item.number for item in state.ledger.revisions] == accepted == list(range(1, len(accepted) + 1))
        assert trainer.ledger.schedule == state.ledger.schedule
        shown = [stands(state.plan, step) for step in range(len(trainer.handed_out))]
        assert shown == trainer.handed_out
