"""Pythia's sizes, a reproducible initialisation, and the loss against its definition."""

import math
from typing import Any

import pytest
import torch
from transformers import masking_utils

from trainer.models import size
from trainer.models.causal_lm import CausalLM, build_model, layers_of, token_losses
from trainer.models.settings import ModelConfig

TINY = ModelConfig.model_validate({"name": "tiny", "vocab_size": 256})


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("pythia-70m", 70_426_624),
        ("pythia-160m", 162_322_944),
        ("pythia-410m", 405_334_016),
        ("pythia-1b", 1_011_781_632),
    ],
)
def test_the_presets_have_pythia_s_parameter_counts(name: str, num_parameters: int) -> None:
    config = ModelConfig.model_validate(name)
    with torch.device("meta"):
        model = build_model(config, seq_len=2048, seed=1)
    assert sum(p.numel() for p in model.parameters()) == num_parameters
    assert size.num_parameters(config) == num_parameters


def test_weights_are_drawn_as_pythia_s_were() -> None:
    """small_init and wang_init of the GPT-NeoX code; biases 0, norms 1."""
    config = ModelConfig.model_validate({"name": "tiny", "n_layers": 3, "d_model": 128, "vocab_size": 1024})
    small, wang = math.sqrt(2 / (5 * 128)), 2 / 3 / math.sqrt(128)
    expected = {
        "embed_in": small,
        "embed_out": small,
        "lm_head": small,  # the same in transformers 5
        "query_key_value": small,
        "dense_h_to_4h": small,
        "attention.dense": wang,
        "dense_4h_to_h": wang,
    }
    for name, weight in build_model(config, seq_len=16, seed=3).model.named_parameters():
        if weight.ndim == 1:
            assert torch.equal(weight, torch.full_like(weight, float("norm" in name and name.endswith("weight"))))
            continue
        (std,) = (std for key, std in expected.items() if name.removesuffix(".weight").endswith(key))
        error = 4 / math.sqrt(2 * weight.numel())  # four standard errors of a standard deviation
        assert weight.std().item() == pytest.approx(std, rel=error), name
        assert abs(weight.mean().item()) < 4 * std / math.sqrt(weight.numel()), name


def test_embeddings_are_untied_and_the_seed_decides_the_weights() -> None:
    first, same, other = (build_model(TINY, seq_len=16, seed=seed).model for seed in (1, 1, 2))
    assert first.get_output_embeddings().weight is not first.get_input_embeddings().weight
    for a, b in zip(first.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.get_output_embeddings().weight, other.get_output_embeddings().weight)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.int64])
def test_the_loss_is_the_mean_over_tokens_of_the_next_token(dtype: torch.dtype) -> None:
    model = build_model(TINY, seq_len=16, seed=1).eval()
    ids = torch.randint(0, 256, (3, 16), generator=torch.Generator().manual_seed(5))
    batch = {"tokens": ids.to(dtype)}
    logits = model(batch)
    log_probabilities = logits.log_softmax(-1)
    by_hand = [-log_probabilities[row, t, ids[row, t + 1]] for row in range(3) for t in range(15)]
    assert model.loss(logits, batch).item() == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-6)
    assert token_losses(logits, batch).shape == (45,)


def test_no_position_sees_what_follows_it() -> None:
    model = build_model(TINY, seq_len=16, seed=1).eval()
    ids = torch.randint(0, 256, (1, 16), generator=torch.Generator().manual_seed(5))
    changed = ids.clone()
    changed[0, 9] = (changed[0, 9] + 1) % 256
    before, after = model({"tokens": ids}), model({"tokens": changed})
    assert torch.allclose(before[0, :9], after[0, :9], atol=1e-6)
    assert not torch.allclose(before[0, 9], after[0, 9], atol=1e-6)


def test_only_targets_count_in_the_loss() -> None:
    model = build_model(TINY, seq_len=16, seed=1).eval()
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 256, (3, 16), generator=generator)
    mask = torch.rand(3, 16, generator=generator) < 0.5
    mask[2] = False  # a row without a target
    batch = {"tokens": ids, "loss_mask": mask}
    logits = model(batch)
    log_probabilities = logits.log_softmax(-1)
    places = [(row, t) for row in range(3) for t in range(1, 16) if mask[row, t]]
    by_hand = torch.stack([-log_probabilities[row, t - 1, ids[row, t]] for row, t in places])
    assert torch.allclose(token_losses(logits, batch), by_hand, atol=1e-6)
    assert model.loss(logits, batch).item() == pytest.approx(by_hand.mean().item(), rel=1e-6)
    first = by_hand[: int(mask[0, 1:].sum())].mean().item()
    assert model.row_losses.tolist() == pytest.approx([first, by_hand[int(mask[0, 1:].sum()) :].mean().item(), 0.0])


def test_the_package_gives_build_model() -> None:
    import trainer.models

    assert trainer.models.build_model is build_model
    with pytest.raises(AttributeError):
        trainer.models.build_models  # noqa: B018


def gradients_of(model: CausalLM) -> tuple[float, list[torch.Tensor]]:
    batch = {"tokens": torch.arange(48).reshape(3, 16)}
    loss = model.loss(model.train()(batch), batch)
    loss.backward()
    return loss.item(), [p.grad for p in model.parameters()]


def test_checkpointed_activations_change_neither_loss_nor_gradient() -> None:
    plain, checkpointed = (build_model(TINY, seq_len=16, seed=1) for _ in range(2))
    checkpointed.checkpoint_activations()
    calls = []
    layers_of(checkpointed.model)[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    (loss, gradients), (same, others) = gradients_of(plain), gradients_of(checkpointed)
    assert loss == same
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
    assert len(calls) == 2  # once more in the backward pass


@pytest.mark.parametrize("attention", ["auto", "sdpa"])
def test_every_implementation_of_attention_gives_the_same(attention: str) -> None:
    eager, other = (
        build_model(ModelConfig.model_validate({**TINY.model_dump(), "attention": a}), seq_len=16, seed=1)
        for a in ("eager", attention)
    )
    (loss, gradients), (same, others) = gradients_of(eager), gradients_of(other)
    assert loss == pytest.approx(same, rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients, others, strict=True))


def test_sdpa_gets_no_mask_even_where_compile_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a mask the flash kernel does not run."""
    masks = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def spy(*args: torch.Tensor, attn_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        masks.append((attn_mask, kwargs.get("is_causal")))
        return plain(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    asked = "is_torchdynamo_compiling" if hasattr(masking_utils, "is_torchdynamo_compiling") else "is_tracing"
    monkeypatch.setattr(masking_utils, asked, lambda *_: True)
    build_model(TINY, seq_len=16, seed=1)({"tokens": torch.zeros(1, 16, dtype=torch.long)})
    assert masks == [(None, True)] * 2


def test_in_bf16_the_loss_is_float32_and_near() -> None:
    model, batch = build_model(TINY, seq_len=16, seed=1), {"tokens": torch.arange(48).reshape(3, 16)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch)
        loss = model.loss(logits, batch)
    assert (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    assert loss.item() == pytest.approx(model.loss(model(batch), batch).item(), rel=1e-2)
