"""How exact the plan is: the worst deviation at any prefix over random schedules with many phases, ramps and edits.

The short form runs with every test; the campaign (`make soak`) prints the figures that stand in docs/DETERMINISM.md. It
can be run alone: `python -m tests.mixer.test_deviation 2000`.
"""

import random
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from mixer import Ledger, Plan, Schedule
from mixer.weights import UNIT
from tests.mixer.test_plan import worst_deviation

BOUND = 2


def random_mixture(rng: random.Random, num_corpora: int) -> dict[str, float]:
    """Weights of very different sizes, a fifth of them 0."""
    power = rng.choice([1, 3, 8])
    raw = [rng.random() ** power if rng.random() < 0.8 else 0.0 for _ in range(num_corpora)]
    if not sum(raw):
        raw[0] = 1.0
    ppb = [int(value / sum(raw) * UNIT) for value in raw]
    ppb[ppb.index(max(ppb))] += UNIT - sum(ppb)
    return {f"c{index}": weight / UNIT for index, weight in enumerate(ppb)}


def random_ledger(rng: random.Random, *, max_batch: int, ramps: bool, edits: int) -> Ledger:
    """10 to 150 phases over 2 to 8 corpora, most of a few steps, and then some edits to them."""
    num_corpora = 8 if rng.random() < 0.6 else rng.randint(2, 7)

    def phases(start: int, count: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for index in range(count):
            row: dict[str, Any] = {"start": start, "mixture": random_mixture(rng, num_corpora)}
            if ramps and index and rng.random() < 0.5:
                row["ramp"] = {"shape": rng.choice(["linear", "cosine"]), "length": rng.randint(2, 30)}
            rows.append(row)
            start += rng.choice([1, 1, 2, 3, 8, 20])
        return rows

    rows = phases(0, rng.randint(10, 150))
    steps, batch = rows[-1]["start"] + 20, rng.randint(1, max_batch)
    ledger = Ledger(base=Schedule.from_dict({"phases": rows}, num_steps=steps, global_batch_size=batch, seq_len=8))
    for _ in range(edits):
        step = rng.randrange(1, steps)
        change = {"schedule": {"phases": [p for p in phases(step, rng.randint(1, 20)) if p["start"] < steps]}}
        ledger = ledger.propose(
            change, parent=ledger.number, effective_step=step, frontier=0, author="-", reason="-", time="-"
        )
    return ledger


KINDS: dict[str, Callable[[random.Random], Ledger]] = {
    "batches of 1 to 4 samples, phases": lambda rng: random_ledger(rng, max_batch=4, ramps=False, edits=0),
    "batches of 1 to 4 samples, ramps and edits": lambda rng: random_ledger(rng, max_batch=4, ramps=True, edits=3),
    "batches of 1 to 64 samples, phases": lambda rng: random_ledger(rng, max_batch=64, ramps=False, edits=0),
    "batches of 1 to 64 samples, ramps and edits": lambda rng: random_ledger(rng, max_batch=64, ramps=True, edits=3),
}


def campaign(kind: str, num_schedules: int, seed: int = 0) -> Fraction:
    rng = random.Random(f"{kind}/{seed}")
    return max(worst_deviation(plan_of(KINDS[kind](rng))) for _ in range(num_schedules))


def plan_of(ledger: Ledger) -> Plan:
    return Plan(ledger.schedule, {f"c{index}": [1000] for index in range(8)}, data_seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_worst_deviation(kind: str) -> None:
    assert campaign(kind, 4) <= BOUND


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_worst_deviation_of_a_campaign(kind: str) -> None:
    worst = campaign(kind, 1000, seed=1)
    print(f"\n{kind}: worst {float(worst):.3f} samples over 1000 schedules")
    assert worst <= BOUND


if __name__ == "__main__":
    for kind in KINDS:
        print(f"{kind}: worst {float(campaign(kind, int(sys.argv[1]), seed=1)):.3f} samples", flush=True)
