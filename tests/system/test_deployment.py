"""docker/ and deploy/: what they name exists, what they call is understood, what they install is what they should.

Nothing is built here: docs/guides/docker.md says what was run of it, and what was not.
"""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import service.cli
from service.app import create_app
from service.metrics import Metrics
from service.settings import Settings
from service.tokens import parse_tokens
from tests.conftest import ROOT

DOCKER = ROOT / "docker"
DASHBOARD = DOCKER / "grafana" / "switchpoint.json"
ALERTS = DOCKER / "prometheus" / "alerts.yaml"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
UNIT = (ROOT / "deploy" / "systemd" / "switchpoint.service").read_text()
KUBERNETES = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "switchpoint.yaml").read_text()))
SECRETS = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "secrets.example.yaml").read_text()))
HEAVY = {"torch", "mosaicml", "mosaicml-streaming", "transformers", "triton", "numba", "pyarrow", "boto3"}


def expressions() -> Iterator[str]:
    """Every query of the dashboard and of the alerts."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name → kind of every metric of a service."""
    app = create_app(Settings(database=tmp_path_factory.mktemp("deployment") / "a.db"))
    shown: Metrics = app.state.metrics
    text = shown.render().decode()
    app.state.store.close()
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def test_every_metric_of_dashboard_and_alerts_exists(metrics: dict[str, str]) -> None:
    series = {"up", *metrics}
    for name, kind in metrics.items():
        series |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else set()
    named = {name for text in expressions() for name in re.findall(r"\b(?:switchpoint|process)_\w+|\bup\b", text)}
    assert len(named) > 15
    assert named - series == set()


def test_what_is_counted_is_asked_as_what_it_is(metrics: dict[str, str]) -> None:
    """Counters by rate or increase alone; gauges never."""
    for text in expressions():
        for function, name in re.findall(r"(\w*)\((switchpoint_\w+|process_\w+)", text):
            if name.endswith(("_total", "_bucket", "_sum", "_count")):
                assert function in ("rate", "increase"), text
            else:
                assert function not in ("rate", "increase"), text


def test_routes_and_outcomes_of_queries_exist(tmp_path: Path) -> None:
    app = create_app(Settings(database=tmp_path / "a.db"))
    routes = set(app.openapi()["paths"])
    app.state.store.close()
    text = "\n".join(expressions())
    assert set(re.findall(r'route="([^"]*)"', text)) <= routes
    problems = (ROOT / "service" / "problems.py").read_text()
    outcomes = set(re.findall(r'outcome="([^"]*)"', text))
    assert outcomes
    assert all(f'name="{outcome}"' in problems for outcome in outcomes)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus, which is not here")
@pytest.mark.parametrize("command", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]])
def test_alerts_fire_when_they_should(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=ALERTS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def dockerfile(name: str) -> list[str]:
    """The instructions of a Dockerfile, each on one line."""
    text = (DOCKER / f"{name}.Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def installed(name: str) -> set[str]:
    """The distributions that an image gets: what `uv sync` with its options takes from the lock."""
    (options,) = {
        tuple(word for word in line.split()[3:] if word not in ("--no-install-project", "--no-editable"))
        for line in dockerfile(name)
        if line.startswith("RUN uv sync")
    }
    command = ["uv", "export", *options, "--no-emit-project", "--no-hashes", "--no-header", "--no-annotate"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {re.split(r"[=\[ ;]", line)[0] for line in done.stdout.splitlines() if line.strip()}


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not on the path")
def test_the_image_of_the_service_has_no_torch() -> None:
    assert "torch" in installed("trainer")  # the question can be answered
    found = installed("service")
    assert {"fastapi", "sqlalchemy", "psycopg", "prometheus-client"} <= found
    assert found & HEAVY == set()


@pytest.mark.parametrize("name", ["service", "trainer"])
def test_images_run_as_nobody_in_particular(name: str) -> None:
    lines = dockerfile(name)
    assert "USER 10001" in lines
    copied = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert all((ROOT / path).exists() for path in copied)
    assert {"mixer", "shards", "trainer", "service"} <= set(copied)  # what the wheel holds


def served(words: list[str]) -> Any:
    """The arguments of a call of `switchpoint-service`, as it understands them."""
    return service.cli._parser().parse_args(words)


def test_what_they_call_is_understood() -> None:
    (command,) = (json.loads(line[4:]) for line in dockerfile("service") if line.startswith("CMD "))
    assert served(command).host == "0.0.0.0"
    (start,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    assert served(shlex.split(start)[1:]).log_format == "json"
    (container,) = deployment()["containers"]
    assert served(container["args"]).shutdown_delay == 5


def test_they_have_longer_to_stop_than_they_take() -> None:
    (container,) = deployment()["containers"]
    arguments = served(container["args"])
    assert deployment()["terminationGracePeriodSeconds"] > arguments.shutdown_delay + arguments.shutdown_grace
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    default = served(["serve"])
    assert int(seconds) > default.shutdown_delay + default.shutdown_grace
    grace = COMPOSE["services"]["service"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > default.shutdown_delay + default.shutdown_grace


def deployment() -> dict[str, Any]:
    """The pod of the Kubernetes example."""
    (found,) = (item for item in KUBERNETES if item["kind"] == "Deployment")
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod


def test_the_pod_may_little() -> None:
    (container,) = deployment()["containers"]
    assert deployment()["securityContext"]["runAsNonRoot"] is True
    assert deployment()["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    kinds = [item["kind"] for item in KUBERNETES]
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"]


def test_the_secrets_it_wants_are_those_of_the_example() -> None:
    secrets = {item["metadata"]["name"]: item["stringData"] for item in SECRETS}
    (container,) = deployment()["containers"]
    (password,) = (one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one)
    (volume,) = (one["secret"]["secretName"] for one in deployment()["volumes"] if "secret" in one)
    assert {password["name"], volume} == set(secrets)
    assert password["key"] in secrets[password["name"]]
    scopes = [token.scopes for token in parse_tokens(secrets[volume]["tokens"])]
    assert scopes == [{"admin"}, {"read"}]


def test_probes_and_ports_are_those_of_the_service(tmp_path: Path) -> None:
    app = create_app(Settings(database=tmp_path / "a.db"))
    paths = set(app.openapi()["paths"])
    app.state.store.close()
    (container,) = deployment()["containers"]
    probed = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    assert probed == {"/healthz", "/readyz"} <= paths
    port = str(served(["serve"]).port)
    for text in (
        (ROOT / "deploy" / "kubernetes" / "switchpoint.yaml").read_text(),
        (DOCKER / "compose.yaml").read_text(),
        (DOCKER / "prometheus" / "prometheus.yaml").read_text(),
        "\n".join(dockerfile("service")),
        UNIT,
    ):
        assert port in text


def test_compose_publishes_on_loopback_alone_and_mounts_what_is_there() -> None:
    for name, one in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", [])), name
        mounted = [volume.split(":")[0] for volume in one.get("volumes", []) if volume.startswith("./")]
        assert all((DOCKER / path).exists() for path in mounted), name
    named = {volume.split(":")[0] for one in COMPOSE["services"].values() for volume in one.get("volumes", [])}
    assert {name for name in named if name[0] not in "$."} == set(COMPOSE["volumes"])
