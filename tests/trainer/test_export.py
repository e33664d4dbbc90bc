"""An exported model is the trained one, says where it comes from, and is complete or absent."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainer.conftest import NUM_STEPS
from tests.trainer.corpora import NAMES, SEQ_LEN, make_rows
from tests.trainer.small_tokenizer import write_tokenizer
from trainer import export as exporting
from trainer.export import export, main, read_checkpoint
from trainer.loading import load
from trainer.models.causal_lm import build_model
from trainer.sources import open_sources


@pytest.fixture(scope="module")
def checkpoint(undisturbed: Path) -> Path:
    return undisturbed / "checkpoints" / f"step-{NUM_STEPS:08d}.pt"


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "deep" / "model"
    tokenizer = write_tokenizer(out.parents[1] / "tokenizer")
    assert main([str(checkpoint), str(out), "--tokenizer", str(tokenizer)]) == 0
    return out


def test_the_logits_of_the_exported_model_are_those_of_the_trained_one(
    exported: Path, checkpoint: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = load(undisturbed / "cfg.yaml")
    trained = build_model(config.model, seq_len=config.seq_len, seed=5).eval()
    trained.load_state_dict(torch.load(checkpoint, weights_only=False)["state"]["model"])
    found = AutoModelForCausalLM.from_pretrained(exported, local_files_only=True).eval()
    for name in NAMES:
        rows = torch.from_numpy(make_rows(name, num_samples=4, seed=9))
        with torch.no_grad():
            assert torch.equal(found(input_ids=rows.long()).logits, trained({"tokens": rows}))
    assert found.config.switchpoint["step"] == NUM_STEPS
    assert found.generation_config.eos_token_id == 0
    assert AutoTokenizer.from_pretrained(exported, local_files_only=True).eos_token_id == 0


def test_it_says_where_it_comes_from(exported: Path, checkpoint: Path, undisturbed: Path) -> None:
    provenance = json.loads((exported / "switchpoint.json").read_text())
    position = torch.load(checkpoint, weights_only=False)["state"]["dataset_state"]["train"]
    assert provenance["ledger"]["hash"] == position["history"]
    assert json.loads((exported / "config.json").read_text())["switchpoint"]["ledger_hash"] == position["history"]
    sources = open_sources(load(undisturbed / "cfg.yaml"))
    drawn = sources.plan().drawn_before(NUM_STEPS)
    assert provenance["composition"] == {
        name: {"samples": samples, "tokens": samples * SEQ_LEN} for name, samples in drawn.items()
    }
    assert (provenance["step"], provenance["run_name"], provenance["data_seed"]) == (NUM_STEPS, "test", 17)
    assert provenance["ledger"]["base"]["schedule"]["phases"][1]["start"] == "9ba"
    assert provenance["corpora"]["code"]["fingerprint"] == sources.train["code"].fingerprint
    assert provenance["code"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert provenance["config"]["max_duration"] == f"{NUM_STEPS}ba"


def test_an_earlier_checkpoint_has_what_was_read_by_then(undisturbed: Path) -> None:
    _, provenance = read_checkpoint(undisturbed / "checkpoints" / "step-00000012.pt")
    drawn = open_sources(load(undisturbed / "cfg.yaml")).plan().drawn_before(12)
    assert {name: read["samples"] for name, read in provenance["composition"].items() if read["samples"]} == {
        name: samples for name, samples in drawn.items() if samples
    }
    assert provenance["step"] == 12


def test_weights_can_be_halved(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "half", dtype="bf16")
    weights = AutoModelForCausalLM.from_pretrained(tmp_path / "half", local_files_only=True, dtype="auto")
    assert weights.dtype == torch.bfloat16


def test_a_folder_that_exists_is_refused_and_left_alone(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main([str(checkpoint), str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path} exists already: give a folder that does not\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_fails_half_way_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(temporary: Path, final: Path) -> None:
        assert not (tmp_path / "out").exists()  # nothing under the final name before all is on disk
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "publish", full)
    assert main([str(checkpoint), str(tmp_path / "out")]) == 1
    assert "could not be written: No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class Evil:
    """What a pickle can do: touch a file while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_file_that_would_run_a_program_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = torch.load(checkpoint, weights_only=False)
    saved["state"]["evil"] = Evil(tmp_path / "touched")
    torch.save(saved, tmp_path / "evil.pt")
    (tmp_path / "evil.pickle").write_bytes(pickle.dumps(Evil(tmp_path / "touched")))
    for name, told in (("evil.pt", "it could run programs"), ("evil.pickle", "is no checkpoint of this trainer")):
        assert main([str(tmp_path / name), str(tmp_path / "out")]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "touched").exists()
    assert not (tmp_path / "out").exists()


def test_other_files_are_no_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "no.pt"), str(tmp_path / "out")]) == 2
    assert "no.pt cannot be read: No such file" in capsys.readouterr().err
    torch.save({"state": {"model": {}}}, tmp_path / "old.pt")
    assert main([str(tmp_path / "old.pt"), str(tmp_path / "out")]) == 2
    assert "does not say where it comes from" in capsys.readouterr().err


def test_a_tokenizer_must_be_one_and_fit(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(checkpoint), str(tmp_path / "out"), "--tokenizer", str(tmp_path)]) == 2
    assert f"there is no tokenizer in {tmp_path}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
