"""The runs that we ship: the paper's table, in every size, each dry-run; and that no mixture of it repeats a corpus."""

import re
from pathlib import Path

import pytest

from mixer.errors import RepetitionError
from mixer.runfile import load_run
from tests.trainer.corpora import SEQ_LEN, write_corpus
from trainer.loading import load
from trainer.sources import open_sources
from trainer.summary import as_yaml, describe

CONFIGS = Path(__file__).parents[2] / "trainer" / "configs"
PAPER = CONFIGS / "paper"
RUNS = sorted([*PAPER.glob("*.yaml"), *PAPER.glob("ablations/*.yaml")])
SIZES = sorted(PAPER.glob("sizes/*.yaml"))
MACHINES = sorted(CONFIGS.glob("machines/*.yaml"))

# Tokens that there are (arXiv 2510.14865); of C4 as many as are needed. Of KnowledgeQA the sum is known, 9.6B: its
# parts are taken to be as large as their shares.
TOKENS = {"c4": 150e9, "starcoder": 196e9, "math": 12e9, "flan": 3.5e9, "dclm": 51e9}
TOKENS |= {name: share * 9.6e9 for name, share in
           {"ultrachat": 0.75, "dialogue": 0.15, "openhermes": 0.075, "triviaqa": 0.025}.items()}  # fmt: skip
AVAILABLE = {name: f"{tokens:.0f}tok" for name, tokens in TOKENS.items()}

# Name -> first step of its last phase, and the shares of the new corpora there (the paper's table).
TABLE = {
    "control": (0, {}),
    "starcoder": (6_000, {"starcoder": 0.2}),
    "math": (20_000, {"math": 0.12}),
    "flan": (40_000, {"flan": 0.05}),
    "knowledgeqa": (40_000, {"ultrachat": 0.15, "dialogue": 0.03, "openhermes": 0.015, "triviaqa": 0.005}),
    "dclm": (40_000, {"dclm": 0.2}),
    "code-and-math": (10_000, {"starcoder": 0.15, "math": 0.05}),
    "continued-starcoder": (40_000, {"starcoder": 1.0}),
    "continued-math": (56_000, {"math": 1.0}),
    **{f"starcoder-0.2-from-{k}k": (k * 1000, {"starcoder": 0.2}) for k in (10, 20, 30, 40, 50)},
    **{f"starcoder-{w}-from-{k}k": (k * 1000, {"starcoder": w}) for w in (0.1, 0.3, 0.5, 0.8) for k in (30, 50)},
}

each_run = pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)


def test_every_row_of_the_table_is_a_file_and_no_other_is() -> None:
    assert sorted(TABLE) == sorted(path.stem for path in RUNS if path.stem != "base")


@each_run
def test_it_has_the_paper_s_numbers_and_mixture(path: Path) -> None:
    config = load(path)
    assert (config.num_steps, config.global_batch_size, config.seq_len) == (61_035, 1024, 2048)
    assert config.base_schedule().num_tokens == 127_999_672_320
    assert (config.optimizer.betas, config.optimizer.eps, config.optimizer.weight_decay) == ((0.9, 0.95), 1e-8, 0.1)
    assert (config.lr_schedule.peak, config.lr_schedule.floor, config.optimizer.clip_norm) == (3e-4, 1e-6, 1.0)
    assert config.steps(config.lr_schedule.warmup) == 6_104
    start, shares = TABLE.get(path.stem, (0, {}))
    schedule = config.base_schedule()
    assert (0, *schedule.switchpoints)[-1] == start
    assert schedule.weights(0) == {"c4": 1.0}
    left = 1 - sum(shares.values())
    expected = {**shares, **({"c4": left} if left > 1e-9 else {})}
    assert schedule.weights(start) == pytest.approx(expected, abs=1e-9)
    assert sorted(config.corpora) == sorted({"c4", *shares})


@pytest.mark.parametrize("size", SIZES, ids=lambda path: path.stem)
def test_a_size_is_laid_over_any_run(size: Path) -> None:
    for path in (PAPER / "control.yaml", PAPER / "ablations" / "starcoder-0.5-from-30k.yaml"):
        config = load(path, [str(size)])
        assert config.run_name == f"pythia-{size.stem}-{path.stem}"
        assert config.save_folder == Path(f"runs/{config.run_name}/checkpoints")
        assert load(path, [f"model=pythia-{size.stem}"]).run_name == config.run_name


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.stem)
def test_a_machine_is_laid_over_any_size(machine: Path) -> None:
    for size in SIZES:
        config = load(PAPER / "math.yaml", [str(size), str(machine)])
        assert config.device == "gpu"
        assert config.base_schedule() == load(PAPER / "math.yaml").base_schedule()


def test_no_two_runs_have_one_name() -> None:
    names = [load(path).run_name for path in RUNS]
    assert len(set(names)) == len(names)


@each_run
def test_no_corpus_repeats(path: Path) -> None:
    forecast = load_run(path, AVAILABLE).plan().forecast()
    assert {name: one.first_repeat_step for name, one in forecast.items() if one.first_repeat_step is not None} == {}
    assert all(one.epochs <= 1 for one in forecast.values())


def test_flan_at_fifteen_percent_would_be_read_nearly_twice_and_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flan.yaml"
    phases = "[{start: 0, mixture: {c4: 1.0}}, {start: 40000ba, mixture: {c4: 0.85, flan: 0.15}}]"
    path.write_text(f"base: {PAPER / 'flan.yaml'}\nschedule: {{phases: {phases}}}\n")
    with pytest.raises(RepetitionError, match="flan"):
        load_run(path, AVAILABLE).plan()
    path.write_text(path.read_text() + "corpora: {flan: {max_epochs: null}}\n")
    assert load_run(path, AVAILABLE).plan().forecast()["flan"].epochs == pytest.approx(1.9, abs=0.02)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small corpus under each name, with its held-out split."""
    root = tmp_path_factory.mktemp("data")
    for name in TOKENS:
        for split in ("train", "holdout"):
            write_corpus(root / name / split, name="c4", num_samples=50)
    return root


@each_run
def test_it_is_dry_run(path: Path, data: Path, tmp_path: Path) -> None:
    """What `--dry-run` does: open the corpora, print what would be done, and the whole as one file."""
    overrides = [f"seq_len={SEQ_LEN}", "global_batch_size=64"]
    for name in load(path).corpora:
        overrides += [f"corpora.{name}.local={data / name / 'train'}", f"corpora.{name}.max_epochs=null"]
    config = load(path, overrides)
    shown = describe(config, open_sources(config))
    assert f"run             {config.run_name}" in shown
    for name in config.corpora:
        assert re.search(rf"^  {name} +[\d,]+ samples .* epochs of 50$", shown, re.MULTILINE)
    whole = tmp_path / "whole.yaml"
    whole.write_text(as_yaml(config))
    assert load(whole) == config
