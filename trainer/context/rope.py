"""RoPE scaling: the formulas, as pure functions of numbers. Standard library only.

A rotary embedding turns the i-th pair of `dim` dimensions by `position * inv_freq[i]`, plainly with
inv_freq[i] = base^(-2i/dim) (Su et al. 2021, arXiv 2104.09864, section 3.2.2). Scaled by s = `factor`:

    linear   inv_freq / s: positions are divided by s (position interpolation; Chen et al. 2023, arXiv 2306.15595,
             section 2.3)
    ntk      the base becomes base * s^(dim / (dim - 2)): the slowest pair turns s times slower, as in linear, the
             fastest as before ("NTK-aware"; Peng et al. 2023, arXiv 2309.00071, section 3.1)
    yarn     pairs that turn more than beta_fast times within the original length stay, those that turn less than
             beta_slow times are divided by s, in between a ramp; queries and keys are multiplied by the attention
             factor sqrt(1/t) = 0.1 ln(s) + 1 (ibid., sections 3.2 and 3.4)

Of YaRN this is the form of its authors' code, which every library loads: the ramp is linear in the pair's number
between the two borders, rounded outwards; the text of the paper has it linear in the number of turns. They agree
outside of the borders. The attention factor is the paper's fit; the survey's sqrt(1 + ln(s)/dim) can be given as
`attention_factor`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mixer.context import Rope


class Turning(NamedTuple):
    """How a rotary embedding turns: `inv_freq` [dim / 2] in radians a token, cos and sin times `attention_factor`.

    `base` is the base that plain frequencies of the kind have: another one only for NTK.
    """

    inv_freq: Sequence[float]
    attention_factor: float
    base: float


def turning(rope: Rope, *, base: float, dim: int, seq_len: int) -> Turning:
    """What `rope` makes of a model's embedding; `seq_len` is the original length where `rope` names none."""
    if rope.kind == "linear":
        return Turning([freq / rope.factor for freq in plain(base, dim)], 1.0, base)
    if rope.kind == "ntk":
        other = ntk_base(base, dim, rope.factor)
        return Turning(plain(other, dim), 1.0, other)
    if rope.kind == "yarn":
        given = rope.attention_factor
        factor = yarn_attention_factor(rope.factor) if given is None else given
        return Turning(_yarn(rope, base, dim, rope.original_seq_len or seq_len), factor, base)
    return Turning(plain(base, dim), 1.0, base)


def plain(base: float, dim: int) -> list[float]:
    """base^(-2i/dim) for each of the dim/2 pairs."""
    return [base ** (-2 * pair / dim) for pair in range(dim // 2)]


def ntk_base(base: float, dim: int, factor: float) -> float:
    """The base that makes the slowest pair `factor` times slower. Two dimensions have no slower pair: as it was."""
    return float(base * factor ** (dim / (dim - 2))) if dim > 2 else base


def yarn_attention_factor(factor: float) -> float:
    """sqrt(1/t) of the paper's section 3.4, which multiplies queries and keys alike."""
    return 0.1 * math.log(factor) + 1.0


def yarn_borders(rope: Rope, base: float, dim: int, original: int) -> tuple[int, int]:
    """The pairs up to the first stay as they are, those from the second on are interpolated."""

    def pair_that_turns(times: float) -> float:  # original * base^(-2i/dim) = 2 pi times, solved for i
        return dim * math.log(original / (times * 2 * math.pi)) / (2 * math.log(base))

    first, last = math.floor(pair_that_turns(rope.beta_fast)), math.ceil(pair_that_turns(rope.beta_slow))
    return max(first, 0), min(last, dim - 1)


def _yarn(rope: Rope, base: float, dim: int, original: int) -> list[float]:
    first, last = yarn_borders(rope, base, dim, original)
    width = last - first if last != first else 0.001
    ramp = [min(max((pair - first) / width, 0.0), 1.0) for pair in range(dim // 2)]
    return [freq * (1 - share) + freq / rope.factor * share for freq, share in zip(plain(base, dim), ramp, strict=True)]
