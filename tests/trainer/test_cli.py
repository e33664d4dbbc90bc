"""The command lines as a user types them: help, dry run, wrong configurations, and Composer's launcher."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.conftest import run_config
from tests.trainer.launch import last_of_each_step
from trainer.run import main

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "trainer" / "run.py")


def call(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("start", [[SCRIPT], ["-m", "trainer"]])
def test_help_shows_an_example(start: list[str], tmp_path: Path) -> None:
    answer = call(sys.executable, *start, "--help", cwd=tmp_path)
    assert answer.returncode == 0
    assert "composer trainer/run.py trainer/configs/tiny.yaml" in answer.stdout
    assert "key=value" in answer.stdout


def test_a_dry_run_prints_the_arithmetic_and_the_forecast(corpora: Path, tmp_path: Path) -> None:
    config = run_config(corpora, tmp_path / "out", max_duration="60ba")
    answer = call(sys.executable, SCRIPT, str(config), "--dry-run", "data_seed=3", cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "tokens / step   16 × 32 = 512" in answer.stdout
    assert "tokens / run    60 steps, 30,720" in answer.stdout
    assert "model           tiny: 132,864 parameters" in answer.stdout
    assert "warning: math repeats from step" in answer.stdout
    assert "data_seed: 3" in answer.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cfg.yaml"]


def test_a_dry_run_draws_mixture_and_learning_rate(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, picture = str(run_config(corpora, tmp_path, num_groups=2)), tmp_path / "run.svg"
    assert main([config, "--dry-run", "--plot", str(picture)]) == 0
    assert {"<!-- learning rate -->", "<!-- 0.003 -->"} <= set(re.findall(r"<!-- .*? -->", picture.read_text()))
    assert main([config, "--dry-run", "--plot", str(tmp_path / "no" / "run.svg")]) == 2
    assert main([config, "--dry-run", "--plot", str(tmp_path / "run.xyz")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    with pytest.raises(SystemExit):
        main([config, "--plot", str(picture)])


def test_a_dry_run_imports_neither_torch_nor_composer(corpora: Path, tmp_path: Path) -> None:
    config = run_config(corpora, tmp_path)
    program = (
        "import sys; from trainer.run import main; code = main(sys.argv[1:]); "
        "sys.exit(code or sorted({'torch', 'composer', 'streaming', 'transformers'} & set(sys.modules)) or 0)"
    )
    answer = call(sys.executable, "-c", program, str(config), "--dry-run", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr


def test_a_wrong_configuration_ends_with_a_line_for_each_problem(corpora: Path, tmp_path: Path) -> None:
    config = run_config(corpora, tmp_path / "out", schedule={"phases": [{"start": 0, "mixture": {"cod": 1.0}}]})
    answer = call(sys.executable, SCRIPT, str(config), "sequence_len=3", cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.splitlines() == [
        "unknown key 'sequence_len', did you mean 'seq_len'? @ $.sequence_len",
        "unknown corpus 'cod', did you mean 'code'? @ $.schedule.phases[0].mixture.cod",
    ]
    assert answer.stdout == ""
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cfg.yaml"]


def test_composer_s_launcher_with_two_processes(corpora: Path, undisturbed: Path, tmp_path: Path) -> None:
    config = run_config(
        corpora, tmp_path, max_duration="6ba", schedule={"phases": [{"start": 0, "mixture": {"c4": 1}}]}
    )
    launcher = str(Path(sys.executable).with_name("composer"))
    answer = call(launcher, "-n", "2", SCRIPT, str(config), "num_workers=0", cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = [line["digest"] for line in last_of_each_step(tmp_path / "metrics.jsonl").values()]
    expected = [line["digest"] for line in last_of_each_step(undisturbed / "metrics.jsonl").values()]
    assert found == expected[:6]
