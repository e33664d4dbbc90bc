"""Fitting L(n) = ε + β·n^(−α) to a loss curve: robust, deterministic, NumPy only.

For a given α the law is linear in ε and β, and the Huber loss of its relative errors is convex: iteratively reweighted
least squares finds the best pair, with ε ≥ 0 and β ≥ 0. What is left is one number, α, searched on a grid that closes
in on the best value. So there are no starting points to choose and no local minima but in α.

Hoffmann et al. 2022 (arXiv 2203.15556, appendix D.3) and ADO fit the Huber loss, δ = 10^−3, of differences of log-loss;
a relative error is the same to first order. A curve that rises or stays has β = 0: nothing to learn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_POINTS = 5
LEAST_REDUCIBLE = 1e-9  # of the loss; less is rounding
HUBER_DELTA = 1e-3  # Hoffmann et al. 2022; `huber_loss` in ADO's code
ALPHA_RANGE = (0.05, 0.8)  # ADO's code adds a penalty above 0.8, and takes slopes with at least 0.05
ROUNDS = 30
ZOOMS = 6

_F64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """L(n) = irreducible + coefficient · n^(−exponent), in nats, of n samples: ε, β and α."""

    irreducible: float
    coefficient: float
    exponent: float

    def reducible(self, n: float) -> float:
        """L(n) − ε, in nats."""
        return self.coefficient * math.pow(n, -self.exponent)

    def loss(self, n: float) -> float:
        return self.irreducible + self.reducible(n)


def fit_scaling_law(samples: Sequence[float], losses: Sequence[float]) -> ScalingLaw | None:
    """The law of a curve of losses (above 0) at numbers of samples (above 0), in any order.

    None if there are fewer than `MIN_POINTS` points, or all stand at the same number of samples.
    """
    n, loss = np.array(samples, np.float64), np.array(losses, np.float64)
    if len(n) < MIN_POINTS or n.max() <= n.min() * (1 + 1e-9):
        return None
    logs = np.log(n)
    middle = float(logs.mean())  # with n relative to its geometric mean, ε and β are well conditioned
    alphas = np.linspace(*ALPHA_RANGE, 33)
    for _ in range(ZOOMS):
        irreducible, reducible, cost = _solve(np.exp(-alphas[:, None] * (logs - middle)), loss)
        best = int(np.argmin(cost))
        found = float(irreducible[best]), float(reducible[best]), float(alphas[best])
        alphas = np.linspace(alphas[max(best - 1, 0)], alphas[min(best + 1, len(alphas) - 1)], 17)
    epsilon, reducible_loss, alpha = found
    if reducible_loss < LEAST_REDUCIBLE * epsilon:
        reducible_loss = 0.0
    return ScalingLaw(irreducible=epsilon, coefficient=reducible_loss * math.exp(alpha * middle), exponent=alpha)


def _solve(powers: _F64, loss: _F64) -> tuple[_F64, _F64, _F64]:
    """For each row of `powers` [alphas, points]: ε and b, both ≥ 0, of the best ε + b·power, and its Huber loss."""
    trust = np.ones_like(powers)
    for _ in range(ROUNDS):
        w = trust / (loss * loss)
        w /= w.sum(1, keepdims=True)
        mean_power, mean_loss = (w * powers).sum(1), (w * loss).sum(1)
        centred = powers - mean_power[:, None]
        b = (w * centred * loss).sum(1) / (w * centred * centred).sum(1)
        e = mean_loss - b * mean_power
        # Of a convex function that is lowest outside of a corner, the lowest point inside lies on the side it left by.
        through_zero = (w * powers * loss).sum(1) / (w * powers * powers).sum(1)
        b, e = np.where(e < 0, through_zero, b), np.where(e < 0, 0, e)
        b, e = np.where(b < 0, 0, b), np.where(b < 0, mean_loss, e)
        error = np.abs(e[:, None] + b[:, None] * powers - loss) / loss
        trust = HUBER_DELTA / np.maximum(error, HUBER_DELTA)
    huber = np.where(error > HUBER_DELTA, HUBER_DELTA * (error - HUBER_DELTA / 2), error * error / 2)
    return e, b, huber.sum(1)
