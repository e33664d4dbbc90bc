"""The record of a run, and what is new in it: claims, limits, forks, the stream of events."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from service.chain import replay
from tests.service.conftest import edit_body, report_body, run_body

Json = dict[str, Any]
MakeRun = Callable[..., str]
BOTH_DATABASES = True
LIMITS = {"code": {"max": 0.6}, "c4": {"min": 0.3, "max_change": 0.5}}


def record(api: httpx.Client, run: str) -> list[Json]:
    """All events of a run, which must hold together."""
    events: list[Json] = api.get(f"{run}/audit").json()["events"]
    row = api.get(run).json()
    found = replay(row["id"], events)
    assert (found.frontier, found.step) == (row["frontier"], row["step"])
    return events


def problem(answer: httpx.Response, status: int, name: str) -> Json:
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    assert found["type"] == f"urn:switchpoint:problem:{name}"
    return found


# -- the record


def test_every_change_is_an_event(api: httpx.Client, run: str) -> None:
    api.post(f"{run}/claim", json={"trainer": "here", "step": 0})
    api.post(f"{run}/revisions", json=edit_body(), params={"dry_run": True})  # changes nothing
    api.post(f"{run}/revisions", json=edit_body())
    api.post(f"{run}/revisions", json=edit_body(parent=7))  # refused
    api.post(f"{run}/progress", json=report_body(10, 20, claim=1))
    api.post(f"{run}/progress", json=report_body(600, 620, claim=1))  # passes revision 1 without it
    api.put(f"{run}/limits", json={"limits": LIMITS, "reason": "care"})
    events = record(api, run)
    kinds = ["created", "claimed", "revised", "reported", "reported", "limited"]
    assert [event["kind"] for event in events] == kinds
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert {event["actor"] for event in events} == {"anonymous"}
    assert list(events[4]["body"]["superseded"]) == ["1"]
    assert events[5]["body"] == {"limits": LIMITS, "reason": "care"}


def test_a_repeated_request_is_one_event(api: httpx.Client, run: str) -> None:
    for _ in range(3):
        api.post(f"{run}/revisions", json=edit_body(), headers={"Idempotency-Key": "k"})
    assert [event["kind"] for event in record(api, run)] == ["created", "revised"]


def test_the_record_comes_in_pages(api: httpx.Client, run: str) -> None:
    for step in range(1, 5):
        api.post(f"{run}/progress", json=report_body(step, step))
    seen, after = [], 0
    while after is not None:
        page = api.get(f"{run}/audit", params={"after": after, "limit": 2}).json()
        seen += [event["seq"] for event in page["events"]]
        after = page["next"]
    assert seen == [1, 2, 3, 4, 5]
    everything = api.get("/v1/audit", params={"limit": 10_000}).json()["events"]
    assert [e["seq"] for e in everything if e["run"] == run.rpartition("/")[2]] == [1, 2, 3, 4, 5]
    keys = [event["key"] for event in everything]
    assert keys == sorted(keys)


def listen(api: httpx.Client, run: str, count: int, **arguments: Any) -> Iterator[tuple[str, str, Json]]:
    """(id, event, data) of so many server-sent events."""
    with api.stream("GET", f"{run}/events", **arguments) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            elif fields:
                yield fields["id"], fields["event"], json.loads(fields["data"])
                fields, count = {}, count - 1
                if not count:
                    return


def test_events_come_as_they_happen(api: httpx.Client, run: str) -> None:
    begun = threading.Timer(0.7, lambda: api.post(f"{run}/revisions", json=edit_body()))
    begun.start()
    ((number, kind, event),) = listen(api, run, 1)  # what was before is not told
    begun.join()
    assert (number, kind) == ("2", "revised")
    assert event == record(api, run)[1]


@pytest.mark.parametrize("by", [{"params": {"after": 1}}, {"headers": {"Last-Event-ID": "1"}}])
def test_events_go_on_where_somebody_was(api: httpx.Client, run: str, by: Json) -> None:
    for step in (1, 2, 3):
        api.post(f"{run}/progress", json=report_body(step, step))
    assert [number for number, _, _ in listen(api, run, 3, **by)] == ["2", "3", "4"]


def test_events_of_no_run(api: httpx.Client, run: str) -> None:
    problem(api.get("/v1/runs/none/events"), 404, "unknown-run")
    problem(api.get(f"{run}/events", headers={"Last-Event-ID": "x"}), 422, "invalid-request")


# -- claims


def test_the_second_trainer_is_refused(api: httpx.Client, run: str) -> None:
    first = api.post(f"{run}/claim", json={"trainer": "a", "step": 0})
    assert first.json() == {
        "claim": 1, "trainer": "a", "step": 0, "since": first.json()["since"], "frontier": 0, "revision": 0,
    }  # fmt: skip
    found = problem(api.post(f"{run}/claim", json={"trainer": "b", "step": 0}), 409, "claimed")
    assert (found["claim"], found["trainer"], found["since"]) == (1, "a", first.json()["since"])
    assert api.get(run).json()["claim"]["trainer"] == "a"


def test_a_restart_fences_off_its_predecessor(api: httpx.Client, run: str) -> None:
    for number in (1, 2):
        assert api.post(f"{run}/claim", json={"trainer": "a", "step": 0}).json()["claim"] == number
    found = problem(api.post(f"{run}/progress", json=report_body(5, 9, claim=1)), 409, "claim-lost")
    assert (found["claim"], found["trainer"]) == (2, "a")
    assert api.post(f"{run}/progress", json=report_body(5, 9, claim=2)).json()["frontier"] == 9
    problem(api.post(f"{run}/progress", json=report_body(6, 10)), 409, "claim-lost")
    assert api.get(run).json()["frontier"] == 9


def test_a_take_over_is_said(api: httpx.Client, run: str) -> None:
    api.post(f"{run}/claim", json={"trainer": "a", "step": 0})
    taken = api.post(f"{run}/claim", json={"trainer": "b", "step": 3, "take_over": True}).json()
    assert (taken["claim"], taken["trainer"], taken["step"]) == (2, "b", 3)
    problem(api.post(f"{run}/claim", json={"trainer": "a", "step": 0}), 409, "claimed")
    problem(api.post(f"{run}/progress", json=report_body(5, 9, claim=1)), 409, "claim-lost")


def test_a_run_that_nobody_claimed_takes_reports(api: httpx.Client, run: str) -> None:
    assert api.post(f"{run}/progress", json=report_body(5, 9)).status_code == 200
    problem(api.post(f"{run}/progress", json=report_body(5, 9, claim=1)), 409, "claim-lost")


# -- limits


@pytest.mark.parametrize(
    ("mixture", "ramp", "broken"),
    [
        ({"c4": 0.5, "code": 0.5}, None, []),
        ({"c4": 0.5, "code": 0.5}, {"shape": "linear", "length": "100ba"}, []),
        ({"c4": 0.3, "code": 0.7}, None, [("c4", "max_change", 0.5, 0.7, 500), ("code", "max", 0.6, 0.7, 500)]),
        ({"c4": 0.2, "math": 0.8}, None, [("c4", "max_change", 0.5, 0.8, 500), ("c4", "min", 0.3, 0.2, 500)]),
        # after 600 c4 was to have 0.8 anyway, so a slow ramp down is a small change at every step
        ({"c4": 0.4, "code": 0.6}, {"shape": "linear", "length": "400ba"}, []),
        # and this one breaks the limit on its way, at the step that arithmetic says: 0.8 − (1 − 0.75·offset/300) > 0.5
        ({"c4": 0.25, "math": 0.75}, {"shape": "linear", "length": "300ba"}, [("c4", "max_change"), ("c4", "min")]),
    ],
)
def test_limits_hold_edits(
    api: httpx.Client, make_run: MakeRun, mixture: Json, ramp: Json | None, broken: list[tuple[Any, ...]]
) -> None:
    run = make_run(limits=LIMITS)
    assert api.get(run).json()["limits"] == LIMITS
    body = edit_body(mixture=mixture, ramp=ramp)
    for dry_run in (True, False):
        answer = api.post(f"{run}/revisions", json=body, params={"dry_run": dry_run})
        if not broken:
            assert answer.is_success, answer.text
            continue
        found = problem(answer, 422, "limits")["limits"]
        names = ("corpus", "limit", "allowed", "found", "step")
        assert [tuple(item[name] for name in names)[: len(broken[0])] for item in found] == broken
    assert api.get(run).json()["revision"] == (0 if broken else 1)


def test_the_step_at_which_a_ramp_breaks_a_limit(api: httpx.Client, make_run: MakeRun) -> None:
    run = make_run(limits={"c4": {"min": 0.5}})
    body = edit_body(mixture={"c4": 0.0, "math": 1.0}, ramp={"shape": "linear", "length": "100ba"})
    (found,) = problem(api.post(f"{run}/revisions", json=body), 422, "limits")["limits"]
    # it goes down from 1 by 0.01 a step, in a hundred pieces; the first step of the ramp is one on the way already
    weights = {500 + offset: 1 - (offset + 1) / 100 for offset in range(100)}
    first = min(step for step, weight in weights.items() if weight < 0.5 - 1e-9)
    assert abs(found["step"] - first) <= 1
    assert found["found"] < 0.5


def test_a_run_must_keep_its_own_limits(api: httpx.Client) -> None:
    found = problem(api.post("/v1/runs", json=run_body(limits={"code": {"max": 0.1}})), 422, "limits")
    assert found["limits"][0]["corpus"] == "code"
    assert 600 <= found["limits"][0]["step"] < 650


def test_limits_are_not_part_of_the_definition(api: httpx.Client) -> None:
    body = run_body()
    made = api.post("/v1/runs", json=body).json()
    api.put(f"/v1/runs/{made['id']}/limits", json={"limits": LIMITS, "reason": "care"})
    again = api.post("/v1/runs", json=body)  # a trainer that starts again
    assert again.status_code == 200
    assert again.json()["limits"] == LIMITS


def test_limits_that_make_no_sense(api: httpx.Client, run: str) -> None:
    for limits in ({"c4": {"min": 0.5, "max": 0.4}}, {"c4": {"max": 1.5}}, {"c4": {"most": 1}}, {"c5": {"max": 1}}):
        problem(api.put(f"{run}/limits", json={"limits": limits, "reason": "?"}), 422, "invalid-request")
    problem(api.put(f"{run}/limits", json={"limits": {}}), 422, "invalid-request")  # no reason


# -- forks


def fork(api: httpx.Client, run: str, **changes: Any) -> httpx.Response:
    body = {"name": run_body()["name"], "step": 550, "author": "ada", "reason": "try more", **changes}
    return api.post(f"{run}/fork", json=body)


def test_a_fork_shares_the_past_and_goes_on_by_itself(api: httpx.Client, run: str) -> None:
    api.post(f"{run}/revisions", json=edit_body())
    made = fork(api, run)
    assert made.status_code == 201
    other = made.headers["location"]
    assert made.json()["parent"] == {"run": run.rpartition("/")[2], "step": 550}
    assert (made.json()["frontier"], made.json()["revision"]) == (550, 1)
    api.post(f"{other}/revisions", json=edit_body(1, 560, mixture={"math": 1.0}))
    for step in (0, 499, 500, 549, 559, 560, 999):
        same = (
            api.get(f"{run}/batches/{step}").json()["sample_id"]
            == api.get(f"{other}/batches/{step}").json()["sample_id"]
        )
        assert same == (step < 560)
    problem(api.post(f"{other}/revisions", json=edit_body(2, 549)), 409, "frozen-step")
    assert [event["kind"] for event in record(api, other)] == ["forked", "revised"]
    assert api.get(run).json()["revision"] == 1  # its parent does not know of it


def test_a_fork_that_reads_what_its_parent_has_not(api: httpx.Client, run: str) -> None:
    other = fork(api, run, replay="unseen", until=700).headers["location"]
    parent = {row for step in range(550, 700) for row in rows_of(api, run, step)}
    assert parent.isdisjoint(row for step in (550, 600, 699) for row in rows_of(api, other, step))


def rows_of(api: httpx.Client, run: str, step: int) -> set[tuple[str, int, int]]:
    batch = api.get(f"{run}/batches/{step}").json()
    return set(zip(batch["corpus"], batch["epoch"], batch["sample_id"], strict=True))


def test_forks_that_cannot_be(api: httpx.Client, run: str) -> None:
    name = api.get(run).json()["name"]
    problem(fork(api, run, name=name), 409, "name-taken")
    problem(fork(api, run, step=1000), 422, "invalid-schedule")
    problem(fork(api, "/v1/runs/none"), 404, "unknown-run")
