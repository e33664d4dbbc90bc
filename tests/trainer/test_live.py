"""The live schedule against the real service: edits, joining, ranks, crashes, claims, and a service that goes away."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mixer import Ledger, Plan, Revision
from service.client import Client
from service.settings import Settings
from tests.service.processes import serve_in_thread
from tests.trainer.conftest import run_config
from tests.trainer.corpora import NAMES, make_rows
from tests.trainer.launch import Run, last_of_each_step, steps_in, wait_for_step
from trainer.config import ServiceConfig
from trainer.errors import ServiceError
from trainer.live import Link, trainer_name
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


def test_a_second_trainer_is_refused_until_it_takes_over(service: Service, corpora: Path, tmp_path: Path) -> None:
    """And then the first ends, on both ranks: what was trained is what one of them trained."""
    first, second = tmp_path / "first", tmp_path / "second"
    run = Run([str(live_config(corpora, first, service))], first, num_ranks=2)
    wait_for_step(run, first / "metrics.jsonl", 5)
    run.pause()
    other = Run([str(live_config(corpora, second, service))], second)
    assert other.wait() == 2
    said = other.output.splitlines()[-1]
    assert str(first / "checkpoints") in said
    assert str(second / "checkpoints") in said
    assert "service.take_over=true" in said
    assert "Traceback" not in other.output
    other = Run([str(second / "cfg.yaml"), "service.take_over=true"], second)
    wait_for_step(other, second / "metrics.jsonl", 5)
    run.go_on()
    assert run.wait() == 2
    said = run.output.splitlines()[-1]
    assert "was taken over by" in said
    assert str(second / "checkpoints") in said
    assert max(last_of_each_step(first / "metrics.jsonl")) < NUM_STEPS - 1
    assert other.wait() == 0, other.output
    head = only_run(service)
    assert_followed(second, service.get(f"/runs/{head['id']}/revisions")["revisions"])
    assert service.get(f"/runs/{head['id']}")["claim"]["claim"] == 2


# -- what rank 0 says, without training


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("links") / "s.db"


@pytest.fixture(scope="module")
def url(database: Path) -> Iterator[str]:
    with serve_in_thread(Settings(database=database)) as url:
        yield url


@pytest.fixture
def definition(corpora: Path, tmp_path: Path) -> dict[str, Any]:
    """A run of its own for each test."""
    config = load(run_config(corpora, tmp_path, schedule={"phases": PHASES}, max_duration=f"{NUM_STEPS}ba"))
    return {**open_sources(config).definition, "name": tmp_path.name}


def link(url: str, definition: dict[str, Any], trainer: str, **changes: Any) -> Link:
    return Link(ServiceConfig(url=url, **changes), definition, trainer=trainer)


def position(step: int, frontier: int | None = None, known: int = 0) -> dict[str, Any]:
    decided = step if frontier is None else frontier
    return {
        "step": step, "freeze_through": step + 6, "decided_through": decided, "known_revision": known, "superseded": [],
    }  # fmt: skip


def test_a_restart_fences_off_what_still_runs_of_its_predecessor(url: str, definition: dict[str, Any]) -> None:
    before = link(url, definition, "/a")
    assert before.exchange(position(0)) == {"frontier": 6, "revisions": []}
    after = link(url, definition, "/a")
    assert after.exchange(position(0)) is not None
    with pytest.raises(ServiceError, match=r"another start of this trainer \(claim 2, since .* '/a' \(claim 1\)"):
        before.exchange(position(2))
    assert after.exchange(position(2)) == {"frontier": 8, "revisions": []}


def test_another_trainer_is_refused_until_it_takes_over(url: str, definition: dict[str, Any]) -> None:
    first = link(url, definition, "/a")
    assert first.exchange(position(0)) is not None
    refused = r"is being trained by '/a' \(claim 1, since .*, and this is '/b': .* once with service.take_over=true"
    with pytest.raises(ServiceError, match=refused):
        link(url, definition, "/b").exchange(position(0))
    assert first.exchange(position(2)) is not None
    assert link(url, definition, "/b", take_over=True).exchange(position(0)) is not None
    with pytest.raises(ServiceError, match=r"taken over by '/b' \(claim 2, since .*; this was '/a' \(claim 1\)"):
        first.exchange(position(4))


def test_a_database_from_before_its_claim_is_claimed_again(
    url: str, definition: dict[str, Any], database: Path
) -> None:
    """As when a backup is put back: nobody else has the run, so a month's training does not end for it."""
    trainer = link(url, definition, "/a")
    assert trainer.exchange(position(0)) is not None
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE runs SET claim = NULL WHERE name = ?", [definition["name"]])
    assert trainer.exchange(position(2)) is None
    assert trainer.say_goodbye(position(4)) == {"frontier": 10, "revisions": []}


def test_a_lineage_that_was_abandoned_may_not_go_on(url: str, definition: dict[str, Any]) -> None:
    with Client(url) as service:
        run = service.create_run(definition)
        service.create_revision(run.id, edit({"math": 1.0}, step=5))
    assert link(url, definition, "/a").exchange(position(20, 26)) is not None  # it went on without revision 1
    with pytest.raises(ServiceError, match=r"refuses this run: HTTP 409: .* revision 1 was superseded"):
        link(url, definition, "/a").exchange(position(10, 16, known=1))


def test_a_later_refusal_ends_nothing(url: str, definition: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    trainer = link(url, definition, "/a")
    assert trainer.exchange(position(0)) is not None
    assert trainer.exchange({**position(2), "counts": {"none such": 1}}) is None
    assert "refuses what this run reports (HTTP 422" in caplog.text
    assert trainer.say_goodbye(position(4)) is not None


def test_a_service_that_is_away_is_not_asked_at_every_step(definition: dict[str, Any]) -> None:
    """And is asked at the end, for a while, however long it was away."""
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes connections, and never answers
        trainer = link(f"http://127.0.0.1:{listener.getsockname()[1]}", definition, "/a", timeout=0.05)
        assert [trainer.exchange(position(step)) for step in range(50)] == [None] * 50
        assert trainer.say_goodbye(position(NUM_STEPS)) is None
        listener.setblocking(False)
        num_attempts = 0
        with contextlib.suppress(BlockingIOError):
            while listener.accept():
                num_attempts += 1
    assert num_attempts == 2


def test_who_a_trainer_is(corpora: Path, tmp_path: Path) -> None:
    """Its save folder: the same after a restart, on whatever machine; without one it is this process."""
    path = run_config(corpora, tmp_path)
    assert trainer_name(load(path)) == str(tmp_path / "checkpoints")
    assert trainer_name(load(path, ["save_folder=null", "autoresume=false"])).endswith(f":{os.getpid()}")
    names = {trainer_name(load(path, [f"save_folder={tmp_path}/{'x' * 250}/{end}"])) for end in ("a", "b")}
    assert len(names) == 2
    assert max(map(len, names)) <= 200
