"""Rows of several lengths on the service: what a run is made with, and edits that would mix them."""

from collections.abc import Callable
from typing import Any

import httpx

from service.schemas import RunIn
from tests.service.conftest import RUN, edit_body, run_body

MakeRun = Callable[..., str]
YARN = {"kind": "yarn", "factor": 2.0}
LONG = {"start": "600ba", "mixture": {"code": 1.0}, "seq_len": 64, "rope": YARN}


def body_of(**second: Any) -> dict[str, Any]:
    corpora = {name: {**corpus, **({} if name == "c4" else {"seq_len": 64})} for name, corpus in RUN["corpora"].items()}
    phases = [{"start": "0ba", "mixture": {"c4": 1.0}}, {k: v for k, v in {**LONG, **second}.items() if v is not None}]
    return run_body(corpora=corpora, schedule={"phases": phases})


def test_a_run_of_one_length_is_kept_as_ever() -> None:
    assert all("seq_len" not in corpus for corpus in RunIn(**run_body()).definition()["corpora"].values())
    found = RunIn(**body_of()).definition()["corpora"]
    assert {name: corpus.get("seq_len") for name, corpus in found.items()} == {"c4": None, "code": 64, "math": 64}


def test_a_run_whose_phases_mix_lengths_is_refused(api: httpx.Client) -> None:
    answer = api.post("/v1/runs", json=body_of(seq_len=None))
    assert answer.status_code == 422, answer.text
    assert "corpus 'code' has rows of 64 tokens, and step 600 reads it among rows of 32" in answer.text
    answer = api.post("/v1/runs", json=body_of(rope={"kind": "yarn"}))
    assert answer.json()["problems"][0]["place"] == "$.schedule.phases[1].rope"


def test_an_edit_cannot_mix_lengths(api: httpx.Client) -> None:
    made = api.post("/v1/runs", json=body_of())
    assert made.status_code == 201, made.text
    run = f"/v1/runs/{made.json()['id']}"
    for step, mixture in ((500, {"math": 1.0}), (600, {"c4": 0.5, "code": 0.5}), (700, {"c4": 1.0})):
        answer = api.post(f"{run}/revisions", json=edit_body(0, step, mixture=mixture))
        assert answer.status_code == 422, answer.text
        assert "all corpora of a phase share its length" in answer.json()["problems"][0]["message"]
        assert answer.json()["problems"][0]["place"] == "$"
    answer = api.post(f"{run}/revisions", json=edit_body(0, 600, mixture={"math": 1.0}))
    assert answer.status_code == 201, answer.text
    phase = api.get(f"{run}/schedule").json()["phases"][1]
    assert (phase["mixture"], phase["seq_len"], phase["rope"]) == ({"math": 1.0}, 64, YARN)


def test_an_edit_can_move_the_switch(api: httpx.Client) -> None:
    run = f"/v1/runs/{api.post('/v1/runs', json=body_of()).json()['id']}"
    schedule = {"phases": [{**LONG, "start": "300ba", "rope": {"kind": "linear", "factor": 2.0}}]}
    answer = api.post(f"{run}/revisions", json={**edit_body(0, 300), "mixture": None, "schedule": schedule})
    assert answer.status_code == 201, answer.text
    forecast = api.get(f"{run}/forecast").json()["corpora"]
    assert (forecast["c4"]["tokens"], forecast["code"]["tokens"]) == (300 * 16 * 32, 700 * 16 * 64)
