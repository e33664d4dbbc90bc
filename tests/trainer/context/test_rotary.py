"""What setting a context does to models, and that an export carries it."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from mixer.context import PLAIN, Context, Rope
from tests.trainer.context.models import CONFIGS, tiny, tokens_of
from trainer.context.rope import plain
from trainer.context.rotary import Rotary
from trainer.errors import ConfigError

ROPES = {
    "linear": Rope(kind="linear", factor=2.0),
    "ntk": Rope(kind="ntk", factor=2.0),
    "yarn": Rope(kind="yarn", factor=2.0, beta_fast=4.0),
}


def logits(model: torch.nn.Module, length: int) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens_of(2, length), use_cache=False).logits


@pytest.mark.parametrize("kind", ROPES)
@pytest.mark.parametrize("family", CONFIGS)
def test_an_export_loads_with_the_same_logits(
    family: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny(family)
    before = logits(model, 64)
    rotary = Rotary(model, seq_len=32)
    rotary.set(Context(64, ROPES[kind]))
    scaled = logits(model, 64)
    if (
        family == "olmo2" and kind == "yarn" and not hasattr(model.config, "rope_parameters")
    ):  # transformers 4 cannot load it
        assert "does not load a rope of kind yarn" in caplog.text
        return
    assert not caplog.records
    assert not torch.allclose(scaled, before, atol=1e-3)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.max_position_embeddings == 64
    torch.testing.assert_close(logits(loaded, 64), scaled, rtol=1e-4, atol=1e-4)
    rotary.set(Context(64, PLAIN))
    torch.testing.assert_close(logits(model, 64), before, rtol=1e-4, atol=1e-4)


def test_interpolated_positions_are_those_of_the_plain_model_in_between() -> None:
    """Twice the positions, each halved, are the plain positions: only what is between them is new."""
    model = tiny("neox")
    before = logits(model, 32)
    Rotary(model, seq_len=32).set(Context(64, Rope(kind="linear", factor=2.0)))
    given = {"position_ids": 2 * torch.arange(32)[None], "attention_mask": torch.ones(2, 1, 32, 32).bool().tril()}
    with torch.no_grad():
        stretched = model(input_ids=tokens_of(2, 32), **given, use_cache=False).logits
    torch.testing.assert_close(stretched, before, rtol=1e-4, atol=1e-4)


def test_only_the_rotary_part_of_a_head_turns() -> None:
    """Pythia turns a quarter of each head."""
    model = tiny("neox", rotary_pct=0.25)
    (part,) = [module for module in model.modules() if hasattr(module, "inv_freq")]
    buffer = part.inv_freq
    Rotary(model, seq_len=32).set(Context(64, Rope(kind="linear", factor=2.0)))
    assert part.inv_freq is buffer  # in place: a compiled model has it too
    assert part.inv_freq.tolist() == pytest.approx([freq / 2 for freq in plain(10_000, 4)])


def test_a_compiled_model_follows() -> None:
    model = tiny("neox")
    compiled = torch.compile(model, backend="eager")
    logits(compiled, 32)
    rotary = Rotary(model, seq_len=32)
    for rope in (ROPES["yarn"], PLAIN, ROPES["linear"]):
        rotary.set(Context(32, rope))
        torch.testing.assert_close(logits(compiled, 32), logits(model, 32), rtol=1e-5, atol=1e-5)


def test_a_scaling_of_its_own_is_not_replaced() -> None:
    scaling = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    model = tiny("llama", rope_scaling=scaling)
    before = logits(model, 32)
    rotary = Rotary(model, seq_len=32)
    rotary.set(Context(64, PLAIN))
    assert torch.equal(logits(model, 32), before)
    with pytest.raises(ConfigError, match=r"of type linear already: leave 'rope' out @ \$\.schedule\.phases"):
        rotary.set(Context(64, ROPES["yarn"]))


def test_a_model_without_a_rotary_embedding() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, vocab_size=96))
    rotary = Rotary(model, seq_len=32)
    rotary.set(Context(16, PLAIN))
    with pytest.raises(ConfigError, match="no rotary embedding"):
        rotary.set(Context(32, ROPES["yarn"]))
    with pytest.raises(ConfigError, match="the model has 32 positions, rows have 64"):
        rotary.set(Context(64, PLAIN))
