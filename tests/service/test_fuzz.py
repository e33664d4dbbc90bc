"""schemathesis over every operation of the document, against a real server on each database.

No server error, no status or content type that the document does not name, and every answer as its schema says. The
stream of events has no end, so it is left out here (tests/service/test_record.py has it).
"""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.conftest import ROOT
from tests.service.conftest import Database, edit_body, report_body, run_body
from tests.service.processes import serve_in_thread

BOTH_DATABASES = True
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def fuzz(database: Database, folder: Path, *options: str) -> None:
    """Run schemathesis on a fresh service with one run that has a history."""
    with serve_in_thread(Settings(database=database)) as url:
        with httpx.Client(base_url=url) as client:
            run = client.post("/v1/runs", json=run_body()).json()["id"]
            assert client.post(f"/v1/runs/{run}/revisions", json=edit_body()).status_code == 201
            assert client.post(f"/v1/runs/{run}/progress", json=report_body(3, 10)).status_code == 200
        program = Path(sys.executable).with_name("schemathesis")
        command = [str(program), "run", f"{url}/openapi.json", "--checks", ",".join(CHECKS), "--continue-on-failure"]
        command += ["--exclude-operation-id", "streamEvents"]
        done = subprocess.run(
            [*command, *options],
            cwd=folder,  # it keeps its examples here
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SCHEMATHESIS_HOOKS": "tests.service.fuzzing",
                "FUZZED_RUN": run,
            },
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_every_operation(database: Database, tmp_path: Path) -> None:
    fuzz(database, tmp_path, "--phases", "fuzzing", "--max-examples", "4", "--seed", "7")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_operation_at_length(database: Database, tmp_path: Path) -> None:
    fuzz(database, tmp_path, "--max-examples", "300")
