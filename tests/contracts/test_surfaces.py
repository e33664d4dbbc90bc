"""Help texts, the REST API, the YAML of a run and mixer's names are what the golden files say.

A wanted change is recorded by `python -m tests.contracts`; its difference is then reviewed like any other.
"""

import json
import re
import tomllib
from typing import Any

import pytest

from service import schemas
from tests.conftest import ROOT
from tests.contracts.surfaces import PROGRAMS, golden, surfaces
from trainer.config import Config

NOW = surfaces()
HELPS = sorted(name for name in NOW if name.startswith("help/"))


@pytest.mark.parametrize("name", sorted(NOW))
def test_a_surface_is_what_was_agreed(name: str) -> None:
    assert NOW[name] == golden().get(name), f"{name} has changed; if that is wanted: python -m tests.contracts"


def test_no_golden_file_is_left_over() -> None:
    assert sorted(golden()) == sorted(NOW)


def test_every_program_and_command_is_among_them() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert sorted(PROGRAMS) == [*sorted(scripts), "trainer"]
    commands = {
        "switchpoint-mixer": {"show", "forecast", "batch", "locate", "diff", "plot"},
        "switchpoint-shards": {"convert", "inspect", "verify", "proximity"},
        "switchpoint-service": {"serve", "export", "import"},
    }
    agreed = {f"help/{program}-{name}.txt" for program, names in commands.items() for name in names}
    assert agreed <= set(HELPS)


@pytest.mark.parametrize("name", HELPS)
def test_every_help_has_an_example(name: str) -> None:
    program, _, command = re.fullmatch(r"help/(trainer|switchpoint-[a-z]+)(-?)(.*)\.txt", name).groups()
    called = "trainer/run.py" if program == "trainer" else f"{program} {command}"
    _, found, examples = NOW[name].lower().partition("example")
    assert found, "no example"
    assert called in examples


# -- what the design promises to other programs: it may grow, not shrink


@pytest.mark.parametrize(
    "operation",
    [
        "POST /v1/runs",
        "GET /v1/runs",
        "GET /v1/runs/{run_id}",
        "GET /v1/runs/{run_id}/schedule",
        "GET /v1/runs/{run_id}/weights",
        "GET /v1/runs/{run_id}/revisions",
        "POST /v1/runs/{run_id}/revisions",
        "GET /v1/runs/{run_id}/forecast",
        "GET /v1/runs/{run_id}/batches/{step}",
        "GET /v1/runs/{run_id}/samples/{corpus}/{sample_id}",
        "POST /v1/runs/{run_id}/progress",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    ],
)
def test_the_rest_api_has(operation: str) -> None:
    assert operation in json.loads(NOW["openapi.json"])["operations"]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (
            schemas.RunIn,
            {
                "name": "r",
                "data_seed": 17,
                "global_batch_size": 8,
                "seq_len": 32,
                "num_steps": 10,
                "corpora": {"c4": {"shard_sizes": [4, 4]}},
                "schedule": {"phases": [{"start": "0ba", "mixture": {"c4": 1.0}}]},
            },
        ),
        (
            schemas.RevisionIn,
            {
                "parent": 0,
                "effective_step": 5,
                "mixture": {"c4": 1.0},
                "ramp": {"shape": "linear", "length": "2ba"},
                "reason": "why",
                "author": "who",
            },
        ),
        (
            schemas.RevisionIn,
            {
                "parent": 0,
                "effective_step": 5,
                "schedule": {"phases": [{"start": "5ba", "mixture": {"c4": 1.0}}]},
                "reason": "why",
                "author": "who",
            },
        ),
        (
            schemas.ProgressIn,
            {"step": 3, "freeze_through": 5, "known_revision": 0, "metrics": {"loss": 2.5}, "counts": {"c4": 24}},
        ),
    ],
)
def test_the_bodies_of_the_design_are_accepted(body: Any, value: dict[str, Any]) -> None:
    assert body.model_validate(value)


def test_the_answers_of_the_design_have_their_fields() -> None:
    assert {"id", "revision", "frontier"} <= set(schemas.RunOut.model_fields)
    assert {"before", "after"} <= set(schemas.PreviewOut.model_fields)
    assert {"frontier", "revisions"} <= set(schemas.AnswerOut.model_fields)


def test_the_yaml_of_a_run_has_the_keys_of_the_design() -> None:
    keys = "run_name data_seed max_duration global_batch_size seq_len tokenizer model optimizer lr_schedule"
    keys += " corpora schedule eval service save_folder load_path"
    assert set(keys.split()) <= set(Config.model_fields)
    parts = Config.model_json_schema()["$defs"]
    assert {"local", "remote", "max_epochs"} <= set(parts["CorpusConfig"]["properties"])
    assert {"url", "sync_interval"} <= set(parts["ServiceConfig"]["properties"])
