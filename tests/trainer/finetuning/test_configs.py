"""The shipped finetuning runs: the paper's numbers, on sets of the paper's sizes."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from trainer.errors import ConfigError
from trainer.finetuning import epochs
from trainer.loading import load

FOLDER = ROOT / "trainer" / "configs" / "sft"
SAMPLES = {"gsm8k": 7473, "lima": 1000, "pycode": 5000, "sciq": 11679}
STEPS = {"gsm8k": 468, "lima": 63, "pycode": 313, "sciq": 730}
RATES = {
    "gsm8k": (8e-4, 4e-4, 4e-4),
    "lima": (1.2e-4, 5e-5, 5e-5),
    "pycode": (1e-3, 5e-4, 4e-4),
    "sciq": (8e-4, 2.4e-4, 6e-4),
}
RUNS = [(name, size) for name in SAMPLES for size in ("70m", "160m", "410m")]


class _Sized:
    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples


@pytest.mark.parametrize(("name", "size"), RUNS)
def test_it_has_the_paper_s_numbers(name: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "open_corpus", lambda local, remote: _Sized(SAMPLES[Path(local).parent.name]))
    config = load(FOLDER / f"{name}{'' if size == '70m' else f'-{size}'}.yaml")
    assert (config.num_steps, config.global_batch_size, config.seq_len) == (STEPS[name], 64, 2048)
    assert config.model.name == f"pythia-{size}"
    rate = config.lr_schedule
    assert (rate.kind, rate.peak, rate.floor) == ("cosine", RATES[name][("70m", "160m", "410m").index(size)], 0.0)
    assert config.steps(rate.warmup) == pytest.approx(STEPS[name] / 10, abs=1)
    assert config.corpora[name].mask_prompt == (name == "gsm8k")
    assert config.eval is not None
    assert list(config.eval.corpora) == ["c4"]
    assert config.run_name == f"pythia-{size}-sft-{name}"


def test_no_file_is_without_a_test() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")}
    assert files == {"base.yaml"} | {f"{name}{'' if size == '70m' else f'-{size}'}.yaml" for name, size in RUNS}


def test_a_set_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"no corpus at data/lima/train: .* @ \$\.corpora\.lima\.local"):
        load(FOLDER / "lima.yaml")
