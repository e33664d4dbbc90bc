"""The whole demo, in its shortest form, as a stranger runs it: no samples, no network needed, one folder."""

import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from demo.check import check, read_run
from demo.metrics import read_history
from demo.processes import Child, start_trainer
from mixer.reader import open_corpus
from service.client import Client
from tests.service.processes import ServerProcess
from trainer.loading import load
from trainer.sources import open_sources

ROOT = Path(__file__).resolve().parent.parent.parent
NUM_STEPS = 40


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    # one thread: tests share the machine, and the model is tiny
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "demo", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo's folder and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = run_demo("--steps", str(NUM_STEPS), "--no-samples", "--out", str(out), "--picture", str(out / "shares.svg"))
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_every_batch_was_the_planned_one(demo: tuple[Path, str]) -> None:
    out, printed = demo
    assert f"{NUM_STEPS} of {NUM_STEPS} batches as planned" in printed
    run, history = read_run(out / "ledger.jsonl"), read_history(out / "run" / "metrics.jsonl")
    corpora = {path.name: path / "train" for path in (out / "mds").iterdir() if not path.name.startswith(".")}
    result = check(run, corpora, history)
    assert result.passed, result.faults
    assert "SIGKILL" in printed
    resumed = re.search(r"going on at step (\d+)", (out / "logs" / "train-2.log").read_text())
    assert resumed
    assert 0 < int(resumed[1]) < NUM_STEPS
    assert f"resumed at step {resumed[1]} " in printed


def test_the_revision_was_made_while_it_trained_and_followed(demo: tuple[Path, str]) -> None:
    out, _ = demo
    run, history = read_run(out / "ledger.jsonl"), read_history(out / "run" / "metrics.jsonl")
    (revision,) = run.ledger.revisions
    assert revision.superseded is None
    assert NUM_STEPS // 2 < revision.effective_step < NUM_STEPS
    known = [line["revision"] for line in history.lines]
    assert known[0] == 0
    assert known[-1] == 1
    assert known.index(1) < revision.effective_step  # the trainer had it before it came into force


def test_a_service_that_is_killed_for_half_of_the_run_changes_no_batch(demo: tuple[Path, str], tmp_path: Path) -> None:
    """The same run again with the same revision, its service dead from a quarter of the steps to three quarters.

    The demo's own run was never without its service; what runs without any reads the same, as the demo itself has said.
    """
    out, printed = demo
    assert f"{NUM_STEPS} of {NUM_STEPS} the same from same.yaml, which needs no service" in printed
    server = ServerProcess(tmp_path / "service.db")
    server.arguments = ("--port", str(httpx.URL(server.url).port))  # the same when it starts again
    config = yaml.safe_load((out / "run.yaml").read_text())
    metrics = tmp_path / "metrics.jsonl"
    config |= {"save_folder": str(tmp_path / "checkpoints"), "metrics_file": str(metrics)}
    config["service"] |= {"url": server.url}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    ledger = read_run(out / "ledger.jsonl").ledger
    with Client(server.url) as service:
        run = service.create_run(open_sources(load(tmp_path / "run.yaml")).definition)
        for revision in ledger.revisions:
            edit = {"parent": revision.parent, "effective_step": revision.effective_step, "schedule": revision.schedule}
            service.create_revision(run.id, {**edit, "author": revision.author, "reason": revision.reason})
        with start_trainer(tmp_path / "run.yaml", log=tmp_path / "train.log") as trainer:
            killed_at = wait_for_step(trainer, metrics, NUM_STEPS // 4 - 1)
            server.kill()
            back_at = wait_for_step(trainer, metrics, killed_at + NUM_STEPS // 2)
            os.killpg(trainer._process.pid, signal.SIGSTOP)  # it is short: the service starts while it waits
            server.start()
            os.killpg(trainer._process.pid, signal.SIGCONT)
            assert trainer.wait(300) == 0, trainer.output()
        stands = service.get_run(run.id)
    server.stop()
    assert back_at - killed_at >= NUM_STEPS // 2
    assert "the service is away" in trainer.output()
    assert "the service is back" in trainer.output()
    again, before = read_history(metrics).steps, read_history(out / "run" / "metrics.jsonl").steps
    assert [line["digest"] for line in again] == [line["digest"] for line in before]
    assert len(again) == NUM_STEPS
    assert (stands.step, stands.frontier, stands.revision) == (NUM_STEPS, NUM_STEPS, ledger.number)


def wait_for_step(trainer: Child, metrics: Path, step: int) -> int:
    """The last step that is written down, as soon as that is `step` or a later one."""
    while not (metrics.exists() and (lines := read_history(metrics).lines) and lines[-1]["step"] >= step):
        assert trainer.exit_code is None, trainer.output()
        time.sleep(0.01)
    return int(lines[-1]["step"])


def test_the_report_is_one_file_that_fetches_nothing(demo: tuple[Path, str]) -> None:
    out, _ = demo
    text = (out / "report.html").read_text()
    page = Links()
    page.feed(text)
    assert page.fetched == []
    assert not re.search(r"@import|url\((?!#)", text)
    assert page.num_tables == page.num_captions >= 4
    assert page.pictures
    assert all(page.pictures)  # each says in words what it shows
    assert page.duplicate_ids == set()


def test_the_report_tells_the_story(demo: tuple[Path, str]) -> None:
    out, _ = demo
    text = (out / "report.html").read_text()
    (revision,) = read_run(out / "ledger.jsonl").ledger.revisions
    assert f"{NUM_STEPS} of {NUM_STEPS} batches as planned" in text
    assert revision.reason in text
    assert revision.author in text
    for name in ("c4", "dclm", "flan", "knowledgeqa", "math", "starcoder"):
        assert f'<th scope="row">{name}</th>' in text
        assert open_corpus(out / "mds" / name / "train").num_samples > 0


def test_the_picture_stands_alone(demo: tuple[Path, str]) -> None:
    out, _ = demo
    text = (out / "shares.svg").read_text()
    assert "prefers-color-scheme:dark" in text
    assert len(text) < 200_000


def test_nothing_is_left_running(demo: tuple[Path, str]) -> None:
    out, _ = demo
    left = [
        p.pid for p in psutil.process_iter(["cmdline"]) if any(str(out) in part for part in p.info["cmdline"] or ())
    ]
    assert left == []


def test_a_demo_that_is_ended_ends_what_it_started(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "demo", "--no-samples", "--out", str(out)]
    log, end = out / "logs" / "train-1.log", time.monotonic() + 120
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as demo:
        while not (log.exists() and log.stat().st_size):  # until the trainer speaks; the service runs already
            assert time.monotonic() < end
            assert demo.poll() is None
            time.sleep(0.05)
        started = psutil.Process(demo.pid).children(recursive=True)
        demo.terminate()
        assert demo.wait(60) == 143
    assert len(started) >= 2
    assert [child for child in started if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []


def test_a_folder_that_others_made_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    done = run_demo("--out", str(tmp_path))
    assert done.returncode == 1
    assert "was not made by the demo" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("arguments", [("--steps", "3"), ("--steps", "many"), ("--samples", "/nowhere/at/all")])
def test_a_wrong_call_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run_demo(*arguments, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


class Links(HTMLParser):
    """What a page would fetch, and what it says to those who cannot see it."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.pictures: list[str | None] = []
        self.num_tables = self.num_captions = 0
        self.duplicate_ids: set[str] = set()
        self._ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.num_tables += tag == "table"
        self.num_captions += tag == "caption"
        found = dict(attrs)
        if tag in ("svg", "img"):
            self.pictures.append(found.get("aria-label") or found.get("alt"))
        if (name := found.get("id")) in self._ids:
            self.duplicate_ids.add(name or "")
        self._ids |= {name} if name else set()
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = found.get(key) or ""
            if value and not value.startswith(("#", "data:")):
                self.fetched.append(value)
