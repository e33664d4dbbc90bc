"""The live schedule against the real service: edits, joining, two ranks, a crash, and a service that goes away."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mixer import Ledger, Plan, Revision
from tests.trainer.conftest import run_config
from tests.trainer.corpora import NAMES, make_rows
from tests.trainer.launch import Run, last_of_each_step, steps_in, wait_for_step
from trainer.loading import load
from trainer.record import digest_rows
from trainer.sources import open_sources

NUM_STEPS = 60
PHASES = [{"start": 0, "mixture": {"c4": 1.0}}, {"start": 30, "mixture": {"c4": 0.5, "code": 0.5}}]


class Service:
    """The service as a process of its own; can be killed and started again on the same port and database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.url = self.start()

    def start(self, port: int = 0) -> str:
        command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--db", str(self._folder / "s.db")]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert "ready" in line, line
        return line.split()[-1]

    def kill(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        self.start(httpx.URL(self.url).port or 0)

    def get(self, path: str) -> Any:
        response = httpx.get(f"{self.url}/v1{path}")
        assert response.is_success, response.text
        return response.json()

    def post(self, path: str, body: Any, *, url: str | None = None) -> Any:
        response = httpx.post(f"{url or self.url}/v1{path}", json=body)
        assert response.is_success, response.text
        return response.json()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.kill()


def live_config(corpora: Path, out: Path, service: Service, **changes: Any) -> Path:
    settings = {"url": service.url, "sync_interval": 2, "lead": 6, "timeout": 5.0}
    values = {"max_duration": f"{NUM_STEPS}ba", "schedule": {"phases": PHASES}, "service": settings}
    return run_config(corpora, out, **(values | changes))


def edit(mixture: dict[str, float], *, step: int, parent: int = 0) -> dict[str, Any]:
    return {"parent": parent, "effective_step": step, "mixture": mixture, "reason": "a test", "author": "tests"}


def assert_followed(out: Path, revisions: list[dict[str, Any]]) -> None:
    """Every batch of the run, also those trained twice, is the one of the ledger with `revisions`."""
    sources = open_sources(load(out / "cfg.yaml"))
    bare = [{key: value for key, value in r.items() if key != "superseded_time"} for r in revisions]
    ledger = Ledger(base=sources.config.base_schedule()).extend(map(Revision.from_dict, bare))
    plan = Plan(ledger.schedule, sources.corpora, data_seed=17, shuffle_window=2)
    rows = {name: make_rows(name, num_samples=300, seed=0) for name in NAMES}
    assert list(last_of_each_step(out / "metrics.jsonl")) == list(range(NUM_STEPS))
    for line in steps_in(out / "metrics.jsonl"):
        batch = plan.batch(line["step"])
        slots = zip(batch.corpus, batch.sample_id, strict=True)
        expected = np.stack([rows[plan.names[corpus]][sample] for corpus, sample in slots])
        assert line["digest"] == digest_rows(expected), line["step"]


def only_run(service: Service) -> dict[str, Any]:
    (run,) = service.get("/runs")["runs"]
    return run


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_an_edit_reaches_a_run_that_is_training(
    num_ranks: int, service: Service, corpora: Path, tmp_path: Path
) -> None:
    run = Run([str(live_config(corpora, tmp_path, service))], tmp_path, num_ranks=num_ranks)
    wait_for_step(run, tmp_path / "metrics.jsonl", 5)
    run.pause()
    head = only_run(service)
    assert head["frontier"] < 30
    step = head["frontier"] + 3
    service.post(f"/runs/{head['id']}/revisions", edit({"math": 1.0}, step=step))
    run.go_on()
    assert run.wait() == 0, run.output
    lines = last_of_each_step(tmp_path / "metrics.jsonl")
    assert lines[step - 1]["counts"]["math"] == 0
    assert lines[step]["counts"]["math"] == 16
    revisions = service.get(f"/runs/{head['id']}/revisions")["revisions"]
    assert [revision["superseded"] for revision in revisions] == [None]
    assert_followed(tmp_path, revisions)
    after = only_run(service)
    assert (after["step"], after["frontier"], after["revision"]) == (NUM_STEPS, NUM_STEPS, 1)
    last = service.get(f"/runs/{head['id']}/progress")["reports"][-1]
    assert last["counts"] == {name: sum(line["counts"][name] for line in lines.values()) for name in NAMES}
    assert last["metrics"]["loss"] == pytest.approx(lines[NUM_STEPS - 1]["loss"])
    assert last["metrics"]["data/wait_s_so_far"] == pytest.approx(
        sum(line["data"]["wait_s"] for line in lines.values())
    )
    assert last["metrics"]["data/bytes_fetched"] == 0
    assert last["metrics"]["share_so_far/c4"] == pytest.approx(last["counts"]["c4"] / (NUM_STEPS * 16))


def test_a_run_joins_what_was_decided_before_it_began_and_crashes(
    service: Service, corpora: Path, tmp_path: Path
) -> None:
    config = live_config(corpora, tmp_path, service)
    created = service.post("/runs", open_sources(load(config)).definition)
    service.post(f"/runs/{created['id']}/revisions", edit({"code": 1.0}, step=3))
    run = Run([str(config)], tmp_path)
    wait_for_step(run, tmp_path / "metrics.jsonl", 14)
    run.kill()
    frontier = only_run(service)["frontier"]
    service.post(f"/runs/{created['id']}/revisions", edit({"math": 1.0}, step=frontier, parent=1))
    run = Run([str(config)], tmp_path)
    assert run.wait() == 0, run.output
    assert "going on at step" in run.output
    assert last_of_each_step(tmp_path / "metrics.jsonl")[NUM_STEPS - 1]["revision"] == 2
    assert_followed(tmp_path, service.get(f"/runs/{created['id']}/revisions")["revisions"])


def test_training_goes_on_while_the_service_is_away(service: Service, corpora: Path, tmp_path: Path) -> None:
    run = Run([str(live_config(corpora, tmp_path, service))], tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    wait_for_step(run, metrics, 4)
    run.pause()
    head = only_run(service)
    service.kill()
    run.go_on()
    wait_for_step(run, metrics, head["frontier"] + 4)  # beyond what the service had frozen
    run.pause()
    # An edit comes in where the trainer cannot see it, for a step that it has not trained yet but may have fetched.
    decided = max(last_of_each_step(metrics)) + 4
    elsewhere = service.start()
    service.post(f"/runs/{head['id']}/revisions", edit({"math": 1.0}, step=decided), url=elsewhere)
    service.kill()
    service.restart()
    run.go_on()
    assert run.wait() == 0, run.output
    assert run.output.count("the service is away") == 1
    assert "the service is back" in run.output
    (revision,) = service.get(f"/runs/{head['id']}/revisions")["revisions"]
    assert "had handed out every step below" in revision["superseded"]
    assert_followed(tmp_path, [])
    assert only_run(service)["frontier"] == NUM_STEPS


def test_without_a_service_from_the_start_the_result_is_the_same(corpora: Path, tmp_path: Path) -> None:
    nowhere = {"url": "http://127.0.0.1:9", "sync_interval": 2, "lead": 6}
    values = {"max_duration": f"{NUM_STEPS}ba", "schedule": {"phases": PHASES}}
    run = Run([str(run_config(corpora, tmp_path, service=nowhere, **values))], tmp_path)
    assert run.wait() == 0, run.output
    assert_followed(tmp_path, [])


def test_another_run_of_the_same_name_is_refused(service: Service, corpora: Path, tmp_path: Path) -> None:
    other = open_sources(load(live_config(corpora, tmp_path, service), ["data_seed=18"])).definition
    service.post("/runs", other)
    run = Run([str(tmp_path / "cfg.yaml")], tmp_path)
    assert run.wait() == 2
    assert "refuses this run: HTTP 409" in run.output.splitlines()[-1]
    assert "data_seed" in run.output.splitlines()[-1]
    assert "Traceback" not in run.output
