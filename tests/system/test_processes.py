"""The demo's child processes: they are always ended, with all that they started, and say why when they fail."""

import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from demo.processes import Child, DemoError, serve, start_trainer

SLEEPER = "import time; time.sleep(600)"
PARENT = (
    f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); print('up'); time.sleep(600)"
)
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def wait_for_output(child: Child) -> None:
    end = time.monotonic() + 60
    while "up" not in child.output():
        assert time.monotonic() < end
        assert child.exit_code is None
        time.sleep(0.02)


def running(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def children_of_this_test() -> list[int]:
    return [process.pid for process in psutil.Process().children(recursive=True)]


@pytest.mark.parametrize("way", ["kill", "leave", "error"])
def test_a_child_is_ended_with_its_own_children(tmp_path: Path, way: str) -> None:
    before = set(children_of_this_test())
    started: list[int] = []
    try:
        with Child("parent", ["-c", PARENT], log=tmp_path / "log") as child:
            wait_for_output(child)
            started = [pid for pid in children_of_this_test() if pid not in before]
            if way == "kill":
                child.kill()
            if way == "error":
                raise RuntimeError("on the way")
    except RuntimeError:
        pass
    assert len(started) == 2
    end = time.monotonic() + 10
    while running(started) and time.monotonic() < end:
        time.sleep(0.02)
    assert running(started) == []


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.processes.GRACE", 0.2)
    with Child("deaf one", ["-c", DEAF], log=tmp_path / "log") as child:
        wait_for_output(child)
        child.stop()
        assert child.exit_code == -9


def test_a_child_that_listens_is_asked_to_end(tmp_path: Path) -> None:
    with Child("sleeper", ["-c", f"print('up', flush=True); {SLEEPER}"], log=tmp_path / "log") as child:
        wait_for_output(child)
        child.stop()
        assert child.exit_code == -15


def test_a_failure_names_the_log(tmp_path: Path) -> None:
    config = tmp_path / "cfg.yaml"
    config.write_text("run_name: [\n")
    with start_trainer(config, log=tmp_path / "log") as trainer:
        assert trainer.wait(60) == 2
        error = trainer.failed()
    assert "trainer ended with exit code 2" in error.message
    assert error.log is not None
    assert error.log.read_text().strip()


def test_the_service_answers_and_is_ended(tmp_path: Path) -> None:
    with serve(tmp_path / "service.db", log=tmp_path / "log") as url:
        assert httpx.get(f"{url}/v1/runs", timeout=30).json()["runs"] == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/v1/runs", timeout=5)


def test_a_service_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "service.db").write_text("this is no database, and long enough to be looked at as one" * 50)
    with (
        pytest.raises(DemoError, match="service ended with exit code"),
        serve(tmp_path / "service.db", log=tmp_path / "log"),
    ):
        pass


def test_children_use_this_python(tmp_path: Path) -> None:
    with Child("python", ["-c", "import sys; print(sys.executable)"], log=tmp_path / "log") as child:
        assert child.wait(30) == 0
    assert child.output().strip() == sys.executable
