"""`switchpoint-mixer` as a user runs it: tables, JSON, one-line errors, exit codes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mixer.cli import main

CONFIG = """
run_name: paper
data_seed: 17
max_duration: 61035ba
global_batch_size: 1024
seq_len: 2048
corpora: {c4: {}, flan: {max_epochs: 2}}
schedule:
  phases:
    - {start: 0ba, mixture: {c4: 1.0}}
    - {start: 40000ba, mixture: {c4: 0.85, flan: 0.15}}
"""
SIZES = ["--size", "c4=160e9tok", "--size", "flan=3.5e9tok"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "cfg.yaml"
    path.write_text(CONFIG)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, err = run(capsys, *arguments, *SIZES, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_show(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", config, *SIZES)
    assert code == 0
    assert "paper: 61,035 steps x 1,024 samples x 2,048 tokens = 128.0B tokens" in out
    assert "40,000     83.9B   c4 0.85, flan 0.15" in out
    assert ask(capsys, "show", config)["phases"][1]["mixture"] == {"c4": 0.85, "flan": 0.15}


def test_forecast_warns_of_repetition(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "forecast", config, *SIZES)
    assert "warning: flan is read again from step 51,126 on" in out
    flan = ask(capsys, "forecast", config)["corpora"]["flan"]
    assert round(flan["epochs"], 1) == 1.9
    assert ask(capsys, "forecast", config, "--step", 40_000)["corpora"]["flan"]["samples"] == 0


def test_batch_and_locate_are_inverse(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = ask(capsys, "batch", config, 50_000)
    slot = batch["corpus"].index("flan")
    assert {"step": 50_000, "slot": slot} in ask(capsys, "locate", config, "flan", batch["sample_id"][slot])
    _, out, _ = run(capsys, "batch", config, 50_000, *SIZES)
    assert "step 50,000: 870 of c4, 154 of flan" in out
    assert "… and 1,008 more (--all)" in out


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_plot_writes_a_picture(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    code, _, _ = run(capsys, "plot", config, *SIZES, "--out", tmp_path / f"plan.{ending}")
    assert code == 0
    assert (tmp_path / f"plan.{ending}").stat().st_size > 5000


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c4: 0.85", "c4: 0.75", "weights sum to 0.9, they must sum to 1 @ $.schedule.phases[1].mixture"),
        ("{c4: 0.85, flan: 0.15}", "{c4: 0.85, flam: 0.15}", "unknown corpus 'flam', did you mean 'flan'?"),
        ("max_epochs: 2", "max_epochs: 1",
         "corpus 'flan' would be read more than max_epochs=1 times from step 51126 on"),
        ("61035ba", "soon", "'6000ba', '12.6e9tok' or '0.1dur', found 'soon' @ $.max_duration"),
        ("seq_len: 2048", "seq_len: many", "found 'many' @ $.seq_len"),
        ("schedule:", "shedule:", "unknown key 'shedule', did you mean 'schedule'? @ $.shedule"),
        ("run_name: paper", "run_name: [", "is not usable as YAML"),
        ("data_seed: 17", "data_seed: abc", "found 'abc' @ $.data_seed"),
        ("data_seed: 17", "", "this key is missing @ $.data_seed"),
        ("data_seed: 17", "data_seed: 17\ndata_seed: 18",
         "the key 'data_seed' stands twice in one section, again in line 4"),
        ("data_seed: 17", "shuffle_windw: 8\ndata_seed: 17",
         "unknown key 'shuffle_windw', did you mean 'shuffle_window'?"),
        ("max_epochs: 2", "max_epoch: 2",
         "unknown key 'max_epoch', did you mean 'max_epochs'? @ $.corpora.flan.max_epoch"),
        ("max_epochs: 2", "max_epochs: x", "found 'x' @ $.corpora.flan.max_epochs"),
        ("max_epochs: 2", "then: c5", "unknown corpus 'c5', known are c4, flan, or 'refuse' @ $.corpora.flan.then"),
    ],
)  # fmt: skip
def test_bad_files_get_one_line_and_exit_code_2(
    config: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    config.write_text(CONFIG.replace(old, new))
    code, out, err = run(capsys, "show", config, *SIZES)
    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_file_in_another_encoding(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_bytes(CONFIG.replace("paper", "pâper").encode("latin-1"))
    assert "is not usable as YAML: 'utf-8' codec can't decode" in run(capsys, "show", config, *SIZES)[2]


def test_a_picture_in_no_known_format(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "plot", config, *SIZES, "--out", tmp_path / "plan.foo")
    assert code == 2
    assert "plan.foo" in err
    assert not (tmp_path / "plan.foo").exists()


def test_bad_calls(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(capsys, "show", "nowhere.yaml")[2]
        == "switchpoint-mixer: cannot read nowhere.yaml: No such file or directory\n"
    )
    assert "give its size with --size c4=12e9tok" in run(capsys, "show", config)[2]
    assert "has no corpus 'c5'" in run(capsys, "show", config, "--size", "c5=1")[2]
    assert "step 61035 is outside of the run" in run(capsys, "batch", config, 61_035, *SIZES)[2]
    with pytest.raises(SystemExit) as caught:
        main(["show", str(config), "--size", "c4"])
    assert caught.value.code == 2


def test_it_runs_as_a_module_and_its_help_has_examples() -> None:
    result = subprocess.run([sys.executable, "-m", "mixer", "--help"], capture_output=True, text=True, check=True)
    assert "switchpoint-mixer locate cfg.yaml starcoder 12345" in result.stdout
