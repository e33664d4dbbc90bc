"""Sweeps: which runs there are, that none is done twice, and what their losses come to. The runs are stand-ins."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.trainer.conftest import run_config
from trainer.sweep import main
from trainer.sweep_results import Outcome, as_json, as_table, best, final_losses, summarise

# loss = rate x 1000 + seed / 1000; counts how often each folder was started; the first start of seed 3 is killed
STAND_IN = """
import os, sys, yaml
config = yaml.safe_load(open(sys.argv[1]))
assert config["data_seed"] == config["seed"] and config["autoresume"]
folder = os.path.dirname(sys.argv[1])
starts = os.path.join(folder, "starts")
open(starts, "a").write("x")
if config["seed"] == 3 and os.path.getsize(starts) == 1:
    os.kill(os.getpid(), 9)
loss = config["lr_schedule"]["peak"] * 1000 + config["seed"] / 1000
line = '{"step": 24, "eval": {"c4": %r}, "eval_batch_means": {"c4": %r}, "forgetting": {"c4": {"0": 0.5}}}'
with open(config["metrics_file"], "a") as file:
    file.write('{"step": 3, "loss": 1.0}\\n' + line % (loss, loss + 1) + '\\n{"cut off')
"""


@pytest.fixture
def call(tmp_path: Path) -> list[str]:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    path = run_config(tmp_path / "data", tmp_path)
    return [
        *(str(path), "--out", str(tmp_path / "out"), "--command", f"{sys.executable} {tmp_path / 'stand_in.py'}"),
        *("--over", "lr_schedule.peak=2e-3,1e-3", "--over", "seed=1,3", "--jobs", "2"),
    ]


def starts(out: Path) -> dict[str, int]:
    return {path.parent.name: len(path.read_text()) for path in out.glob("*/starts")}


def test_a_killed_run_fails_and_the_same_call_runs_it_alone(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(call) == 1
    failed = [f"lr_schedule.peak={rate},seed=3" for rate in ("2e-3", "1e-3")]
    told = capsys.readouterr().err.splitlines()
    assert told == [f"failed: {out / name}, see {out / name / 'log.txt'}" for name in failed]
    assert main(call) == 0
    assert starts(out) == {f"lr_schedule.peak={r},seed={s}": 1 + (s == 3) for r in ("2e-3", "1e-3") for s in (1, 3)}
    found = json.loads((out / "results.json").read_text())
    assert found["best"] == {"loss": "c4", "values": {"lr_schedule.peak": "1e-3"}}
    assert [setting["num_seeds"] for setting in found["settings"]] == [2, 2]
    assert found["settings"][1]["means"] == {
        "c4": pytest.approx(1.002), "c4 batch means": pytest.approx(2.002), "c4 forgetting": 0.5
    }  # fmt: skip
    assert (out / "results.csv").read_text().splitlines()[1].startswith("2e-3,1,2.001,3.001,0.5")


def test_a_folder_of_another_configuration_is_refused(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(call)
    before = starts(tmp_path / "out")
    assert main([*call, "global_batch_size=8"]) == 2
    assert "holds a run of another configuration" in capsys.readouterr().err
    assert starts(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--over", "seed=5"], "must be a new key"),
        (["--over", "model.name="], "must be a new key"),
        (["--over", "nothing=1"], "unknown key 'nothing'"),
        (["--over", "lr_schedule.warmup=0.1dur,0.0001ba"], r"$.lr_schedule.warmup"),
        (["metrics_file=x"], "metrics_file is chosen by the sweep"),
    ],
)
def test_a_wrong_call_starts_nothing(
    more: list[str], message: str, call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*call, *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_papers_grid(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*call[:5], "lr_schedule.floor=0", "--paper-seeds", "--paper-rates", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "130 runs, 0 of them done"


def test_mean_and_spread_over_seeds() -> None:
    outcomes = [Outcome({"rate": r, "seed": s}, {"a": loss}) for r, s, loss in (
        ("x", "1", 1.0), ("x", "2", 2.0), ("x", "3", 6.0), ("y", "1", float("nan")), ("z", "1", 4.0)
    )]  # fmt: skip
    x, y, z = summarise(outcomes)
    assert (x.num_seeds, x.means["a"], x.spreads["a"]) == (3, 3.0, pytest.approx(7**0.5))
    assert (z.num_seeds, z.spreads["a"]) == (1, 0.0)
    assert best([y, x, z], "a") is x
    assert best([y], "a") is None
    assert "3.0000 ± 2.6458" in as_table([x, y, z]).splitlines()[1]
    assert json.loads(as_json(outcomes, [x, y, z], x, "a"))["settings"][1]["means"] == {"a": None}


def test_without_an_evaluation_there_are_no_losses(tmp_path: Path) -> None:
    assert final_losses(tmp_path / "none") == {}
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    assert final_losses(tmp_path / "metrics.jsonl") == {}


def test_stand_in_is_yaml_of_a_whole_run(call: list[str], tmp_path: Path) -> None:
    main(call)
    written = yaml.safe_load((tmp_path / "out" / "lr_schedule.peak=2e-3,seed=1" / "config.yaml").read_text())
    assert (written["seed"], written["data_seed"], written["lr_schedule"]["peak"]) == (1, 1, 2e-3)
