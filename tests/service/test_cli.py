"""`switchpoint-service` as its users run it: what it prints, where, and its exit status."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.cli import is_loopback, main
from tests.service.conftest import edit_body, report_body, run_body
from tests.service.processes import ServerProcess

TOKENS = "write:ada:0123456789abcdef\n"


def run_cli(*arguments: str, tokens: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "SWITCHPOINT_TOKENS"}
    if tokens is not None:
        environment["SWITCHPOINT_TOKENS"] = tokens
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def in_process(capsys: pytest.CaptureFixture[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own, which takes two seconds to start."""
    code = main(arguments)
    captured = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, code, captured.out, captured.err)


def complaint(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that a command complained with."""
    assert (done.returncode, done.stdout) == (code, ""), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("switchpoint-service: ")
    return line


@pytest.mark.parametrize("command", [[], ["serve"], ["export"], ["import"]])
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert "examples:\n  switchpoint-service serve --db runs.db" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["bake"], ["serve", "--port", "x"], ["serve", "--port", "65536"]])
def test_a_wrong_call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.5", False),
        ("", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_beyond_loopback_needs_tokens(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        done = run_cli("serve", "--host", host, "--port", "0", "--db", str(tmp_path / "a.db"))
        assert "not a loopback address: give --token-file" in complaint(done, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_token_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("owner:me:0123456789abcdef\n")
    done = run_cli("serve", "--host", "0.0.0.0", "--token-file", str(path), "--db", str(tmp_path / "a.db"))
    assert "line 1: the scope must be one of read, write, trainer" in complaint(done, 2)
    done = run_cli("serve", "--db", str(tmp_path / "a.db"), tokens=str(tmp_path / "absent"))
    assert "cannot be read" in complaint(done, 2)


def test_serves_beyond_loopback_with_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(TOKENS)
    server = ServerProcess(
        tmp_path / "a.db", "--host", "0.0.0.0", environment={"SWITCHPOINT_TOKENS": str(tmp_path / "tokens")}
    )
    url = server.url.replace("0.0.0.0", "127.0.0.1")
    try:
        assert httpx.get(f"{url}/v1/runs").status_code == 401
        headers = {"Authorization": "Bearer 0123456789abcdef"}
        assert httpx.get(f"{url}/v1/runs", headers=headers).json() == {"runs": [], "next": None}
    finally:
        server.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_when_asked(tmp_path: Path, number: signal.Signals) -> None:
    server = ServerProcess(tmp_path / "a.db")
    with server.client() as client:
        assert client.get("/readyz").status_code == 200
    server.process.send_signal(number)
    assert server.stop() in (-signal.SIGTERM, 130)


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_cli("serve", "--port", port, "--db", str(tmp_path / "a.db"))
    assert f"cannot listen on 127.0.0.1 port {port}" in complaint(done, 1)


def test_a_database_that_cannot_be_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = in_process(capsys, "serve", "--port", "0", "--db", str(tmp_path / "no" / "a.db"))
    assert "the folder" in complaint(done, 2)
    done = in_process(capsys, "export", "--db", str(tmp_path / "a.db"), "abc")
    assert "there is no such file" in complaint(done, 2)
    assert list(tmp_path.iterdir()) == []


def test_export_and_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = ServerProcess(tmp_path / "a.db")
    try:
        with server.client() as client:
            run = f"/v1/runs/{client.post('/v1/runs', json=run_body()).json()['id']}"
            client.post(f"{run}/revisions", json=edit_body(effective_step=50))
            client.post(f"{run}/progress", json=report_body(80, 100, metrics={"loss": 2.5}))
            client.post(f"{run}/revisions", json=edit_body(0, 700))
            paths = ("", "/schedule", "/revisions", "/progress", "/batches/710")
            before = [client.get(f"{run}{path}").json() for path in paths]
            run_id = run.rpartition("/")[2]
            done = run_cli("export", "--db", str(tmp_path / "a.db"), run_id)  # while it is served
    finally:
        server.kill()
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "ledger.jsonl").write_text(done.stdout)
    to_file = in_process(capsys, "export", "--db", str(tmp_path / "a.db"), run_id, "-o", str(tmp_path / "same.jsonl"))
    assert (to_file.returncode, (tmp_path / "same.jsonl").read_text()) == (0, done.stdout)

    imported = in_process(capsys, "import", "--db", str(tmp_path / "b.db"), str(tmp_path / "ledger.jsonl"))
    name = before[0]["name"]
    assert imported.stdout == f"imported run {run_id} ({name}): revision 2, frontier 100\n"
    twice = in_process(capsys, "import", "--db", str(tmp_path / "b.db"), str(tmp_path / "ledger.jsonl"))
    assert "has a run" in complaint(twice, 2)
    other = ServerProcess(tmp_path / "b.db")
    try:
        with other.client() as client:
            assert [client.get(f"{run}{path}").json() for path in paths] == before
    finally:
        other.kill()


def test_export_of_an_unknown_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from service.store import Store

    Store(tmp_path / "a.db").close()
    done = in_process(capsys, "export", "--db", str(tmp_path / "a.db"), "abc")
    assert "there is no run 'abc'" in complaint(done, 2)
