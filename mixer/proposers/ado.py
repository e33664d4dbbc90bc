"""Adaptive Data Optimization (ADO): read more of what is being learned fastest.

Jiang, Zhou, Feng, Malladi and Kolter, "Adaptive Data Optimization: Dynamic Sample Selection with Scaling Laws", ICLR
2025, arXiv 2410.11820, algorithm 1; in what the paper leaves open, and in every default, this follows the authors' code
(github.com/yidingjiang/ado, commit bc3d8d0, `AdoSelector` in src/data_selectors/ado.py). For corpus k after step t:

    L_k(n)  = ε_k + β_k·n^(−α_k)                            a scaling law, fitted anew at intervals
    v_k     = −dL_k/dn = α_k·(L_k(n) − ε_k) / n             learning potential: what one more sample would teach
    h_k(t)  = γ1·d_k(t) + (1 − γ1)·h_k(t−1)                 credit: d_k is the share of the samples just read
    ρ_k(t)  ∝ μ_k · h_k(t)^s · v_k,  raised to δ, made 1    preference; μ is the prior
    π_k(t)  = γ2·ρ_k(t) + (1 − γ2)·ρ̄_k(t−1)                 the policy, which is proposed
    ρ̄_k(t)  = ρ_k(t)/t + (1 − 1/t)·ρ̄_k(t−1)                 preference averaged over time, ρ̄(0) = μ

Those are updates of one step. An observation that covers m steps uses 1 − (1 − γ1)^m for γ1, and m/t for 1/t.

Where it differs from that code: a corpus without a law (too few points) keeps its prior share of ρ; a loss that is
missing is no point, where the code takes the one before it again, and one that is not finite is counted as ignored;
neighbouring points are averaged to keep the history short, where the code smooths with a Savitzky-Golay filter and
takes every tenth; and the fit (`mixer.proposers.scaling_law`) has ε ≥ 0 and α ≥ 0.05, where the code has ε ≥ e^0.5
(programs go below 1.6 nats) and β ≤ e^6.5, and puts α up to 0.05 when the law is fitted, which then is no longer its
slope. When corpora come or go, μ, h and ρ̄ start again from the mixture then in force.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mixer.errors import ProposingError
from mixer.proposers.scaling_law import ScalingLaw, fit_scaling_law
from mixer.proposing import Observation, Proposal, State, listed, share_out

MAX_LOSS = 1e6  # nats; anything above is no loss


@dataclass(frozen=True, kw_only=True)
class Ado:
    """Adaptive Data Optimization.

    Args:
        prior: corpus → μ_k, on any scale. None, or a corpus it does not name: the weight in force when these corpora
            came together (the authors: the corpus's share of all tokens).
        credit_rate: γ1, per step. `gamma = 0.9` for the old in `update`.
        credit_power: s. `p_history ** 0.5` in `curr_dist`.
        preference_rate: γ2. `0.9 * p_avg + 0.1 * dist_K` in `curr_dist`.
        floor: δ, least share in ρ. `clip_min_probability(dist_K, 1e-2)`.
        warmup: losses of steps up to this are not fitted. `ignore_steps: 1000` in configs/loader/pile_ado.yaml.
        fit_interval: steps between two fits, and from `warmup` to the first. `update_interval=1000`.
        count: n is the samples of "all" corpora, which lets a corpus gain from the others and makes potentials
            comparable (`use_same_step_size=True`), or its "own", the law as the paper writes it. For a corpus that
            comes in late, "own" fits better; but then v_k ∝ 1/n_k favours what was read little, whatever the prior.
        max_points: of a corpus's loss curve, at most; even. The curve is thinned evenly however long the run gets.
        name: the author of its revisions.
    """

    prior: Mapping[str, float] | None = None
    credit_rate: float = 0.1
    credit_power: float = 0.5
    preference_rate: float = 0.1
    floor: float = 0.01
    warmup: int = 1000
    fit_interval: int = 1000
    count: Literal["all", "own"] = "all"
    max_points: int = 128
    name: str = "ado"

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be from 0 to 1, found {getattr(self, name)!r}"
            for name in ("credit_rate", "credit_power", "preference_rate", "floor")
            if not 0 <= getattr(self, name) <= 1
        ]
        problems += [
            f"{name} must be a whole number of at least {least}, found {getattr(self, name)!r}"
            for name, least in (("warmup", 0), ("fit_interval", 1), ("max_points", 16))
            if not isinstance(getattr(self, name), int) or getattr(self, name) < least
        ]
        problems += ["max_points must be even"] if not problems and self.max_points % 2 else []
        problems += [f"count is 'all' or 'own', found {self.count!r}"] if self.count not in ("all", "own") else []
        for corpus, share in (self.prior or {}).items():
            if not 0 < share < math.inf:
                problems.append(f"the prior of '{corpus}' must be above 0, found {share!r}")
        if problems:
            raise ProposingError.of(problems)

    def start(self) -> State:
        return {
            "step": 0,
            "fitted": self.warmup,
            "samples": {},
            "prior": {},
            "credit": {},
            "average": {},
            "policy": {},
            "potential": {},
            "laws": {},
            "curves": {},
            "ignored": {},
        }

    def observe(self, state: State, observation: Observation, mixture: Mapping[str, float]) -> State:
        state = {**state, "ignored": dict(state["ignored"]), "curves": dict(state["curves"])}
        if state["prior"].keys() != mixture.keys():
            prior = _shares({name: (self.prior or {}).get(name, share) for name, share in mixture.items()})
            state |= {"prior": prior, "credit": prior, "average": prior, "policy": {}}
        num_steps = observation.step - state["step"]
        state["credit"] = self._credit(state, observation, num_steps)
        state |= {"step": observation.step, "samples": dict(observation.samples)}
        if observation.step > self.warmup:
            self._note_losses(state, observation)
        if observation.step - state["fitted"] >= self.fit_interval:
            state |= {"fitted": observation.step, "laws": self._fit(state)}
        if state["laws"].keys() & mixture.keys():
            self._follow(state, num_steps)
        return state

    def propose(self, state: State, mixture: Mapping[str, float]) -> Proposal | None:
        if not state["policy"]:
            return None
        reason = f"learning potential {listed(state['potential'])}"
        ignored = {name: count for name, count in state["ignored"].items() if count}
        if ignored:
            reason += f" (losses ignored, not usable: {listed(ignored)})"
        return Proposal(weights=state["policy"], reason=reason)

    def _credit(self, state: State, observation: Observation, num_steps: int) -> dict[str, float]:
        """h after the samples read since the last observation."""
        read = {name: _samples(observation, name) - state["samples"].get(name, 0) for name in state["credit"]}
        total = sum(read.values())
        if total <= 0:
            return dict(state["credit"])
        old = (1 - self.credit_rate) ** num_steps
        return {name: old * credit + (1 - old) * (read[name] / total) for name, credit in state["credit"].items()}

    def _count(self, name: str, samples: Mapping[str, int]) -> int:
        """n of a corpus."""
        return samples.get(name, 0) if self.count == "own" else sum(samples.values())

    def _note_losses(self, state: State, observation: Observation) -> None:
        for name in state["prior"]:
            if name not in observation.losses:
                continue
            loss, count = observation.losses[name], self._count(name, observation.samples)
            if 0 < loss < MAX_LOSS and count > 0:  # holds for no NaN
                state["curves"][name] = _longer(state["curves"].get(name), count, loss, self.max_points)
            else:
                state["ignored"][name] = state["ignored"].get(name, 0) + 1

    def _fit(self, state: State) -> dict[str, list[float]]:
        """Corpus → [ε, β, α]; a law that cannot be fitted anew stays."""
        laws = dict(state["laws"])
        for name in state["prior"]:
            curve = state["curves"].get(name)
            law = fit_scaling_law([math.exp(log) for log in curve["logs"]], curve["losses"]) if curve else None
            if law:
                laws[name] = [law.irreducible, law.coefficient, law.exponent]
        return laws

    def _follow(self, state: State, num_steps: int) -> None:
        """Potential, policy and average after a step, from the laws and the credit."""
        prior = state["prior"]
        potential = {name: self._potential(state, name) for name in prior if name in state["laws"]}
        scores = {name: prior[name] * state["credit"][name] ** self.credit_power * v for name, v in potential.items()}
        preference = _shares({name: max(share, self.floor) for name, share in share_out(scores, prior).items()})
        rate, new = self.preference_rate, min(num_steps / state["step"], 1.0)
        average = state["average"]
        state |= {
            "potential": _shares(potential) if sum(potential.values()) > 0 else potential,
            "policy": {name: rate * share + (1 - rate) * average[name] for name, share in preference.items()},
            "average": {name: new * share + (1 - new) * average[name] for name, share in preference.items()},
        }

    def _potential(self, state: State, name: str) -> float:
        """v_k, in nats a sample."""
        irreducible, coefficient, exponent = state["laws"][name]
        law = ScalingLaw(irreducible=irreducible, coefficient=coefficient, exponent=exponent)
        count = self._count(name, state["samples"])
        return law.exponent * law.reducible(count) / count


def _samples(observation: Observation, name: str) -> int:
    return observation.samples.get(name, 0)


def _shares(values: Mapping[str, float]) -> dict[str, float]:
    total = sum(values.values())
    return {name: value / total for name, value in values.items()}


def _longer(curve: Mapping[str, Any] | None, count: int, loss: float, max_points: int) -> dict[str, Any]:
    """A curve with one observation more: points are means of `stride` neighbours, halved in number when too many.

    Of the counts the logarithms are averaged: for small α a power law is nearly straight in them.
    """
    curve = curve or {"stride": 1, "logs": [], "losses": [], "open": [0, 0.0, 0.0]}
    stride, logs, losses = curve["stride"], list(curve["logs"]), list(curve["losses"])
    size, sum_logs, sum_losses = curve["open"][0] + 1, curve["open"][1] + math.log(count), curve["open"][2] + loss
    if size == stride:
        logs.append(sum_logs / stride)
        losses.append(sum_losses / stride)
        size, sum_logs, sum_losses = 0, 0.0, 0.0
    if len(logs) == max_points:
        logs = [(a + b) / 2 for a, b in zip(logs[::2], logs[1::2], strict=True)]
        losses = [(a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=True)]
        stride *= 2
    return {"stride": stride, "logs": logs, "losses": losses, "open": [size, sum_logs, sum_losses]}
