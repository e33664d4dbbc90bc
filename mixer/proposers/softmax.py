"""Weights that follow the losses: the higher a corpus's loss, or its excess over a reference, the larger its weight.

    w_k ∝ μ_k · exp(x_k / T),     x_k = ℓ_k     or, with references r,     x_k = max(ℓ_k − r_k, 0)

ℓ_k is the running mean of the corpus's loss. The excess loss, with its floor at 0, is that of DoReMi (Xie et al. 2023,
arXiv 2305.10429, algorithm 1), whose weights multiply up over all steps instead: w_k(t) ∝ w_k(t−1) · exp(η·x_k).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mixer.errors import ProposingError
from mixer.proposing import Observation, Proposal, State, listed, share_out


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """Loss-proportional softmax.

    Args:
        temperature: T, in nats: a corpus whose loss is T higher gets e times the weight.
        references: corpus → loss of a reference model, r_k. A corpus without one keeps its weight.
        prior: corpus → μ_k, on any scale; all the same if None, and 1 for a corpus it does not name.
        smoothing: share of a new loss in the running mean; 1 looks at the last one only.
        name: the author of its revisions.
    """

    temperature: float = 1.0
    references: Mapping[str, float] | None = None
    prior: Mapping[str, float] | None = None
    smoothing: float = 0.1
    name: str = "softmax"

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.temperature < math.inf:
            problems.append(f"temperature must be above 0, found {self.temperature!r}")
        if not 0 < self.smoothing <= 1:
            problems.append(f"smoothing must be above 0 and at most 1, found {self.smoothing!r}")
        for kind, values in (("prior", self.prior), ("reference", self.references)):
            wrong = [(name, value) for name, value in (values or {}).items() if not 0 < value < math.inf]
            problems += [f"the {kind} of '{name}' must be above 0, found {value!r}" for name, value in wrong]
        if problems:
            raise ProposingError.of(problems)

    def start(self) -> State:
        return {"losses": {}}

    def observe(self, state: State, observation: Observation, mixture: Mapping[str, float]) -> State:
        losses = dict(state["losses"])
        for name in mixture:
            loss = observation.losses.get(name, math.nan)
            if math.isfinite(loss):
                losses[name] = losses[name] + self.smoothing * (loss - losses[name]) if name in losses else loss
        return {"losses": losses}

    def propose(self, state: State, mixture: Mapping[str, float]) -> Proposal | None:
        scores = {name: state["losses"][name] for name in mixture if name in state["losses"]}
        if self.references is not None:
            references = self.references
            scores = {name: max(loss - references[name], 0.0) for name, loss in scores.items() if name in references}
        if len(scores) < 2:
            return None
        highest = max(scores.values())
        heights = {
            name: (self.prior or {}).get(name, 1.0) * math.exp((score - highest) / self.temperature)
            for name, score in scores.items()
        }
        kind = "loss" if self.references is None else "excess loss"
        return Proposal(weights=share_out(heights, mixture), reason=f"{kind} {listed(scores)}")
