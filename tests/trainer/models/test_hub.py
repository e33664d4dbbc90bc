"""Models of Hugging Face's kind from a folder, with and without their weights; and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from trainer.errors import ConfigError
from trainer.models.causal_lm import build_model, layers_of, token_losses
from trainer.models.settings import ModelConfig
from trainer.models.size import flops_per_token, identity, num_parameters, vocab_size

SIZES: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {**SIZES, "num_key_value_heads": 2},
    "qwen2": {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "olmo2": SIZES,
}
BATCH = {"tokens": torch.arange(32).reshape(2, 16).to(torch.uint16)}


def folder_of(kind: str, folder: Path) -> Path:
    """A folder with a tiny model of `kind` and its weights."""
    torch.manual_seed(9)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **KINDS[kind])).save_pretrained(folder)
    return folder


def model_config(folder: Path, **changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({"name": str(folder), **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_a_folder(kind: str, tmp_path: Path) -> None:
    folder = folder_of(kind, tmp_path)
    config = model_config(folder, pretrained=True)
    model = build_model(config, seq_len=16, seed=1)
    original = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        expected = original(input_ids=BATCH["tokens"].long()).logits
        assert torch.allclose(model.eval()(BATCH), expected, atol=1e-6)
    drawn = build_model(model_config(folder), seq_len=16, seed=1).model
    assert not torch.equal(drawn.get_input_embeddings().weight, original.get_input_embeddings().weight)
    assert num_parameters(config) == sum(p.numel() for p in original.parameters())
    assert len(layers_of(model.model)) == 2
    assert [model.model.fsdp_wrap_fn(module) for module in layers_of(model.model)] == [True, True]
    assert vocab_size(config) == 256


def test_flops_of_grouped_heads_and_a_tied_embedding(tmp_path: Path) -> None:
    """A layer: queries and output 32 x 32, keys and values 32 x 16, three of 32 x 48; the table is multiplied with."""
    config = model_config(folder_of("qwen2", tmp_path))
    weights = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48) + 256 * 32
    assert flops_per_token(config, 16) == 6 * weights + 12 * 2 * 4 * 8 * 16


def test_overrides_and_identity(tmp_path: Path) -> None:
    config = model_config(folder_of("llama", tmp_path), overrides={"num_hidden_layers": 3})
    assert len(layers_of(build_model(config, seq_len=16, seed=1).model)) == 3
    differing = {key for key, value in identity(config).items() if value != identity(model_config(tmp_path))[key]}
    assert differing == {"num_hidden_layers"}
    assert json.loads(json.dumps(identity(config))) == identity(config)


def test_a_preset_keeps_its_identity() -> None:
    assert identity(ModelConfig.model_validate("pythia-70m")) == {
        "n_layers": 6, "d_model": 512, "n_heads": 8, "d_ff": 2048, "vocab_size": 50_304,
    }  # fmt: skip


def empty(folder: Path) -> None:
    folder.mkdir()


def bert(folder: Path) -> None:
    config = transformers.BertConfig(**{**SIZES, "pad_token_id": 0}, architectures=["BertForMaskedLM"])
    config.save_pretrained(folder)


def unknown(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}')


def no_weights(folder: Path) -> None:
    folder_of("llama", folder)
    (folder / "model.safetensors").unlink()


def damaged(folder: Path) -> None:
    folder_of("llama", folder)
    (folder / "model.safetensors").write_bytes(b"none")


def lacking(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder_of("llama", folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("make", "changes", "expected"),
    [
        (empty, {}, "has no config.json @ $.model.name"),
        (lambda folder: None, {}, "has no config.json @ $.model.name"),
        (bert, {}, "is no causal language model but BertForMaskedLM @ $.model.name"),
        (unknown, {}, "is no model that transformers can load"),
        (no_weights, {"pretrained": True}, "has no weights"),
        (damaged, {"pretrained": True}, "cannot be loaded"),
        (lacking, {"pretrained": True}, "lack 1 of the model's, model.norm.weight first @ $.model.pretrained"),
        (no_weights, {"overrides": {"max_position_embeddings": 8}}, "at most 8 tokens, found 16 @ $.seq_len"),
        (no_weights, {"overrides": {"layers": 3}}, "has no key 'layers' @ $.model.overrides.layers"),
        (no_weights, {"attention": "flash_attention_2"}, "flash_attention_2 needs a GPU"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_what_cannot_be_had_is_refused(make: Any, changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    make(tmp_path / "model")
    with pytest.raises(ConfigError) as caught:
        build_model(model_config(tmp_path / "model", **changes), seq_len=16, seed=1)
    assert expected in caught.value.problems[0]


def test_losses_of_another_kind_are_its_own(tmp_path: Path) -> None:
    folder = folder_of("llama", tmp_path)
    model = build_model(model_config(folder, pretrained=True), seq_len=16, seed=1).eval()
    ids = BATCH["tokens"].long()
    expected = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids, labels=ids).loss
    assert token_losses(model(BATCH), BATCH).mean().item() == pytest.approx(expected.item(), rel=1e-5)
