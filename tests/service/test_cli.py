"""`switchpoint-service` as its users run it: what it prints, where, and its exit status."""

import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from service.cli import main
from service.tokens import Caller, identify, parse_tokens
from tests.service.conftest import edit_body, report_body, run_body
from tests.service.processes import ServerProcess

SECRET = "0123456789abcdef"
TOKENS = f"write:ada:{SECRET}\n"


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


COMMANDS = [
    "",
    "serve",
    "export",
    "import",
    "tokens",
    *(f"tokens {verb}" for verb in ("issue", "list", "revoke", "hash")),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    assert "examples:\n  switchpoint-service serve --db runs.db" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["bake"], ["serve", "--port", "x"], ["serve", "--port", "65536"]])
def test_a_wrong_call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_beyond_loopback_needs_tokens(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        done = run_cli("serve", "--host", host, "--port", "0", "--db", str(tmp_path / "a.db"))
        assert "not a loopback address, and no token is valid: issue one" in complaint(done, 2)
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


def test_issues_lists_and_revokes_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = ("--db", str(tmp_path / "a.db"))
    scopes = ("--scope", "write", "--scope", "read")
    issued = in_process(capsys, "tokens", "issue", *db, "--name", "ada", *scopes, "--expires", "2w")
    secret = issued.stdout.strip()
    assert (issued.returncode, secret[:3]) == (0, "sp_")
    assert "token 'ada' (read, write), valid until" in issued.stderr
    assert secret not in issued.stderr
    assert "named 'ada'" in complaint(in_process(capsys, "tokens", "issue", *db, "--name", "ada", "--scope", "read"), 2)
    shown = in_process(capsys, "tokens", "list", *db).stdout.splitlines()
    assert shown[0].split() == ["name", "scopes", "issued", "expires", "revoked"]
    assert [line.split()[::4] for line in shown[1:]] == [["ada", "-"]]
    assert not [path for path in tmp_path.iterdir() if secret.encode() in path.read_bytes()]
    done = in_process(capsys, "tokens", "revoke", *db, "ada")
    assert (done.returncode, done.stdout) == (0, "revoked token 'ada': running services refuse it within seconds\n")
    assert "no token 'ada' to revoke" in complaint(in_process(capsys, "tokens", "revoke", *db, "ada"), 2)
    assert " -" not in in_process(capsys, "tokens", "list", *db).stdout


@pytest.mark.parametrize("name", ["anonymous", "cli", "", "a b", "a\nb", "x" * 101])
def test_a_token_needs_a_name_that_can_stand_in_the_record(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ("tokens", "issue", "--db", str(tmp_path / "a.db"), "--name", name, "--scope", "read")
    assert "a name has letters, digits" in complaint(in_process(capsys, *call), 2)


@pytest.mark.parametrize("span", ["", "90", "0d", "-1d", "1y", "1.5d", "d"])
def test_a_wrong_time(span: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["tokens", "issue", "--name", "a", "--scope", "read", f"--expires={span}"])
    assert caught.value.code == 2
    assert "hours, days or weeks" in capsys.readouterr().err


def test_hashes_a_secret_for_a_token_file() -> None:
    command = [
        sys.executable,
        "-m",
        "service",
        "tokens",
        "hash",
        "--name",
        "ada",
        "--scope",
        "write",
        "--scope",
        "read",
    ]
    done = subprocess.run(command, input=f"{SECRET}\n", capture_output=True, text=True, timeout=60)
    tokens = parse_tokens(done.stdout)
    caller = identify(tokens, SECRET, now=datetime.now(UTC))
    assert caller == Caller(name="ada", scopes=frozenset({"read", "write"}))
    assert SECRET not in done.stdout
    done = subprocess.run(command, input="short\n", capture_output=True, text=True, timeout=60)
    assert "must have at least 16 characters" in complaint(done, 2)


def test_beyond_loopback_a_valid_issued_token_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that was revoked is not: all would be refused, and nobody would know why."""
    db = tmp_path / "a.db"
    secret = in_process(capsys, "tokens", "issue", "--db", str(db), "--name", "ada", "--scope", "write").stdout.strip()
    server = ServerProcess(db, "--host", "0.0.0.0")
    url = server.url.replace("0.0.0.0", "127.0.0.1")
    try:
        assert httpx.get(f"{url}/v1/runs").status_code == 401
        assert httpx.get(f"{url}/v1/runs", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    finally:
        server.kill()
    assert in_process(capsys, "tokens", "revoke", "--db", str(db), "ada").returncode == 0
    done = in_process(capsys, "serve", "--host", "0.0.0.0", "--port", "0", "--db", str(db))
    assert "no token is valid" in complaint(done, 2)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--cors-origin", "*"), "cors_origins: Value error, an origin is a scheme, a host"),
        (("--cors-origin", "https://a.example/path"), "an origin is a scheme, a host"),
        (("--rate-limit", "-1"), "rate_limit: Input should be greater than or equal to 0"),
        (("--shutdown-grace", "-1"), "shutdown_grace_s"),
    ],
)
def test_settings_that_are_wrong(
    arguments: tuple[str, ...], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = in_process(capsys, "serve", "--port", "0", "--db", str(tmp_path / "a.db"), *arguments)
    assert problem in complaint(done, 2)
    assert list(tmp_path.iterdir()) == []


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
