"""The formulas against closed forms, values worked out by hand, and transformers' own."""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mixer.context import Rope
from trainer.context.rope import ntk_base, plain, turning, yarn_attention_factor, yarn_borders

BASE, DIM, LENGTH = 10_000.0, 8, 2048


def turned(rope: Rope, *, dim: int = DIM) -> tuple[list[float], float, float]:
    return turning(rope, base=BASE, dim=dim, seq_len=LENGTH)


def test_plain_frequencies() -> None:
    """10^4 to the power of -2i/8 = 10^-i."""
    freqs, attention, base = turned(Rope())
    assert freqs == pytest.approx([1.0, 0.1, 0.01, 0.001], rel=1e-12)
    assert (attention, base) == (1.0, BASE)


def test_position_interpolation_divides_positions() -> None:
    freqs, attention, base = turned(Rope(kind="linear", factor=4.0))
    assert freqs == pytest.approx([0.25, 0.025, 0.0025, 0.00025], rel=1e-12)
    assert (attention, base) == (1.0, BASE)
    for position in (1, 500, 8191):  # f'(m) = f(m / s)
        assert [position * freq for freq in freqs] == pytest.approx([position / 4 * freq for freq in plain(BASE, DIM)])


def test_ntk_changes_the_base() -> None:
    """8^(8/6) = 16: the base becomes 160,000 = 20^4, so the pairs are 20^-i; the slowest is 8 times slower."""
    freqs, attention, base = turned(Rope(kind="ntk", factor=8.0))
    assert base == pytest.approx(160_000)
    assert freqs == pytest.approx([1.0, 1 / 20, 1 / 400, 1 / 8000], rel=1e-12)
    assert freqs[-1] == pytest.approx(plain(BASE, DIM)[-1] / 8, rel=1e-12)
    assert attention == 1.0
    assert ntk_base(BASE, 2, 8.0) == BASE


def test_yarn_by_hand() -> None:
    """Llama's heads: the borders are worked out from the wavelengths, the ramp goes linearly between them."""
    rope = Rope(kind="yarn", factor=4.0)
    freqs, attention, base = turned(rope, dim=128)
    first, last = yarn_borders(rope, BASE, 128, LENGTH)
    # turns within the length: 2048 * 10^(-4 * 2i/128) / (2 pi) = 325.949 * 10^(-i/16); 32 at i = 16.13, 1 at i = 40.21
    assert (first, last) == (16, 41)
    assert attention == pytest.approx(1.1386294361119891)  # 0.1 ln 4 + 1
    assert freqs[:17] == pytest.approx([10 ** (-i / 16) for i in range(17)])
    assert freqs[41:] == pytest.approx([10 ** (-i / 16) / 4 for i in range(41, 64)])
    assert freqs[26] == pytest.approx(10 ** (-26 / 16) * (0.6 + 0.4 / 4))  # 10 of 25 pairs into the ramp
    assert base == BASE


def test_yarn_agrees_with_the_paper_outside_of_the_ramp() -> None:
    """Above 32 turns as before, below one turn interpolated; between, from one to the other without going back."""
    rope = Rope(kind="yarn", factor=16.0)
    freqs, _, _ = turned(rope, dim=64)
    shares = []
    for freq, before in zip(freqs, plain(BASE, 64), strict=True):
        turns = LENGTH * before / (2 * math.pi)
        share = (freq / before - 1 / 16) / (1 - 1 / 16)
        shares.append(share)
        if turns > 32:
            assert share == pytest.approx(1)
        assert share >= -1e-12
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(0, abs=1e-12)


def test_yarns_attention_factor() -> None:
    assert yarn_attention_factor(1.0) == 1.0
    assert yarn_attention_factor(math.e) == pytest.approx(1.1)
    assert turned(Rope(kind="yarn", factor=4.0, attention_factor=1.25)).attention_factor == 1.25


@pytest.mark.parametrize("original", [32, 2048, 8192])
@pytest.mark.parametrize("factor", [1.0, 2.0, 4.0, 40.0])
@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_transformers_has_the_same(kind: str, factor: float, original: int) -> None:
    scaling = {"rope_type": kind, "factor": factor, "rope_theta": 500_000.0}
    if kind == "yarn":
        scaling |= {"original_max_position_embeddings": original}
    config = LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        rope_theta=500_000.0,
        max_position_embeddings=int(factor * original),
        rope_scaling=scaling,
    )
    reference, attention = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    found = turning(Rope(kind=kind, factor=factor), base=500_000.0, dim=64, seq_len=original)
    torch.testing.assert_close(torch.tensor(found.inv_freq), reference, rtol=1e-5, atol=0)
    assert found.attention_factor == pytest.approx(attention)
