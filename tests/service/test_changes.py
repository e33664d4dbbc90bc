"""Revisions that change corpora, over real HTTP: what they do, what every address then says, how they are refused."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer import Ledger, MixerError, Plan, Revision
from service.edits import base_schedule, corpora_names, make_plan
from service.runs import Runs
from service.schemas import MAX_LIST, RevisionIn, RunIn
from service.store import Store
from tests.service.conftest import edit_body, report_body, run_body
from tests.service.test_routes import places, problem

MakeRun = Callable[..., str]
STEP = 500

CHANGES: dict[str, dict[str, Any]] = {
    "quarantine samples": {"corpora": {"c4": {"quarantine": {"samples": [7, [100, 4000]]}}}},
    "quarantine shards": {"corpora": {"c4": {"quarantine": {"shards": [[0, 20], 39]}}}},
    "skip": {"corpora": {"c4": {"skip": {"samples": 640}}}},
    "grow": {"corpora": {"code": {"grow": {"first_shard": 10, "shard_sizes": [700, 300]}}}},
    "add": {"corpora": {"web": {"add": {"shard_sizes": [50, 60]}}}, "mixture": {"c4": 0.5, "web": 0.5}},
    "remove": {"corpora": {"code": {"remove": {}}}, "mixture": {"c4": 0.5, "math": 0.5}},
    "rename": {"corpora": {"web": {"rename": {"from": "c4"}}}},
    "split": {
        "corpora": {"python": {"split": {"from": "c4", "shards": [[0, 10]]}}},
        "mixture": {"c4": 0.5, "python": 0.5},
    },
    "all at once": {
        "corpora": {
            "c4": {"quarantine": {"samples": [[0, 500]]}},
            "code": {"grow": {"first_shard": 10, "shard_sizes": [900]}},
            "math": {"remove": {}},
            "web": {"add": {"shard_sizes": [40], "max_epochs": 2, "then": "c4"}},
        },
        "schedule": {
            "phases": [
                {"start": "500ba", "mixture": {"web": 0.5, "code": 0.5}},
                {"start": "700ba", "mixture": {"c4": 1.0}, "ramp": {"shape": "cosine", "length": "40ba"}},
            ]
        },
    },
}


def change_body(parent: int = 0, effective_step: int = STEP, **changes: Any) -> dict[str, Any]:
    """An edit that leaves the weights as they are, unless `changes` say otherwise."""
    return edit_body(parent, effective_step, **{"mixture": None, **changes})


def change(api: httpx.Client, run: str, *arguments: int, **changes: Any) -> dict[str, Any]:
    """Make an edit that must be accepted; the revision."""
    answer = api.post(f"{run}/revisions", json=change_body(*arguments, **changes))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def plan_of(api: httpx.Client, run: str) -> Plan:
    """The plan that a trainer makes for itself, of its own definition and the revisions that it is handed."""
    definition = RunIn.model_validate(run_body()).model_dump()
    answer = api.post(f"{run}/progress", json=report_body(0, 0)).json()
    ledger = Ledger(base=base_schedule(definition)).extend(map(Revision.from_dict, answer["revisions"]))
    return make_plan(definition, ledger.schedule)


def batch(api: httpx.Client, run: str, step: int) -> dict[str, list[Any]]:
    answer = api.get(f"{run}/batches/{step}").json()
    return {name: answer[name] for name in ("corpus", "ordinal", "epoch", "sample_id")}


def reads(api: httpx.Client, run: str, corpus: str, sample_id: int, **query: int) -> list[int]:
    """The steps that read a sample."""
    answer = api.get(f"{run}/samples/{corpus}/{sample_id}", params=query)
    assert answer.status_code == 200, answer.text
    return [read["step"] for read in answer.json()["reads"]]


# -- what a change does


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_moves_nothing_below_it_and_makes_the_trainers_plan(api: httpx.Client, run: str, name: str) -> None:
    before = {step: batch(api, run, step) for step in (0, 250, STEP - 1, STEP, 999)}
    made = change(api, run, **CHANGES[name])
    assert made["corpora"].keys() == CHANGES[name]["corpora"].keys()
    assert (made["schedule"] is None) == CHANGES[name].keys().isdisjoint({"mixture", "schedule"})
    assert api.get(f"{run}/revisions").json()["revisions"] == [made]
    plan = plan_of(api, run)
    for step, earlier in before.items():
        found, expected = batch(api, run, step), plan.batch(step)
        assert found["corpus"] == [plan.names[index] for index in expected.corpus]
        assert found["sample_id"] == expected.sample_id.tolist()
        assert (found["epoch"], found["ordinal"]) == (expected.epoch.tolist(), expected.ordinal.tolist())
        if step < STEP:
            assert found == earlier
    drawn = {name: item["samples"] for name, item in api.get(f"{run}/forecast").json()["corpora"].items()}
    assert drawn == plan.drawn_before(1000)
    assert api.get(f"{run}/weights?step=999").json()["weights"] == plan.weights(999)
    assert api.get(f"{run}/weights?points=50").json()["weights"].keys() <= set(plan.names)


def test_quarantined_samples_are_read_no_more(api: httpx.Client, run: str) -> None:
    early, late = batch(api, run, 100)["sample_id"][:2], batch(api, run, 550)["sample_id"][:2]
    below = [batch(api, run, step) for step in (100, 499)]
    later = batch(api, run, 550)
    change(api, run, corpora={"c4": {"quarantine": {"samples": early + late}}})
    assert [reads(api, run, "c4", sample) for sample in early] == [[100], [100]]
    assert [reads(api, run, "c4", sample) for sample in late] == [[], []]
    assert [batch(api, run, step) for step in (100, 499)] == below
    assert batch(api, run, 550)["corpus"] == later["corpus"]
    assert batch(api, run, 550)["sample_id"] != later["sample_id"]


def test_a_quarantined_shard_is_read_no_more(api: httpx.Client, run: str) -> None:
    early, late = (batch(api, run, step)["sample_id"][0] for step in (490, 510))
    change(api, run, corpora={"c4": {"quarantine": {"shards": [early // 500, late // 500]}}})
    assert (reads(api, run, "c4", early), reads(api, run, "c4", late)) == ([490], [])
    read = [sample for step in range(500, 1000, 25) for sample in batch(api, run, step)["sample_id"]]
    assert not {early // 500, late // 500} & {sample // 500 for sample in read}


def test_growth_brings_samples(api: httpx.Client, run: str) -> None:
    problem(api.get(f"{run}/samples/math/1500"), 404, "not-in-run")
    change(
        api,
        run,
        corpora={"math": {"grow": {"first_shard": 5, "shard_sizes": [40, 60]}}},
        mixture={"c4": 0.7, "math": 0.3},
    )
    assert [reads(api, run, "math", sample) != [] for sample in (1500, 1599)] == [True, True]
    problem(api.get(f"{run}/samples/math/1600"), 404, "not-in-run")
    found = api.get(run).json()["corpora"]["math"]
    assert (found["num_shards"], found["num_samples"]) == (7, 1600)
    again = change(api, run, 1, 600, corpora={"math": {"grow": {"first_shard": 7, "shard_sizes": [10]}}})
    assert again["schedule"] is None
    assert api.get(run).json()["corpora"]["math"]["num_samples"] == 1610


def test_a_corpus_that_was_added_is_known_everywhere(api: httpx.Client, run: str) -> None:
    body = change_body(**CHANGES["add"])
    preview = api.post(f"{run}/revisions?dry_run=true", json=body).json()
    assert (preview["before"]["web"]["samples"], preview["after"]["web"]["samples"]) == (0, 4000)
    assert preview["changes"] == [{"start": "500ba", "corpora": CHANGES["add"]["corpora"]}]
    assert "web" not in api.get(run).json()["corpora"]
    change(api, run, **CHANGES["add"])
    assert api.get(f"{run}/forecast").json()["corpora"] == preview["after"]
    schedule = api.get(f"{run}/schedule").json()
    assert (schedule["phases"], schedule["changes"]) == (preview["phases"], preview["changes"])
    assert api.get(run).json()["corpora"]["web"] == {
        "origin": "web",
        "num_shards": 2,
        "num_samples": 110,
        "max_epochs": None,
        "then": "refuse",
        "fingerprint": None,
    }
    assert api.get(f"{run}/weights?step=500").json()["weights"] == {"c4": 0.5, "web": 0.5}
    assert Counter(batch(api, run, 600)["corpus"]) == {"c4": 8, "web": 8}
    assert len(reads(api, run, "web", 109)) in (4000 // 110, 4000 // 110 + 1)
    assert api.post(f"{run}/progress", json=report_body(600, 610, 1, counts={"web": 800})).status_code == 200
    change(api, run, 1, 800, mixture={"web": 1.0})  # a later edit may name it too
    assert Counter(batch(api, run, 800)["corpus"]) == {"web": 16}


def test_a_corpus_that_was_removed_comes_back(api: httpx.Client, run: str) -> None:
    change(api, run, 0, 600, corpora={"code": {"remove": {}}}, mixture={"c4": 1.0})
    back = {"corpora": {"code": {"add": {"shard_sizes": [400] * 10}}}, "mixture": {"code": 1.0}}
    problem(api.post(f"{run}/revisions", json=change_body(1, 599, **back)), 422, "invalid-schedule")
    change(api, run, 1, 600, **back)
    assert Counter(batch(api, run, 600)["corpus"]) == {"code": 16}
    other = {"corpora": {"code": {"add": {"shard_sizes": [300] * 10}}}}
    problem(api.post(f"{run}/revisions", json=change_body(2, 700, **other)), 422, "invalid-schedule")


@pytest.mark.parametrize("name", CHANGES)
def test_the_names_of_corpora_are_known_without_the_plan(name: str) -> None:
    definition = RunIn.model_validate(run_body()).definition()
    edit = RevisionIn.model_validate(edit_body(0, STEP, **{"mixture": None, **CHANGES[name]})).change()
    ledger = Ledger(base=base_schedule(definition)).propose(
        edit, parent=0, effective_step=STEP, frontier=0, author="ada", reason="why", time="now"
    )
    assert corpora_names(definition, ledger.schedule) == make_plan(definition, ledger.schedule).names


def test_a_renamed_corpus_goes_on_under_its_new_name(api: httpx.Client, run: str) -> None:
    was = {step: batch(api, run, step) for step in (499, 500, 700)}
    change(api, run, corpora={"web": {"rename": {"from": "c4"}}})
    for step, earlier in was.items():
        found = batch(api, run, step)
        named = [("web" if step >= STEP and name == "c4" else name) for name in earlier["corpus"]]
        assert (found["corpus"], found["sample_id"]) == (named, earlier["sample_id"])
    sample = was[500]["sample_id"][0]
    answer = api.get(f"{run}/samples/web/{sample}").json()
    assert (answer["also_named"], [read["step"] for read in answer["reads"]]) == (["c4"], [500])
    assert reads(api, run, "c4", sample) == []
    assert api.get(f"{run}/samples/code/3").json()["also_named"] == []
    assert api.get(run).json()["corpora"]["web"]["origin"] == "c4"
    counts = {"c4": 8000, "web": 1600}
    assert api.post(f"{run}/progress", json=report_body(600, 610, 1, counts=counts)).status_code == 200
    assert api.get(f"{run}/progress").json()["reports"][0]["counts"] == counts


def test_a_part_that_was_split_off_is_read_under_its_own_name(api: httpx.Client, run: str) -> None:
    change(api, run, **CHANGES["split"])
    found = [batch(api, run, step) for step in range(500, 1000, 50)]
    pairs = [pair for one in found for pair in zip(one["corpus"], one["sample_id"], strict=True)]
    assert {sample < 5000 for name, sample in pairs if name == "python"} == {True}
    assert {sample < 5000 for name, sample in pairs if name == "c4"} == {False}


def test_a_quarantine_of_all_but_one_sample_still_answers_in_pages(api: httpx.Client, make_run: MakeRun) -> None:
    """The places of one answer are counted by what is read, not by what the shards hold."""
    body = {"corpora": {"one": {"shard_sizes": [1000]}}, "global_batch_size": 1000, "num_steps": 100}
    path = make_run(**body, schedule={"phases": [{"start": 0, "mixture": {"one": 1.0}}]})
    change(api, path, 0, 10, corpora={"one": {"quarantine": {"samples": [[0, 7], [8, 1000]]}}})
    answer = api.get(f"{path}/samples/one/7", params={"start": 10}).json()
    assert (len(answer["reads"]), answer["next"]) == (1000, 11)
    assert reads(api, path, "one", 8, end=10) == list(range(10))
    assert reads(api, path, "one", 8, start=10, end=11) == []


def test_changes_of_the_run_itself(api: httpx.Client) -> None:
    """A run whose file says beforehand what changes: added here, it may be renamed later."""
    body = run_body()
    body["schedule"]["phases"][1]["mixture"] = {"c4": 0.8, "web": 0.2}
    body["schedule"]["changes"] = [{"start": "0.3dur", "corpora": {"web": {"add": {"shard_sizes": [90]}}}}]
    made = api.post("/v1/runs", json=body)
    assert made.status_code == 201, made.text
    run = made.headers["location"]
    changes = [{"start": "300ba", "corpora": {"web": {"add": {"shard_sizes": [90]}}}}]
    assert api.get(f"{run}/schedule").json()["changes"] == changes
    assert api.post("/v1/runs", json=body).status_code == 200
    change(api, run, corpora={"site": {"rename": {"from": "web"}}})
    assert set(batch(api, run, 900)["corpus"]) == {"c4", "site"}
    wrong = deepcopy(body)
    wrong["schedule"]["changes"][0]["corpora"] = {"web": {"grow": {"first_shard": 0, "shard_sizes": [1]}}}
    found = problem(api.post("/v1/runs", json={**wrong, "name": "wrong"}), 422, "invalid-schedule")
    assert places(found) == ["$.schedule.phases[1].mixture.web"]


# -- batch sizes


@pytest.mark.parametrize("weights", [{}, {"mixture": {"c4": 0.5, "math": 0.5}}], ids=["alone", "with a mixture"])
def test_a_batch_size_changes_from_its_step_on(api: httpx.Client, run: str, weights: dict[str, Any]) -> None:
    before = {step: batch(api, run, step) for step in (0, STEP - 1, STEP)}
    edit = change_body(global_batch_size=24, **weights)
    dry = api.post(f"{run}/revisions?dry_run=true", json=edit).json()
    samples = {when: sum(item["samples"] for item in dry[when].values()) for when in ("before", "after")}
    assert samples == {"before": 16_000, "after": 500 * 16 + 500 * 24}
    assert dry["after"]["c4"]["tokens"] == 32 * dry["after"]["c4"]["samples"]
    assert (dry["global_batch_size"], dry["batch_sizes"]) == (16, [{"start": "500ba", "global_batch_size": 24}])
    assert api.get(f"{run}/schedule").json()["batch_sizes"] == []  # nothing was stored
    made = change(api, run, global_batch_size=24, **weights)
    assert (made["global_batch_size"], made["corpora"], made["schedule"] is None) == (24, {}, not weights)
    assert api.get(f"{run}/revisions").json()["revisions"] == [made]
    schedule = api.get(f"{run}/schedule").json()
    assert (schedule["global_batch_size"], schedule["batch_sizes"]) == (16, dry["batch_sizes"])
    assert api.get(f"{run}/forecast").json()["corpora"] == dry["after"]
    plan = plan_of(api, run)
    for step in (0, STEP - 1, STEP, 999):
        found, expected = batch(api, run, step), plan.batch(step)
        assert found["corpus"] == [plan.names[index] for index in expected.corpus]
        assert found["sample_id"] == expected.sample_id.tolist()
        assert len(found["corpus"]) == (16 if step < STEP else 24)
        assert step >= STEP or found == before[step]
    if not weights:  # the first 16 draws of the step are those that it had before
        assert {*before[STEP]["ordinal"]} <= {*batch(api, run, STEP)["ordinal"]}
    slots = api.get(f"{run}/batches/500", params={"start": 20, "limit": 3}).json()
    assert (slots["start"], slots["end"], slots["next"]) == (20, 23, 23)
    problem(api.get(f"{run}/batches/499", params={"start": 16}), 404, "not-in-run")
    sample = batch(api, run, 700)["sample_id"][23], batch(api, run, 700)["corpus"][23]
    found = api.get(f"{run}/samples/{sample[1]}/{sample[0]}", params={"start": 700, "end": 701}).json()["reads"]
    assert found == [{"step": 700, "slot": 23}]


def test_another_edit_leaves_batch_sizes_and_another_size_replaces_them(api: httpx.Client, make_run: MakeRun) -> None:
    body = run_body()["schedule"]
    sizes = [{"start": "300ba", "global_batch_size": 24}, {"start": "0.8dur", "global_batch_size": 32}]
    run = make_run(schedule={**body, "batch_sizes": sizes})
    planned = [sizes[0], {"start": "800ba", "global_batch_size": 32}]
    assert api.get(f"{run}/schedule").json()["batch_sizes"] == planned
    definition = api.get(f"{run}/ledger").json()["definition"]
    assert definition["schedule"]["batch_sizes"] == planned
    assert api.post("/v1/runs", json=definition).status_code == 200
    assert problem(
        api.post("/v1/runs", json={**definition, "schedule": {**body, "batch_sizes": sizes[:1]}}), 409, "name-taken"
    )["fields"] == ["schedule"]  # fmt: skip
    change(api, run, mixture={"c4": 1.0})
    assert api.get(f"{run}/schedule").json()["batch_sizes"] == planned
    change(api, run, 1, 400, global_batch_size=64)
    change(api, run, 2, 350, global_batch_size=8, corpora={"c4": {"skip": {"samples": 10}}})
    assert api.get(f"{run}/schedule").json()["batch_sizes"] == [sizes[0], {"start": "350ba", "global_batch_size": 8}]
    assert (len(batch(api, run, 349)["corpus"]), len(batch(api, run, 999)["corpus"])) == (24, 8)
    change(api, run, 3, 0, global_batch_size=4)
    found = api.get(f"{run}/schedule").json()
    assert (found["global_batch_size"], found["batch_sizes"]) == (4, [])


def test_a_batch_size_is_given_once_and_frozen_like_all_else(api: httpx.Client, run: str) -> None:
    headers = {"Idempotency-Key": "once"}
    body = change_body(global_batch_size=24)
    first, again = (api.post(f"{run}/revisions", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, first.json()) == (201, again.json())
    other = change_body(global_batch_size=25)
    assert api.post(f"{run}/revisions", json=other, headers=headers).status_code == 422
    api.post(f"{run}/progress", json=report_body(600, 620, 0))
    assert api.get(f"{run}/schedule").json()["batch_sizes"] == []  # superseded: the trainer had passed it
    problem(api.post(f"{run}/revisions", json=other), 409, "frozen-step")


@pytest.mark.parametrize("size", [0, -8, 2**20 + 1, 8.5, "8", True])
def test_what_is_no_batch_size_is_refused(api: httpx.Client, run: str, size: Any) -> None:
    found = problem(api.post(f"{run}/revisions", json=change_body(global_batch_size=size)), 422, "invalid-request")
    assert places(found) == ["$.global_batch_size"]
    body = run_body()
    body["schedule"]["batch_sizes"] = [{"start": 5, "global_batch_size": size}]
    found = problem(api.post("/v1/runs", json=body), 422, "invalid-request")
    assert places(found) == ["$.schedule.batch_sizes[0].global_batch_size"]


def test_batch_sizes_that_do_not_follow_each_other_are_refused_with_all_else(api: httpx.Client) -> None:
    body = run_body()
    body["schedule"]["batch_sizes"] = [{"start": start, "global_batch_size": 8} for start in ("9ba", "5ba", "2000ba")]
    body["schedule"]["phases"][0]["mixture"] = {"c5": 1.0}
    found = problem(api.post("/v1/runs", json=body), 422, "invalid-schedule")
    assert places(found) == [
        "$.schedule.phases[0].mixture.c5",
        "$.schedule.batch_sizes[1].start",
        "$.schedule.batch_sizes[2].start",
    ]


# -- what is refused


@pytest.mark.parametrize(
    ("corpora", "place", "message"),
    [
        ({"c4": {"grow": {"first_shard": 39, "shard_sizes": [5]}}}, "$.corpora.c4.grow.first_shard", "has 40 shards"),
        ({"c4": {"grow": {"first_shard": 39, "shard_sizes": [500]}}}, "$.corpora.c4.grow.first_shard", "one is 40"),
        ({"c4": {"grow": {"first_shard": 41, "shard_sizes": [5]}}}, "$.corpora.c4.grow.first_shard", "has 40 shards"),
        ({"c4": {"add": {"shard_sizes": [500] * 40}}}, "$.corpora.c4.add", "from before"),
        ({"c4": {"quarantine": {"samples": [20000]}}}, "$.corpora.c4.quarantine.samples", "samples 0 to 19999"),
        ({"c5": {"skip": {"samples": 5}}}, "$.corpora.c5.skip", "no corpus 'c5'"),
        ({"c4": {"add": {"shard_sizes": [5]}}}, "$.corpora.c4.add", "from before"),
        ({"code": {"rename": {"from": "c4"}}}, "$.corpora.code.rename", "'code' is in use"),
        ({"c4": {"remove": {}}}, "$", "has weight 1 at step 500"),
        ({"c4": {"quarantine": {"shards": [[0, 40]]}}}, "$", "no samples"),
    ],
)
def test_a_change_that_does_not_fit(
    api: httpx.Client, run: str, corpora: dict[str, Any], place: str, message: str
) -> None:
    for query in ("", "?dry_run=true"):
        answer = api.post(f"{run}/revisions{query}", json=change_body(corpora=corpora))
        (found,) = problem(answer, 422, "invalid-schedule")["problems"]
        assert found["place"] == place
        assert message in found["message"]
    assert api.get(f"{run}/revisions").json()["revisions"] == []


def test_all_that_is_wrong_with_an_edit_comes_at_once(api: httpx.Client, run: str) -> None:
    corpora = {
        "c4": {"quarantine": {"samples": [5.5]}},
        "code": {"grow": {"shard_sizes": []}},
        "math": {"burn": {}},
        "web": {"add": {"shard_sizes": [9], "max_epochs": 1, "then": "nobody"}},
    }
    body = change_body(corpora=corpora, mixture={"c4": 0.5, "cod": 0.2, "web": 0.2})
    found = problem(api.post(f"{run}/revisions", json=body), 422, "invalid-schedule")
    assert set(places(found)) == {
        "$.mixture.cod",
        "$.mixture",
        "$.corpora.c4.quarantine.samples[0]",
        "$.corpora.code.grow",
        "$.corpora.code.grow.shard_sizes",
        "$.corpora.math",
        "$.corpora.web.add.then",
    }


def test_a_change_that_an_earlier_one_no_longer_fits_after(api: httpx.Client, run: str) -> None:
    change(api, run, 0, 800, corpora={"c4": {"skip": {"samples": 100}}})
    body = change_body(1, corpora={"web": {"rename": {"from": "c4"}}})
    (found,) = problem(api.post(f"{run}/revisions", json=body), 422, "invalid-schedule")["problems"]
    assert found["place"] == "$.corpora"
    assert "made before does not fit any more" in found["message"]
    assert "'c4' at step 800 (corpora.c4.skip)" in found["message"]


def test_a_frozen_step_and_a_stale_parent(api: httpx.Client, run: str) -> None:
    api.post(f"{run}/progress", json=report_body(480, 510))
    answer = api.post(f"{run}/revisions", json=change_body(corpora={"c4": {"skip": {"samples": 1}}}))
    assert problem(answer, 409, "frozen-step")["earliest_step"] == 510
    change(api, run, 0, 510, corpora={"c4": {"skip": {"samples": 1}}})
    answer = api.post(f"{run}/revisions", json=change_body(0, 510, corpora={"c4": {"skip": {"samples": 1}}}))
    assert problem(answer, 409, "stale-parent")["current_revision"] == 1


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, "$"),
        ({"mixture": {"c4": 1.0}, "schedule": {"phases": [{"start": "500ba", "mixture": {"c4": 1.0}}]}}, "$"),
        ({"corpora": {"c4": {"skip": {"samples": 1}}}, "ramp": {"shape": "linear", "length": "5ba"}}, "$"),
        ({"corpora": {"a/b": {"add": {"shard_sizes": [1]}}}}, "$.corpora.a/b"),
        ({"corpora": {f"c{n}": {"add": {"shard_sizes": [1]}} for n in range(257)}}, "$.corpora"),
        ({"corpora": {"c4": {"quarantine": {"samples": [0] * (MAX_LIST + 1)}}}}, "$.corpora.c4"),
        ({"corpora": {"c4": 5}}, "$.corpora.c4"),
        ({"corpora": []}, "$.corpora"),
    ],
)
def test_edits_that_are_malformed(api: httpx.Client, run: str, changes: dict[str, Any], place: str) -> None:
    answer = api.post(f"{run}/revisions", json=change_body(**changes))
    assert places(problem(answer, 422, "invalid-request")) == [place]


# -- a trainer that reads what was added joins again


def test_a_run_is_found_with_what_was_added_to_its_corpora(api: httpx.Client) -> None:
    body = run_body()
    body["corpora"]["code"]["fingerprint"] = "before"
    run = api.post("/v1/runs", json=body).headers["location"]
    added = {"shard_sizes": [30, 40], "max_epochs": 3, "then": "c4"}
    grown = {"grow": {"first_shard": 10, "shard_sizes": [7, 8]}}
    wanted = deepcopy(body)
    wanted["corpora"]["code"] = {"shard_sizes": [400] * 10 + [7, 8], "fingerprint": "after"}
    wanted["corpora"]["web"] = {**added, "fingerprint": "web"}
    assert problem(api.post("/v1/runs", json=wanted), 409, "name-taken")["fields"] == ["corpora"]
    change(api, run, corpora={"web": {"add": added}, "code": grown})
    assert api.post("/v1/runs", json=wanted).status_code == 200
    assert api.post("/v1/runs", json=body).status_code == 200
    for path, value in (
        (("web", "shard_sizes"), [30, 41]),
        (("web", "max_epochs"), 2),
        (("code", "shard_sizes"), [400] * 10 + [7, 9]),
        (("code", "shard_sizes"), [400] * 9),
        (("code", "max_epochs"), 5),
        (("c4", "shard_sizes"), [500] * 41),
        (("c4", "fingerprint"), "another"),
    ):
        other = deepcopy(wanted)
        other["corpora"][path[0]][path[1]] = value
        assert problem(api.post("/v1/runs", json=other), 409, "name-taken")["fields"] == ["corpora"], path
    del wanted["corpora"]["math"]
    assert problem(api.post("/v1/runs", json=wanted), 409, "name-taken")["fields"] == ["corpora"]


# -- any changes in any order


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with closing(Store(tmp_path_factory.mktemp("runs") / "a.db")) as store:
        yield Runs(store, plan_cache_size=4)


SHARDS = {"c4": 6, "code": 4, "math": 3}
OLD, NEW = st.sampled_from([*SHARDS]), st.sampled_from(["web", "site"])
NAMES = st.one_of(OLD, OLD, NEW)
NUMBERS = st.lists(st.integers(0, 3), min_size=1, max_size=2)


@st.composite
def changes_of_corpora(draw: st.DrawFn) -> dict[str, Any]:
    """One change, most of which fit: {name: {verb: arguments}}."""
    verb = draw(st.sampled_from(["add", "grow", "quarantine", "skip", "rename", "split", "remove"]))
    name = draw(NEW if verb in ("add", "rename", "split") else NAMES)
    arguments = {
        "add": {"shard_sizes": NUMBERS, "max_epochs": st.sampled_from([None, 1, 99]), "then": NAMES},
        "grow": {"first_shard": st.integers(0, 1).map(lambda more: SHARDS.get(name, 2) + more), "shard_sizes": NUMBERS},
        "quarantine": {draw(st.sampled_from(["samples", "shards"])): NUMBERS},
        "skip": {"samples": st.integers(1, 90)},
        "rename": {"from": NAMES},
        "split": {"from": NAMES, "shards": NUMBERS},
        "remove": {},
    }[verb]
    given = {key: draw(strategy) for key, strategy in arguments.items()}
    return {name: {verb: {key: value for key, value in given.items() if value is not None}}}


@st.composite
def edits_of_corpora(draw: st.DrawFn) -> dict[str, Any]:
    """An edit of one change, or of some, with a mixture or without."""
    changes = draw(st.lists(changes_of_corpora(), min_size=1, max_size=2))
    edit = {"effective_step": draw(st.integers(0, 59)), "corpora": {k: v for one in changes for k, v in one.items()}}
    return edit | draw(st.fixed_dictionaries({}, optional={"mixture": NAMES.map(lambda name: {name: 1.0})}))


def stands(plan: Plan, step: int) -> list[tuple[str, int]]:
    """(corpus, sample) in each slot of a step."""
    found = plan.batch(step)
    names = [plan.names[index] for index in found.corpus]
    return list(zip(names, found.sample_id.tolist(), strict=True))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(edits_of_corpora(), min_size=1, max_size=8))
def test_what_is_accepted_can_be_rebuilt_and_what_is_refused_is_an_error_of_mixer(
    runs: Runs, edits: list[dict[str, Any]]
) -> None:
    corpora = {"c4": {"shard_sizes": [30] * 6}, "code": {"shard_sizes": [20] * 4}, "math": {"shard_sizes": [10] * 3}}
    phases = [{"start": 0, "mixture": {"c4": 0.6, "code": 0.4}}]
    body = run_body(num_steps=60, global_batch_size=4, corpora=corpora, schedule={"phases": phases})
    run_id = runs.create(RunIn.model_validate(body), actor="test")[0].row.id
    for edit in edits:
        state = runs.state(run_id)
        try:
            runs.revise(run_id, RevisionIn.model_validate(change_body(**edit)), parent=state.row.revision, actor="test")
        except MixerError:
            continue
        after, step = runs.state(run_id), edit["effective_step"]
        for below in {0, step // 2, max(step - 1, 0)} - {step}:
            assert stands(after.plan, below) == stands(state.plan, below)
    state, again = runs.state(run_id), Runs(runs._store, plan_cache_size=1).state(run_id)
    assert again.ledger == state.ledger
    for step in (0, 30, 59):
        assert stands(again.plan, step) == stands(state.plan, step)
    again.plan.forecast()
