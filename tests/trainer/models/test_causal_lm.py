"""Pythia's sizes, a reproducible initialisation, and the loss against its definition."""

import pytest
import torch

from trainer.models.causal_lm import build_model, token_losses
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
    assert config.num_parameters == num_parameters


def test_embeddings_are_untied_and_the_seed_decides_the_weights() -> None:
    first, same, other = (build_model(TINY, seq_len=16, seed=seed).model for seed in (1, 1, 2))
    assert first.embed_out.weight is not first.gpt_neox.embed_in.weight
    for a, b in zip(first.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.embed_out.weight, other.embed_out.weight)


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
