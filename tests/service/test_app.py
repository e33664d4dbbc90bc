"""service.app: what importing costs, and the frozen surface of the API."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import edit_body, report_body, run_body
from tests.service.processes import serve_in_thread

OPERATIONS = {
    ("POST", "/v1/runs"): "createRun",
    ("GET", "/v1/runs"): "listRuns",
    ("GET", "/v1/runs/{run_id}"): "getRun",
    ("GET", "/v1/runs/{run_id}/schedule"): "getSchedule",
    ("GET", "/v1/runs/{run_id}/ledger"): "getLedger",
    ("GET", "/v1/runs/{run_id}/weights"): "getWeights",
    ("GET", "/v1/runs/{run_id}/forecast"): "getForecast",
    ("GET", "/v1/runs/{run_id}/batches/{step}"): "getBatch",
    ("GET", "/v1/runs/{run_id}/samples/{corpus}/{sample_id}"): "getReads",
    ("GET", "/v1/runs/{run_id}/revisions"): "listRevisions",
    ("POST", "/v1/runs/{run_id}/revisions"): "createRevision",
    ("POST", "/v1/runs/{run_id}/progress"): "reportProgress",
    ("POST", "/v1/runs/{run_id}/claim"): "claimRun",
    ("POST", "/v1/runs/{run_id}/fork"): "forkRun",
    ("PUT", "/v1/runs/{run_id}/limits"): "setLimits",
    ("GET", "/v1/runs/{run_id}/audit"): "listEvents",
    ("GET", "/v1/runs/{run_id}/events"): "streamEvents",
    ("GET", "/v1/audit"): "listAllEvents",
    ("GET", "/v1/runs/{run_id}/progress"): "listProgress",
    ("GET", "/healthz"): "getHealth",
    ("GET", "/readyz"): "getReadiness",
    ("GET", "/metrics"): "getMetrics",
}
SECRETS = {scope: f"{scope}-0123456789abcdef" for scope in ("read", "write", "trainer")}


def test_importing_is_light() -> None:
    """`import service.app` needs none of the heavy packages, and less than half a second."""
    program = "import json, sys, service.app; print(json.dumps(sorted(sys.modules)))"
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds = []
    for _ in range(5):
        begun = os.times()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=usual)
        ended = os.times()  # of the processor, which others at work on this machine do not change
        seconds.append(ended.children_user - begun.children_user + ended.children_system - begun.children_system)
    loaded = set(json.loads(done.stdout))
    heavy = {"torch", "composer", "streaming", "transformers", "sqlalchemy", "alembic", "fastapi"}
    assert loaded & heavy == set()
    assert min(seconds) < 0.5


def test_an_application_needs_neither_torch_nor_composer(tmp_path: Path) -> None:
    program = (
        "import json, sys, pathlib; from service.app import create_app; from service.settings import Settings\n"
        f"create_app(Settings(database=pathlib.Path({str(tmp_path / 'a.db')!r}))).openapi()\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) & {"torch", "composer", "streaming", "transformers"} == set()


def test_operations_are_frozen(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    found = {
        (method.upper(), path): operation["operationId"]
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert found == OPERATIONS


def test_every_operation_documents_its_problems(api: httpx.Client) -> None:
    """By status, one by one: what is not in the document is never answered (tests/service/test_fuzz.py)."""
    document = api.get("/openapi.json").json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            refusals = {status for status in operation["responses"] if status.startswith("4")}
            for status in refusals:
                assert list(operation["responses"][status]["content"]) == ["application/problem+json"], (method, path)
            expected = {"400", "401", "403", "421", "422", "429"}
            expected |= {"404", "409"} if "{" in path else set()
            expected |= {"408", "409", "413", "415"} if "requestBody" in operation else set()
            assert refusals == expected, (method, path)


def test_two_applications_share_nothing(tmp_path: Path) -> None:
    databases = [tmp_path / "a.db", tmp_path / "b.db"]
    with (
        serve_in_thread(Settings(database=databases[0])) as one,
        serve_in_thread(Settings(database=databases[1])) as two,
    ):
        assert httpx.post(f"{one}/v1/runs", json=run_body()).status_code == 201
        assert len(httpx.get(f"{one}/v1/runs").json()["runs"]) == 1
        assert httpx.get(f"{two}/v1/runs").json()["runs"] == []


def test_settings_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Settings(database=tmp_path / "a.db", tokens_file="x")  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Settings(database=tmp_path / "a.db", plan_cache_size=0)


def test_creating_an_application_makes_its_database(tmp_path: Path) -> None:
    app = create_app(Settings(database=tmp_path / "a.db"))
    assert (tmp_path / "a.db").exists()
    app.state.store.close()


def test_scopes(tmp_path: Path) -> None:
    """Each token may do what its scope says; a stranger nothing but ask whether the service lives."""
    from service.tokens import parse_tokens

    tokens = parse_tokens("\n".join(f"{scope}:me:{secret}" for scope, secret in SECRETS.items()))
    with serve_in_thread(Settings(database=tmp_path / "a.db", tokens=tokens)) as url:
        clients = {
            name: httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"})
            for name, secret in {**SECRETS, "stranger": "0" * 20}.items()
        }
        made = clients["trainer"].post("/v1/runs", json=run_body())
        assert made.status_code == 201
        run = f"/v1/runs/{made.json()['id']}"
        requests = {
            "get": ("GET", run, None),
            "metrics": ("GET", "/metrics", None),
            "create": ("POST", "/v1/runs", run_body()),
            "dry run": ("POST", f"{run}/revisions?dry_run=true", edit_body()),
            "report": ("POST", f"{run}/progress", report_body(0, 1)),
            "health": ("GET", "/healthz", None),
        }
        found = {
            who: {what: client.request(*args[:2], json=args[2]).status_code for what, args in requests.items()}
            for who, client in clients.items()
        }
        none = httpx.get(f"{url}{run}")
    read = {"get": 200, "metrics": 200, "create": 403, "dry run": 403, "report": 403, "health": 200}
    assert found == {
        "read": read,
        "write": {**read, "create": 201, "dry run": 200},
        "trainer": {**read, "create": 200, "report": 200},
        "stranger": dict.fromkeys(requests, 401) | {"health": 200},
    }
    assert (none.status_code, none.headers["www-authenticate"]) == (401, "Bearer")
    assert none.json()["type"] == "urn:switchpoint:problem:not-authenticated"
