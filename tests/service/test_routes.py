"""The REST API over real HTTP: what each address answers, and how it refuses."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from mixer import ORDER_VERSION, Ledger, Plan, Revision, Schedule
from tests.service.conftest import RUN, edit_body, report_body, run_body

MakeRun = Callable[..., str]


def plan_of(body: dict[str, Any] = RUN) -> Plan:
    """The plan that a client computes for itself."""
    sizes = {name: body[name] for name in ("num_steps", "global_batch_size", "seq_len")}
    return Plan(Schedule.from_dict(body["schedule"], **sizes), corpora_of(body), data_seed=body["data_seed"])


def corpora_of(body: dict[str, Any]) -> dict[str, list[int]]:
    return {name: corpus["shard_sizes"] for name, corpus in body["corpora"].items()}


def problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """The problem of an answer, whose common fields are checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["type"] == f"urn:switchpoint:problem:{name}"
    assert found["status"] == status
    assert found["instance"] == answer.request.url.path
    assert found["title"]
    assert found["detail"]
    return found


def places(found: dict[str, Any]) -> list[str]:
    return [item["place"] for item in found["problems"]]


# -- runs


def test_create_and_get(api: httpx.Client) -> None:
    body = run_body()
    answer = api.post("/v1/runs", json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["revision"], made["frontier"], made["step"]) == (0, 0, None)
    assert made["corpora"]["code"] == {
        "origin": "code",
        "num_shards": 10,
        "num_samples": 4000,
        "max_epochs": None,
        "then": "refuse",
        "fingerprint": None,
    }
    assert answer.headers["location"] == f"/v1/runs/{made['id']}"
    assert api.get(answer.headers["location"]).json() == made


def test_the_same_definition_finds_the_run_as_it_stands(api: httpx.Client) -> None:
    body = run_body()
    made = api.post("/v1/runs", json=body).json()
    api.post(f"/v1/runs/{made['id']}/progress", json=report_body(3, 10))
    again = api.post("/v1/runs", json=body)
    assert again.status_code == 200
    assert again.json() == {**made, "frontier": 10, "step": 3}


def test_the_same_name_for_another_definition_is_refused(api: httpx.Client) -> None:
    body = run_body()
    made = api.post("/v1/runs", json=body).json()
    found = problem(api.post("/v1/runs", json={**body, "data_seed": 18, "seq_len": 64}), 409, "name-taken")
    assert found["run_id"] == made["id"]
    assert found["fields"] == ["data_seed", "seq_len"]


def test_a_malformed_run_has_all_problems_at_once(api: httpx.Client) -> None:
    body = run_body(num_steps="1000", global_batch_size=0, extra=1)
    body["corpora"]["code"]["shard_sizes"] = [10, -1]
    body["corpora"]["a/b"] = {"shard_sizes": [1]}
    found = problem(api.post("/v1/runs", json=body), 422, "invalid-request")
    assert set(places(found)) == {
        "$.num_steps",
        "$.global_batch_size",
        "$.extra",
        "$.corpora.code.shard_sizes[1]",
        "$.corpora.a/b",
    }


def test_a_wrong_schedule_has_all_problems_at_once(api: httpx.Client) -> None:
    body = run_body()
    body["schedule"]["phases"][0]["mixture"] = {"c5": 0.9}
    body["schedule"]["phases"][1]["start"] = "soon"
    body["corpora"]["math"]["then"] = "maths"
    found = problem(api.post("/v1/runs", json=body), 422, "invalid-schedule")
    assert set(places(found)) == {
        "$.corpora.math.then",
        "$.schedule.phases[0].mixture.c5",
        "$.schedule.phases[0].mixture",
        "$.schedule.phases[1].start",
    }
    assert "unknown corpus 'c5', there are c4, code, math" in found["detail"]


def test_a_run_that_repeats_beyond_its_cap_is_refused(api: httpx.Client) -> None:
    body = run_body()
    body["corpora"]["code"].update(shard_sizes=[100], max_epochs=1)
    found = problem(api.post("/v1/runs", json=body), 422, "repetition")
    assert found["corpus"] == "code"
    assert 600 < found["step"] < 1000


def test_runs_are_listed_in_pages(api: httpx.Client, make_run: MakeRun) -> None:
    made = [make_run().rpartition("/")[2] for _ in range(5)]
    seen, after = [], 0
    while after is not None:
        page = api.get("/v1/runs", params={"after": after, "limit": 2}).json()
        assert len(page["runs"]) <= 2
        seen += [run["id"] for run in page["runs"]]
        after = page["next"]
    assert seen[-5:] == made
    assert len(set(seen)) == len(seen)


def test_unknown_run(api: httpx.Client) -> None:
    for path in ("", "/schedule", "/weights?step=1", "/ledger", "/revisions", "/forecast", "/batches/0", "/progress"):
        problem(api.get(f"/v1/runs/nope{path}"), 404, "unknown-run")
    problem(api.post("/v1/runs/nope/progress", json=report_body(0, 1)), 404, "unknown-run")
    problem(api.post("/v1/runs/nope/revisions", json=edit_body()), 404, "unknown-run")


# -- what the plan says


def test_schedule_and_its_etag(api: httpx.Client, run: str) -> None:
    answer = api.get(f"{run}/schedule")
    assert answer.headers["etag"] == '"0"'
    assert answer.json()["phases"] == [
        {"start": "0ba", "mixture": {"c4": 1.0}},
        {
            "start": "600ba",
            "mixture": {"c4": 0.8, "code": 0.2},
            "ramp": {"shape": "linear", "length": "50ba"},
        },
    ]
    for known in ('"0"', '"7", W/"0"', "*"):
        unchanged = api.get(f"{run}/schedule", headers={"If-None-Match": known})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == '"0"'
    api.post(f"{run}/revisions", json=edit_body())
    changed = api.get(f"{run}/schedule", headers={"If-None-Match": '"0"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"1"')
    assert [phase["start"] for phase in changed.json()["phases"]] == ["0ba", "500ba"]


def test_weights_of_a_step(api: httpx.Client, run: str) -> None:
    plan = plan_of()
    for step in (0, 599, 600, 625, 999):
        answer = api.get(f"{run}/weights", params={"step": step}).json()
        assert answer == {"revision": 0, "step": step, "frozen": False, "weights": plan.weights(step)}


def test_weights_of_a_range(api: httpx.Client, run: str) -> None:
    plan = plan_of()
    answer = api.get(f"{run}/weights", params={"start": 500, "end": 800, "points": 4}).json()
    assert answer["steps"] == [500, 599, 699, 799]
    assert answer["weights"]["c4"] == [plan.weights(step)["c4"] for step in answer["steps"]]
    assert answer["weights"]["code"] == [plan.weights(step).get("code", 0) for step in answer["steps"]]
    assert answer["switchpoints"] == [600]
    every = api.get(f"{run}/weights", params={"start": 10, "end": 15, "points": 100}).json()
    assert every["steps"] == [10, 11, 12, 13, 14]
    whole = api.get(f"{run}/weights").json()
    assert (whole["start"], whole["end"], whole["steps"][-1]) == (0, 1000, 999)


@pytest.mark.parametrize(
    "query",
    [
        "start=5&end=5",
        "start=0&end=1001",
        "points=1",
        "points=100000",
        "step=1&start=0",
        "step=-1",
        "step=x",
    ],
)
def test_weights_that_make_no_sense(api: httpx.Client, run: str, query: str) -> None:
    assert problem(api.get(f"{run}/weights?{query}"), 422, "invalid-request")["problems"]


def test_a_step_the_run_does_not_have(api: httpx.Client, run: str) -> None:
    problem(api.get(f"{run}/weights?step=1000"), 404, "not-in-run")
    problem(api.get(f"{run}/batches/1000"), 404, "not-in-run")


def test_forecast(api: httpx.Client, run: str) -> None:
    plan = plan_of()
    answer = api.get(f"{run}/forecast", params={"step": 700}).json()
    assert answer["step"] == 700
    assert {name: item["samples"] for name, item in answer["corpora"].items()} == plan.drawn_before(700)
    whole = api.get(f"{run}/forecast").json()
    assert whole["step"] == 1000
    assert whole["corpora"]["code"]["tokens"] == plan.drawn_before(1000)["code"] * 32
    problem(api.get(f"{run}/forecast?step=1001"), 422, "invalid-request")


def test_the_course_of_a_run_has_its_corners(api: httpx.Client, run: str) -> None:
    plan = plan_of()
    assert api.get(f"{run}/forecast").json()["course"] is None
    course = api.get(f"{run}/forecast", params={"points": 20}).json()["course"]
    steps = course["steps"]
    assert steps == sorted(set(steps))
    assert {0, 599, 600, 650, 1000} <= set(steps)  # the switchpoint from both sides, the end of its ramp and of the run
    assert len(steps) <= 25
    for index, step in enumerate(steps):
        mixture = {name: weights[index] for name, weights in course["weights"].items() if weights[index]}
        assert mixture == {name: weight for name, weight in plan.weights(min(step, 999)).items() if weight}
        forecast = plan.forecast(step)
        assert {name: tokens[index] for name, tokens in course["tokens"].items()} == {
            name: item.tokens for name, item in forecast.items()
        }
        assert {name: epochs[index] for name, epochs in course["epochs"].items()} == {
            name: item.epochs for name, item in forecast.items()
        }
    problem(api.get(f"{run}/forecast?points=10001"), 422, "invalid-request")
    problem(api.get(f"{run}/forecast?points=1"), 422, "invalid-request")


def test_a_dry_run_can_show_the_course_that_would_be(api: httpx.Client, run: str) -> None:
    answer = api.post(f"{run}/revisions?dry_run=true&points=50", json=edit_body(effective_step=500)).json()
    course = answer["course"]
    place = course["steps"].index(500)
    assert [course["weights"]["code"][place - 1], course["weights"]["code"][place]] == [0.0, 0.5]
    assert course["tokens"]["code"][-1] == answer["after"]["code"]["tokens"]
    assert course["epochs"]["code"][-1] == answer["after"]["code"]["epochs"]


def test_reports_can_be_thinned(api: httpx.Client, run: str) -> None:
    for step in range(0, 700, 7):
        api.post(f"{run}/progress", json=report_body(step, step + 10, counts={"c4": 16 * step}))
    thin = api.get(f"{run}/progress", params={"points": 10}).json()
    assert [report["step"] for report in thin["reports"]] == list(range(63, 700, 70))
    assert thin["next"] is None
    assert [report["step"] for report in api.get(f"{run}/progress?points=10&start=680").json()["reports"]] == [686, 693]
    assert len(api.get(f"{run}/progress?points=1000").json()["reports"]) == 100


def test_batch_is_the_plans(api: httpx.Client, run: str) -> None:
    plan = plan_of()
    for step in (0, 630, 999):
        answer = api.get(f"{run}/batches/{step}").json()
        batch = plan.batch(step)
        assert answer["corpus"] == [plan.names[index] for index in batch.corpus]
        for field in ("ordinal", "epoch", "sample_id"):
            assert answer[field] == getattr(batch, field).tolist()
        assert answer["next"] is None


def test_batch_in_pages(api: httpx.Client, run: str) -> None:
    whole = api.get(f"{run}/batches/700").json()
    ids, start = [], 0
    while start is not None:
        page = api.get(f"{run}/batches/700", params={"start": start, "limit": 5}).json()
        assert page["end"] - page["start"] == len(page["sample_id"]) <= 5
        ids += page["sample_id"]
        start = page["next"]
    assert ids == whole["sample_id"]
    problem(api.get(f"{run}/batches/700?start=16"), 404, "not-in-run")


def test_reads_are_the_inverse_of_batches(api: httpx.Client, run: str) -> None:
    batch = api.get(f"{run}/batches/700").json()
    for slot in (0, 7, 15):
        path = f"{run}/samples/{batch['corpus'][slot]}/{batch['sample_id'][slot]}"
        reads = api.get(path, params={"start": 700, "end": 701}).json()
        assert reads["reads"] == [{"step": 700, "slot": slot}]
        assert {"step": 700, "slot": slot} in api.get(path).json()["reads"]
    problem(api.get(f"{run}/samples/c5/0"), 404, "not-in-run")
    problem(api.get(f"{run}/samples/code/4000"), 404, "not-in-run")


def test_reads_of_a_small_corpus_come_in_pages(api: httpx.Client, make_run: MakeRun) -> None:
    """A corpus of one sample fills a million slots: an answer holds some, and says where to go on."""
    body = {"corpora": {"one": {"shard_sizes": [1]}}, "global_batch_size": 1000, "num_steps": 100_000}
    path = make_run(**body, schedule={"phases": [{"start": 0, "mixture": {"one": 1.0}}]})
    page = api.get(f"{path}/samples/one/0").json()
    assert page["next"] == page["end"] == 1
    assert len(page["reads"]) == 1000
    after = api.get(f"{path}/samples/one/0", params={"start": page["next"], "limit": 3000}).json()
    assert [read["step"] for read in after["reads"][::1000]] == [1, 2, 3]
    assert after["next"] == 4


# -- revisions


def test_an_edit(api: httpx.Client, run: str) -> None:
    before = [api.get(f"{run}/weights?step={step}").json()["weights"] for step in (0, 499)]
    answer = api.post(f"{run}/revisions", json=edit_body())
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["etag"] == '"1"'
    assert (made["number"], made["parent"], made["effective_step"]) == (1, 0, 500)
    assert (made["author"], made["reason"], made["superseded"]) == ("ada", "more code", None)
    assert [api.get(f"{run}/weights?step={step}").json()["weights"] for step in (0, 499)] == before
    assert api.get(f"{run}/weights?step=500").json()["weights"] == {"c4": 0.5, "code": 0.5}
    listed = api.get(f"{run}/revisions").json()
    assert listed == {"current": 1, "revisions": [made], "next": None}
    assert api.get(run).json()["revision"] == 1


def test_an_edit_of_several_phases(api: httpx.Client, run: str) -> None:
    phases = [{"start": "500ba", "mixture": {"math": 1.0}}, {"start": "0.7dur", "mixture": {"c4": 1.0}}]
    body = edit_body(mixture=None, schedule={"phases": phases})
    assert api.post(f"{run}/revisions", json=body).status_code == 201
    found = [phase["start"] for phase in api.get(f"{run}/schedule").json()["phases"]]
    assert found == ["0ba", "500ba", "700ba"]


def test_if_match_names_the_parent(api: httpx.Client, run: str) -> None:
    body = edit_body(parent=None)
    assert places(problem(api.post(f"{run}/revisions", json=body), 422, "invalid-request")) == ["$.parent"]
    assert api.post(f"{run}/revisions", json=body, headers={"If-Match": '"0"'}).status_code == 201
    stale = api.post(f"{run}/revisions", json=body, headers={"If-Match": '"0"'})
    assert problem(stale, 409, "stale-parent")["current_revision"] == 1
    for header in ("*", "0", '"x"', '"0", "1"'):
        problem(api.post(f"{run}/revisions", json=body, headers={"If-Match": header}), 422, "invalid-request")
    both = api.post(f"{run}/revisions", json=edit_body(parent=1), headers={"If-Match": '"0"'})
    problem(both, 422, "invalid-request")


def test_a_stale_parent_is_refused(api: httpx.Client, run: str) -> None:
    api.post(f"{run}/revisions", json=edit_body())
    found = problem(api.post(f"{run}/revisions", json=edit_body(author="bob")), 409, "stale-parent")
    assert found["current_revision"] == 1
    problem(api.post(f"{run}/revisions", json=edit_body(parent=2)), 409, "stale-parent")


def test_a_frozen_step_is_refused(api: httpx.Client, run: str) -> None:
    assert api.post(f"{run}/progress", json=report_body(480, 510)).json()["frontier"] == 510
    found = problem(api.post(f"{run}/revisions", json=edit_body()), 409, "frozen-step")
    assert found["earliest_step"] == 510
    assert api.post(f"{run}/revisions", json=edit_body(effective_step=510)).status_code == 201


def test_a_wrong_edit_has_all_problems_at_once(api: httpx.Client, run: str) -> None:
    mixture = {"c4": 0.5, "cod": 0.2, "group": {"weight": 0.2, "parts": {"maths": 1.0}}}
    body = edit_body(mixture=mixture, ramp={"shape": "wavy", "length": "5ba"})
    found = problem(api.post(f"{run}/revisions", json=body), 422, "invalid-schedule")
    assert set(places(found)) == {
        "$.mixture.cod",
        "$.mixture.group.parts.maths",
        "$.mixture",
        "$.ramp.shape",
    }
    assert "did you mean 'code'?" in found["detail"]
    assert api.get(f"{run}/revisions").json()["revisions"] == []
    phases = [{"start": "500ba", "mixture": {"c4": 1.0}}, {"start": "400ba", "mixture": {"c9": 1.0}}]
    body = edit_body(mixture=None, schedule={"phases": phases})
    found = problem(api.post(f"{run}/revisions", json=body), 422, "invalid-schedule")
    assert set(places(found)) == {"$.schedule.phases[1].start", "$.schedule.phases[1].mixture.c9"}


@pytest.mark.parametrize(
    "changes",
    [
        {"mixture": None},
        {"schedule": {"phases": [{"start": "500ba", "mixture": {"c4": 1.0}}]}},
        {"mixture": {}},
        {"mixture": {"c4": "1.0"}},
        {"mixture": {"c4": True}},
        {"effective_step": 1000},
        {"effective_step": -1},
        {"reason": ""},
        {"author": 5},
        {"weights": {"c4": 1.0}},
    ],
)
def test_edits_that_make_no_sense(api: httpx.Client, run: str, changes: dict[str, Any]) -> None:
    answer = api.post(f"{run}/revisions", json=edit_body(**changes))
    assert answer.status_code == 422, answer.text
    assert answer.json()["problems"]
    assert api.get(f"{run}/revisions").json()["revisions"] == []


def test_a_dry_run_answers_and_stores_nothing(api: httpx.Client, run: str) -> None:
    before = [api.get(f"{run}{path}").json() for path in ("", "/schedule", "/revisions", "/forecast")]
    answer = api.post(f"{run}/revisions?dry_run=true", json=edit_body(), headers={"Idempotency-Key": "k"})
    assert answer.status_code == 200
    found = answer.json()
    assert found["dry_run"] is True
    assert found["before"] == before[3]["corpora"]
    assert [api.get(f"{run}{path}").json() for path in ("", "/schedule", "/revisions", "/forecast")] == before
    api.post(f"{run}/revisions", json=edit_body())
    assert api.get(f"{run}/forecast").json()["corpora"] == found["after"] != found["before"]
    assert api.get(f"{run}/schedule").json()["phases"] == found["phases"]


def test_a_dry_run_refuses_what_an_edit_refuses(api: httpx.Client, run: str) -> None:
    api.post(f"{run}/progress", json=report_body(480, 510))
    path = f"{run}/revisions?dry_run=true"
    problem(api.post(path, json=edit_body()), 409, "frozen-step")
    problem(api.post(path, json=edit_body(parent=3, effective_step=600)), 409, "stale-parent")
    problem(api.post(path, json=edit_body(effective_step=600, mixture={"c4": 2})), 422, "invalid-schedule")


def test_an_idempotency_key(api: httpx.Client, run: str) -> None:
    headers = {"Idempotency-Key": "a-key"}
    first = api.post(f"{run}/revisions", json=edit_body(), headers=headers)
    again = api.post(f"{run}/revisions", json=edit_body(), headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = api.post(f"{run}/revisions", json=edit_body(author="bob"), headers=headers)
    problem(other, 422, "idempotency-key-reused")
    assert len(api.get(f"{run}/revisions").json()["revisions"]) == 1


def test_a_refused_edit_leaves_its_key_free(api: httpx.Client, run: str) -> None:
    headers = {"Idempotency-Key": "a-key"}
    assert api.post(f"{run}/revisions", json=edit_body(parent=9), headers=headers).status_code == 409
    assert api.post(f"{run}/revisions", json=edit_body(), headers=headers).status_code == 201


def test_revisions_are_listed_in_pages(api: httpx.Client, run: str) -> None:
    for parent in range(5):
        body = edit_body(parent=parent, effective_step=500 + parent)
        assert api.post(f"{run}/revisions", json=body).status_code == 201
    numbers, after = [], 0
    while after is not None:
        page = api.get(f"{run}/revisions", params={"after": after, "limit": 2}).json()
        numbers += [item["number"] for item in page["revisions"]]
        after = page["next"]
    assert numbers == [1, 2, 3, 4, 5]


def test_the_ledger_is_all_that_a_plan_needs(api: httpx.Client, make_run: MakeRun) -> None:
    run = make_run()
    api.post(f"{run}/revisions", json=edit_body())
    api.post(f"{run}/progress", json=report_body(600, 620))  # it had passed step 500 without the edit
    api.post(f"{run}/revisions", json=edit_body(effective_step=700))
    found = api.get(f"{run}/ledger").json()
    assert found["id"] == run.rpartition("/")[2]
    assert (found["revision"], found["frontier"], found["step"]) == (2, 620, 600)
    assert found["order_version"] == ORDER_VERSION
    assert [bool(revision["superseded"]) for revision in found["revisions"]] == [True, False]

    definition = found["definition"]
    sizes = {name: definition[name] for name in ("num_steps", "global_batch_size", "seq_len")}
    revisions = [Revision.from_dict(revision) for revision in found["revisions"]]
    ledger = Ledger(base=Schedule.from_dict(definition["schedule"], **sizes)).extend(revisions)
    plan = Plan(ledger.schedule, corpora_of(definition), data_seed=definition["data_seed"])
    for step in (599, 650, 800):
        batch = api.get(f"{run}/batches/{step}").json()
        assert plan.batch(step).sample_id.tolist() == batch["sample_id"]


def test_the_tag_of_a_ledger_changes_with_all_that_is_in_it(api: httpx.Client, make_run: MakeRun) -> None:
    run, tags = make_run(), []

    def look() -> None:
        tags.append(api.get(f"{run}/ledger").headers["etag"])

    look()
    api.post(f"{run}/revisions", json=edit_body())
    look()
    api.post(f"{run}/progress", json=report_body(600, 620))  # supersedes it: the revision in force is 0 again
    look()
    api.post(f"{run}/progress", json=report_body(610, 620))
    look()
    assert len(set(tags)) == 4
    for known, status in ((tags[-1], 304), (f"W/{tags[-1]}", 304), ("*", 304), (tags[0], 200)):
        answer = api.get(f"{run}/ledger", headers={"If-None-Match": known})
        assert (answer.status_code, answer.headers["etag"]) == (status, tags[-1])
        assert bool(answer.content) == (status == 200)


# -- what surrounds them


def test_bodies_over_the_limit(api: httpx.Client) -> None:
    big = b'{"name": "' + b"x" * 17 * 2**20
    problem(api.post("/v1/runs", content=big, headers={"Content-Type": "application/json"}), 413, "body-too-large")

    def pieces() -> Any:
        for _ in range(17):
            yield b" " * 2**20

    chunked = api.post("/v1/runs", content=pieces(), headers={"Content-Type": "application/json"})
    problem(chunked, 413, "body-too-large")


def test_what_is_not_json(api: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    problem(api.post("/v1/runs", content=b"{", headers=headers), 422, "invalid-request")
    problem(api.post("/v1/runs", content=b"\xff", headers=headers), 400, "bad-request")


@pytest.mark.parametrize("depth", [50, 400, 900, 100_000])
def test_deeply_nested_json_is_no_fault_of_the_service(api: httpx.Client, run: str, depth: int) -> None:
    mixture = '{"weight": 1, "parts": {"c4": ' * depth + "1" + "}}" * depth
    body = f'{{"parent": 0, "effective_step": 5, "reason": "r", "author": "a", "mixture": {{"g": {mixture}}}}}'
    answer = api.post(f"{run}/revisions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (201, 400, 422), answer.text


def test_unknown_addresses_and_methods(api: httpx.Client, run: str) -> None:
    problem(api.get("/v1/nothing"), 404, "not-found")
    problem(api.delete(run), 405, "method-not-allowed")


def test_health_readiness_and_metrics(api: httpx.Client, run: str) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    assert api.get("/readyz").json() == {"status": "ready"}
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "switchpoint_requests_total{" in answer.text
