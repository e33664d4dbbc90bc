"""The fit of ε + β·n^(−α): known laws are found again, and nothing strange in the data upsets it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.proposers import ScalingLaw, fit_scaling_law
from mixer.proposers.scaling_law import HUBER_DELTA

SAMPLES = np.linspace(1e5, 2e7, 128)


def curve(law: ScalingLaw, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    exact = np.array([law.loss(n) for n in SAMPLES])
    return exact * np.exp(np.random.default_rng(seed).normal(0, noise, len(SAMPLES)))


def huber(law: ScalingLaw, losses: np.ndarray) -> float:
    total = 0.0
    for n, loss in zip(SAMPLES, losses, strict=True):
        error = abs(law.loss(n) - loss) / loss
        total += error**2 / 2 if error <= HUBER_DELTA else HUBER_DELTA * (error - HUBER_DELTA / 2)
    return total


laws = st.builds(
    lambda irreducible, at_start, exponent: ScalingLaw(
        irreducible=irreducible, coefficient=at_start * 1e5**exponent, exponent=exponent
    ),
    st.floats(0, 4), st.floats(0.3, 4), st.floats(0.06, 0.7),
)  # fmt: skip


@settings(max_examples=25)
@given(laws)
def test_a_law_without_noise_is_found_again(law: ScalingLaw) -> None:
    found = fit_scaling_law(SAMPLES.tolist(), curve(law).tolist())
    assert found is not None
    assert found.exponent == pytest.approx(law.exponent, abs=1e-3)
    assert found.irreducible == pytest.approx(law.irreducible, abs=0.01)
    assert found.coefficient == pytest.approx(law.coefficient, rel=0.01)


@pytest.mark.parametrize(("noise", "tolerance"), [(1e-3, 0.02), (1e-2, 0.15)])
def test_with_noise_the_slope_at_the_end_is_found_again(noise: float, tolerance: float) -> None:
    for number, (irreducible, coefficient, exponent) in enumerate([(1.8, 30, 0.3), (0.9, 8, 0.12), (2.5, 600, 0.5)]):
        law = ScalingLaw(irreducible=irreducible, coefficient=coefficient, exponent=exponent)
        found = fit_scaling_law(SAMPLES.tolist(), curve(law, noise, seed=number).tolist())
        assert found is not None
        assert found.loss(2e7) == pytest.approx(law.loss(2e7), rel=noise)
        slope = found.exponent * found.reducible(2e7) / (law.exponent * law.reducible(2e7))
        assert slope == pytest.approx(1, abs=tolerance)


def test_spikes_of_the_loss_hardly_matter() -> None:
    law = ScalingLaw(irreducible=1.8, coefficient=30, exponent=0.3)
    losses = curve(law)
    losses[::20] *= 3
    found = fit_scaling_law(SAMPLES.tolist(), losses.tolist())
    assert found is not None
    assert (found.irreducible, found.exponent) == (pytest.approx(1.8, abs=0.01), pytest.approx(0.3, abs=0.005))


@settings(max_examples=25)
@given(laws, st.integers(0, 9), st.lists(st.floats(0.97, 1.03), min_size=3, max_size=3))
def test_no_law_nearby_fits_better(law: ScalingLaw, seed: int, factors: list[float]) -> None:
    losses = curve(law, 0.005, seed)
    found = fit_scaling_law(SAMPLES.tolist(), losses.tolist())
    assert found is not None
    other = ScalingLaw(
        irreducible=found.irreducible * factors[0],
        coefficient=found.coefficient * factors[1],
        exponent=min(max(found.exponent * factors[2], 0.05), 0.8),
    )
    assert huber(found, losses) <= huber(other, losses) * (1 + 1e-4)


def test_where_no_irreducible_loss_is_left_the_rest_fits_best() -> None:
    """A loss that falls faster at the end than any law with ε ≥ 0."""
    losses = 6 - 0.3 * np.log(SAMPLES)
    found = fit_scaling_law(SAMPLES.tolist(), losses.tolist())
    assert found is not None
    assert found.irreducible == 0
    for exponent, factor in itertools.product(np.linspace(0.05, 0.3, 51), np.linspace(0.95, 1.05, 21)):
        at_middle = found.reducible(1e7) * factor
        other = ScalingLaw(irreducible=0, coefficient=at_middle * 1e7**exponent, exponent=exponent)
        assert huber(found, losses) <= huber(other, losses) * (1 + 1e-4)


@pytest.mark.parametrize("losses", [np.full(128, 3.0), np.linspace(2, 4, 128), np.geomspace(1, 9, 128)])
def test_where_the_loss_does_not_fall_there_is_nothing_to_learn(losses: np.ndarray) -> None:
    found = fit_scaling_law(SAMPLES.tolist(), losses.tolist())
    assert found is not None
    assert losses.min() - 1e-9 <= found.irreducible <= losses.max() + 1e-9
    assert found.coefficient == 0


def test_too_few_points_have_no_law() -> None:
    assert fit_scaling_law([], []) is None
    assert fit_scaling_law([1, 2, 3, 4], [4, 3, 2, 1]) is None
    assert fit_scaling_law([7] * 9, [4, 3, 2, 1, 1, 1, 1, 1, 1]) is None


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 10**13), st.floats(1e-9, 1e6)), min_size=5, max_size=40))
def test_any_points_have_a_finite_law(points: list[tuple[int, float]]) -> None:
    found = fit_scaling_law([n for n, _ in points], [loss for _, loss in points])
    if found is None:
        assert max(n for n, _ in points) <= min(n for n, _ in points) * (1 + 1e-9)
    else:
        assert all(math.isfinite(value) for value in (found.irreducible, found.coefficient, found.exponent))
        assert found.irreducible >= 0
        assert found.coefficient >= 0
        assert found == fit_scaling_law([n for n, _ in points], [loss for _, loss in points])
