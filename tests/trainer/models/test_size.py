"""Parameters, FLOPs and memory against values by hand and against what PyTorch counts."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trainer.models.causal_lm import build_model
from trainer.models.settings import ModelConfig
from trainer.models.size import flops_per_token, memory, num_parameters, peak_flops, shape_of

SMALL: dict[str, Any] = {"name": "tiny", "vocab_size": 256, "attention": "eager"}


def test_flops_by_hand() -> None:
    """Pythia-70M: 6 layers of 4 x 512^2 + 2 x 512 x 2048 weights, and the output embedding; 8 heads of 64."""
    weights = 6 * (4 * 262_144 + 2 * 1_048_576) + 50_304 * 512
    assert weights == 44_630_016
    config = ModelConfig.model_validate("pythia-70m")
    assert flops_per_token(config, 2048) == 6 * 44_630_016 + 12 * 6 * 512 * 2048 == 343_277_568


def test_flops_are_those_that_pytorch_counts() -> None:
    config = ModelConfig.model_validate(SMALL)
    model, batch = build_model(config, seq_len=32, seed=1), {"tokens": torch.zeros(3, 32, dtype=torch.long)}
    with FlopCounterMode(display=False) as counter:
        model.loss(model(batch), batch).backward()
    rotary = 2 * 2 * 32  # once for all rows: positions times two frequencies
    assert flops_per_token(config, 32) * 3 * 32 == counter.get_total_flops() - rotary


def test_activations_are_estimated_within_a_third() -> None:
    """Against what autograd keeps in float32, of a model whose logits and weights are small beside them."""
    config = ModelConfig.model_validate({"name": "tiny", "n_layers": 4, "vocab_size": 128})
    model, batch = build_model(config, seq_len=64, seed=1), {"tokens": torch.zeros(8, 64, dtype=torch.long)}
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(model.train()(batch), batch)
    expected = memory(config, seq_len=64, microbatch_size=8).activations
    assert sum(kept.values()) == pytest.approx(expected, rel=1 / 3)


def test_memory_by_hand() -> None:
    config = ModelConfig.model_validate("pythia-410m")
    needed = memory(config, seq_len=2048, microbatch_size=16, is_bf16=True)
    assert needed.parameters == 4 * 405_334_016
    assert needed.optimizer == 2 * needed.gradients == 8 * 405_334_016
    assert needed.activations == 24 * 34 * 16 * 2048 * 1024
    assert needed.logits == 4 * 16 * 2048 * 50_304
    assert needed.total == sum(needed.parts().values())
    checkpointed = memory(config, seq_len=2048, microbatch_size=16, is_bf16=True, activation_checkpointing=True)
    assert checkpointed.activations == (24 * 2 + 34) * 16 * 2048 * 1024
    shared = memory(config, seq_len=2048, microbatch_size=16, is_bf16=True, num_shards=8)
    assert shared.parameters == needed.parameters // 8


def test_a_preset_and_what_transformers_builds_have_the_same_size(tmp_path: Any) -> None:
    config = ModelConfig.model_validate(SMALL)
    build_model(config, seq_len=32, seed=1).model.config.save_pretrained(tmp_path)
    same = ModelConfig.model_validate({"name": str(tmp_path), "attention": "eager"})
    assert shape_of(same) == shape_of(config)
    assert num_parameters(same) == num_parameters(config)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_peaks(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak
