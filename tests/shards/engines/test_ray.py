"""Jobs on a real Ray cluster of two nodes of one CPU each: deaths, errors, and the bytes of a conversion."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from shards.conversion import Conversion, convert
from shards.engines import OnProgress, Work, run_jobs
from shards.errors import RecordError, WorkerError
from tests.conftest import ROOT
from tests.shards.conftest import make_texts, tree_hashes, write_jsonl

pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")

# Without what watches logs and scales clusters: there is nobody for it, and it makes the start slow.
NODE: dict[str, Any] = {
    "num_cpus": 1,
    "object_store_memory": 80 << 20,
    "include_log_monitor": False,
    "no_monitor": True,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes, named by RAY_ADDRESS; this process is connected to them, so that workers live from test to test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        import ray

        made = _start() or _start() or _start()
        if made is None and "CI" not in os.environ:
            pytest.skip("this machine has too much to do for Ray to start")
        assert made is not None
        patch.setenv("RAY_ADDRESS", made.address)
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield made
        ray.shutdown()
        made.shutdown()


def _start() -> Any:
    """Two nodes; None if they do not come up: Ray gives its helpers 15 seconds, too few on a machine that is busy."""
    from ray.cluster_utils import Cluster

    made = Cluster()
    try:
        made.add_node(**NODE, include_dashboard=False)
        made.second = made.add_node(**NODE)
    except Exception as error:
        print(f"Ray did not start: {error}")
        made.shutdown()
        return None
    return made


@dataclass(frozen=True)
class Writing:
    """Each job is a name; doing it adds a line to that file of `folder`: who did it, on which start."""

    folder: Path

    def start(self) -> Callable[[Any, OnProgress], None]:
        with (self.folder / "starts").open("a") as file:
            file.write(f"{os.getpid()}\n")

        def do(job: str, on_progress: OnProgress) -> None:
            on_progress(2, 1)
            on_progress(3, 2)
            if job == "bad":
                raise RecordError("line 7 is odd", path="odd.jsonl", number=7)
            if job == "always dies" or (job == "dies once" and not (self.folder / "died").exists()):
                (self.folder / "died").touch()
                os._exit(3)
            if job == "surprise":
                raise ZeroDivisionError("nobody foresaw it")
            (self.folder / job).write_text(str(os.getpid()))

        return do


def run(jobs: list[str], folder: Path, **changes: Any) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    settings: dict[str, Any] = {"engine": "ray", "workers": 2, **changes}
    run_jobs(jobs, Writing(folder), on_progress=lambda *counts: told.append(counts), **settings)
    return told


@pytest.mark.parametrize("workers", [2, 0])
def test_all_jobs_are_done_and_told(cluster: Any, tmp_path: Path, workers: int) -> None:
    jobs = [f"job {number}" for number in range(12)]
    assert run(jobs, tmp_path, workers=workers) == [(5, 3)] * 12
    assert {path.name for path in tmp_path.iterdir()} == {*jobs, "starts"}
    starts = (tmp_path / "starts").read_text().split()
    assert len(starts) == len(set(starts)) <= 2, "a worker starts once, and keeps what it started"
    assert run([], tmp_path) == []


def test_a_job_whose_worker_dies_is_done_again(cluster: Any, tmp_path: Path) -> None:
    assert run(["dies once", "other"], tmp_path) == [(5, 3)] * 2
    assert (tmp_path / "dies once").exists()


def test_what_always_kills_its_worker_is_given_up(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.engines.ray.RETRIES", 1)
    with pytest.raises(WorkerError, match=r"gave up on always dies .* died 2 times.* run the same command again"):
        run(["other", "always dies"], tmp_path)


def test_our_errors_arrive_whole_and_others_as_they_are(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"^line 7 is odd$") as caught:
        run(["good", "bad", *["later"] * 50], tmp_path)
    assert (caught.value.path, caught.value.number) == ("odd.jsonl", 7)
    with pytest.raises(ZeroDivisionError, match="nobody foresaw it"):
        run(["surprise"], tmp_path)


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    code = "from tests.shards.engines.test_ray import run; from pathlib import Path; run(['a'], Path('.'))"
    environment = {**os.environ, "RAY_ADDRESS": "not an address", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "CallError: no Ray cluster at RAY_ADDRESS not an address; start it, or unset it" in found.stderr


@pytest.fixture
def conversion(make_conversion: Callable[..., Conversion], tmp_path: Path) -> Conversion:
    for number in range(24):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", make_texts(300, seed=number, longest=40))
    return make_conversion(tmp_path / "in")


def test_interrupted_it_publishes_nothing_and_goes_on(cluster: Any, conversion: Conversion, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shards", "convert", "--corpus", "c4", "--engine", "ray", "--workers", "1"]
    command += ["--tokenizer", conversion.tokenizer, "--seq-len", "32", "--holdout", "0.1", "--shard-bytes", "4096"]
    command += ["--out", conversion.out, *conversion.inputs]
    called = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    parts = tmp_path / "out" / ".c4.work" / "parts"
    end = time.monotonic() + 200
    while not list(parts.glob("*/part.json")):
        assert called.poll() is None, called.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.005)
    called.send_signal(signal.SIGINT)
    assert "the same command goes on where this one stopped" in called.communicate()[1]
    assert called.returncode == 130
    assert not (tmp_path / "out" / "c4").exists()
    convert(replace(conversion, engine="ray"), workers=2)
    convert(replace(conversion, out=str(tmp_path / "local")), workers=1)
    assert tree_hashes(tmp_path / "out") == tree_hashes(tmp_path / "local")


@dataclass(frozen=True)
class StuckThere:
    """`work`, but whatever is begun on the node `node` never ends; that it began is marked in `folder`."""

    work: Work
    node: str
    folder: Path

    def start(self) -> Callable[[Any, OnProgress], None]:
        import ray

        if ray.get_runtime_context().get_node_id() != self.node:
            return self.work.start()

        def never(job: Any, on_progress: OnProgress) -> None:
            (self.folder / "stuck").touch()
            while True:
                time.sleep(1)

        return never


def test_the_bytes_are_those_of_the_local_engine_though_a_node_dies(  # the last test: it takes a node away
    cluster: Any, conversion: Conversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(replace(conversion, out=str(tmp_path / "local")), workers=1)

    def kill_the_node() -> None:
        while not (tmp_path / "stuck").exists():
            time.sleep(0.01)
        cluster.remove_node(cluster.second, allow_graceful=False)

    def run_stuck(jobs: Sequence[Any], work: Work, **settings: Any) -> None:
        run_jobs(jobs, StuckThere(work, cluster.second.node_id, tmp_path), **settings)

    monkeypatch.setattr("shards.conversion.run_jobs", run_stuck)
    killer = threading.Thread(target=kill_the_node, daemon=True)
    killer.start()
    convert(replace(conversion, engine="ray"), workers=2)
    assert (tmp_path / "stuck").exists(), "the node had no job"
    assert tree_hashes(tmp_path / "out") == tree_hashes(tmp_path / "local")
    assert not (tmp_path / "out" / ".c4.work").exists()
