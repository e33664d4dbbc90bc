"""A run that is killed and goes on, as each destination has it afterwards; nothing here speaks to a network."""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.conftest import run_config
from tests.trainer.launch import Run, last_of_each_step, wait_for_step
from tests.trainer.test_loading import problems_of, write
from trainer.errors import ConfigError
from trainer.loggers.destinations import Mlflow, flat
from trainer.loggers.settings import MlflowConfig

NUM_STEPS = 10
SCHEDULE = {"phases": [{"start": 0, "mixture": {"c4": 1.0}}, {"start": 5, "mixture": {"c4": 0.5, "code": 0.5}}]}
ENVIRONMENT = {"WANDB_API_KEY": "secret" * 8, "WANDB_ERROR_REPORTING": "false"}


@pytest.fixture(scope="module")
def logged(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of ten steps, killed after step 5, which went on with a checkpoint of four, on two ranks."""
    out = tmp_path_factory.mktemp("logged")
    loggers = {
        "jsonl": str(out / "all.jsonl"),
        "tensorboard": {"folder": str(out / "tensorboard")},
        "wandb": {"project": "tests", "offline": True, "folder": str(out)},
        "mlflow": {"tracking_uri": f"sqlite:///{out}/mlflow.db", "experiment": "tests"},
    }
    changes = {"max_duration": f"{NUM_STEPS}ba", "schedule": SCHEDULE, "loggers": loggers, "num_workers": 0}
    config = run_config(corpora, out, eval={"interval": "5ba", "num_samples": 4}, **changes)
    run = Run([str(config)], out, environment=ENVIRONMENT)
    wait_for_step(run, out / "metrics.jsonl", 5, 400)
    run.kill()
    run = Run([str(config), "eval.num_samples=5"], out, num_ranks=2, environment=ENVIRONMENT)
    assert run.wait(400) == 0, run.output
    return out


@pytest.fixture(scope="module")
def expected(logged: Path) -> dict[int, float]:
    """Step to loss, of all steps."""
    found = {step: line["loss"] for step, line in last_of_each_step(logged / "metrics.jsonl").items()}
    assert sorted(found) == list(range(NUM_STEPS))
    return found


def test_tensorboard_has_each_step_once(logged: Path, expected: dict[int, float]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logged / "tensorboard" / "test"))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("loss/train/total")}
    assert found == pytest.approx(expected, rel=1e-6)
    shares = {event.step: event.value for event in events.Scalars("share/code")}
    assert shares == {step: 0.5 if step >= 5 else 0.0 for step in range(NUM_STEPS)}
    assert [event.step for event in events.Scalars("eval/c4/loss")] == [5, 10]
    assert "speed/tokens_per_s" in events.Tags()["scalars"]


def test_mlflow_has_one_run_with_every_step(logged: Path, expected: dict[int, float]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{logged}/mlflow.db")
    experiment = client.get_experiment_by_name("tests")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("test", "FINISHED")
    assert run.data.params["lr_schedule.kind"] == "cosine"
    assert run.data.params["eval.num_samples"] == "4"  # of the first start
    history = client.get_metric_history(run.info.run_id, "loss/train/total")
    assert {metric.step: metric.value for metric in history} == pytest.approx(expected)
    assert run.data.metrics["lr"] == pytest.approx(3e-5)


def test_weights_and_biases_keeps_one_run_offline(logged: Path, expected: dict[int, float]) -> None:
    """Of the start that was killed its file holds what Weights & Biases had written by then, if anything."""
    folders = sorted((logged / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    assert len({folder.name.split("-")[-1] for folder in folders}) == 1
    found = [dict(losses_in(next(folder.glob("run-*.wandb")).read_bytes())) for folder in folders]
    assert list(found[1]) == list(range(min(found[1]), NUM_STEPS))
    assert 4 <= min(found[1]) < NUM_STEPS
    assert found[0] | found[1] == pytest.approx({step: expected[step] for step in found[0] | found[1]})


def losses_in(data: bytes) -> Iterator[tuple[int, float]]:
    for record in records_in(data):
        items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        if "loss/train/total" in items:
            yield int(json.loads(items["step"])), json.loads(items["loss/train/total"])


def records_in(data: bytes) -> Iterator[Any]:
    """What a file of Weights & Biases holds: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, parts = 7, b""
    while place + 7 <= len(data):
        if (left := 32_768 - place % 32_768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def test_json_lines_hold_all_metrics_of_a_step(logged: Path, expected: dict[int, float]) -> None:
    lines: dict[int, dict[str, float]] = {}
    for line in map(json.loads, (logged / "all.jsonl").read_text().splitlines()):
        lines[line["step"]] = lines.get(line["step"], {}) | line
    assert {step: line["loss/train/total"] for step, line in lines.items() if step in expected} == expected
    for line in (lines[step] for step in expected):
        assert {
            "lr",
            "share/c4",
            "share_so_far/c4",
            "data/wait_s",
            "speed/tokens_per_s",
            "speed/data_wait_share",
        } <= line.keys()
    assert lines[NUM_STEPS].keys() >= {"eval/c4/loss", "eval/code/loss"}


def test_the_speed_is_in_the_step_lines_and_the_metrics_file(logged: Path) -> None:
    output = (logged / "rank0.txt").read_text()
    assert re.search(r"step 9/10  loss .*  [\d,]+ tokens/s  0:00:\d\d left", output)
    last = last_of_each_step(logged / "metrics.jsonl")[NUM_STEPS - 1]
    speed = last["speed"]
    assert speed["speed/tokens_per_s"] == pytest.approx(512 / speed["speed/step_s"])
    assert speed["speed/tokens_per_s_per_device"] == pytest.approx(speed["speed/tokens_per_s"] / 2)
    assert 0 <= speed["speed/data_wait_share"] < 1
    assert 5e7 < speed["memory/peak_rss_bytes"] < 1e11
    assert speed["speed/time_left_s"] == 0
    assert "speed/mfu" not in speed


def test_no_secret_is_kept(logged: Path) -> None:
    files = [path for path in logged.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    assert len(files) > 6
    assert not [path for path in files if b"secretsecret" in path.read_bytes()]


@pytest.mark.parametrize(
    ("loggers", "place"),
    [
        ({"mlflow": {"experiment": "x", "tracking_uri": "https://me:pw@host"}}, "$.loggers.mlflow.tracking_uri"),
        ({"wandb": {"offline": True}}, "$.loggers.wandb.project"),
        ({"tensorbord": {"folder": "x"}}, "$.loggers.tensorbord"),
        ({"wandb": {"project": "x", "api_key": "y"}}, "$.loggers.wandb.api_key"),
    ],
)
def test_wrong_loggers_name_their_place(loggers: dict[str, object], place: str, tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, {"loggers": loggers}))
    assert problem.endswith(f"@ {place}")


def test_a_store_that_mlflow_does_not_take_is_refused_with_what_to_do(tmp_path: Path) -> None:
    config = MlflowConfig(tracking_uri=f"file:{tmp_path}/mlruns", experiment="tests")
    with pytest.raises(ConfigError, match=r"database backend.*@ \$.loggers.mlflow"):
        Mlflow("test", config, {}).start(0)


def test_values_are_flat() -> None:
    values = {"a": 1, "b": {"c": "x", "d": {"e": [1, {"f": None}]}}, "g": True}
    assert dict(flat(values)) == {"a": "1", "b.c": "x", "b.d.e": '[1, {"f": null}]', "g": "true"}
