"""Runs at a service, for tests of what asks it."""

from typing import Any

import httpx

SIZES = {"c4": 5000, "code": 700}
PHASES = [
    {"start": "0ba", "mixture": {"c4": 1.0}},
    {"start": "60ba", "mixture": {"c4": 0.8, "code": 0.2}, "ramp": {"shape": "linear", "length": "10ba"}},
]
FACTS = {"data_seed": 17, "global_batch_size": 16, "seq_len": 32, "shuffle_window": 4}
EDIT = {"mixture": {"c4": 0.5, "code": 0.5}, "author": "ada", "reason": "more code"}


def make_run(url: str, name: str, **changes: Any) -> None:
    """100 steps of 16 samples, with code from step 60 on."""
    corpora = {corpus: {"shard_sizes": [size]} for corpus, size in SIZES.items()}
    body = {"name": name, "num_steps": 100, **FACTS, "corpora": corpora, "schedule": {"phases": PHASES}, **changes}
    httpx.post(f"{url}/v1/runs", json=body).raise_for_status()


def id_of(url: str, name: str) -> str:
    runs = httpx.get(f"{url}/v1/runs").json()["runs"]
    return str(next(run["id"] for run in runs if run["name"] == name))


def make_history(url: str, name: str) -> None:
    """One revision that was passed over, a report, and one in force; frozen below step 50."""
    run = f"{url}/v1/runs/{id_of(url, name)}"
    report = {"step": 40, "freeze_through": 50, "known_revision": 0}
    for path, body in (
        ("revisions", {"parent": 0, "effective_step": 30, **EDIT}),
        ("progress", report),
        ("revisions", {"parent": 0, "effective_step": 80, **EDIT}),
    ):
        httpx.post(f"{run}/{path}", json=body).raise_for_status()
