"""What a checkpoint keeps of a ledger's past: not what the revisions were, only what they left. Small, JSON-able.

A run of any length and any number of revisions leaves: how many there were, what was drawn and owed of each corpus at
the start of the stretch being read, and the schedule from there on, with the number of draws before each batch size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from mixer.batching import Batches
from mixer.building import Past
from mixer.changes import Change
from mixer.context import parse_rope
from mixer.ramp import Ramp
from mixer.schedule import Phase, Schedule


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept of the first `number` revisions of a ledger.

    Of them `in_force` was the newest in force, and those in `superseded` were not. `schedule` holds from `past.step`
    on; `history` is the hash of what was below it (`Ledger.history`).
    """

    number: int
    in_force: int
    superseded: tuple[int, ...]
    schedule: Schedule
    past: Past
    history: str

    def to_dict(self, usual_names: Sequence[str]) -> dict[str, Any]:
        """JSON-able. Weights, counts and errors are lists by corpus: of `usual_names`, or of "names" if they differ."""
        past, names = self.past, list(self.past.drawn)
        sizes = [list(row) for row in self.schedule.batch_sizes]
        return {
            "revisions": [self.number, self.in_force, list(self.superseded)],
            "history": self.history,
            "step": past.step,
            "names": None if names == list(usual_names) else names,
            "drawn": list(past.drawn.values()),
            "errors": [past.errors[name] for name in names],
            "spent": list(past.spent),
            "made": [[*_to_list(change), ordinal] for change, ordinal in past.changes],
            "changes": [_to_list(change) for change in self.schedule.changes],
            "phases": [
                [
                    phase.start,
                    [phase.mixture.get(name, 0) for name in names],
                    [phase.ramp.shape, phase.ramp.length] if phase.ramp else None,
                    *([own] if (own := phase.own_context()) else []),
                ]
                for phase in self.schedule.phases
            ],
            **({"batch_sizes": sizes} if sizes else {}),
        }

    @classmethod
    def from_dict(cls, obj: Mapping[str, Any], usual_names: Sequence[str], sizes: Schedule) -> "Kept":
        """Read back what `to_dict` gave; of `sizes` only the run's sizes are looked at, as they were at step 0."""
        names, (number, in_force, superseded) = obj["names"] or usual_names, obj["revisions"]
        starts = [row[0] for row in obj["phases"]]
        phases = tuple(
            Phase(
                start=start,
                end=end,
                mixture={name: weight for name, weight in zip(names, weights, strict=True) if weight},
                ramp=Ramp(shape=ramp[0], length=ramp[1]) if ramp else None,
                **_own_context(*rest),
            )
            for (start, weights, ramp, *rest), end in zip(obj["phases"], [*starts[1:], sizes.num_steps], strict=True)
        )
        changes = tuple(_to_change(row) for row in obj["changes"])
        batch_sizes = tuple(Batches(*row) for row in obj.get("batch_sizes", ()))
        return cls(
            number=number,
            in_force=in_force,
            superseded=tuple(superseded),
            schedule=replace(sizes, phases=phases, changes=changes, batch_sizes=batch_sizes),
            past=Past(
                step=obj["step"],
                drawn=dict(zip(names, obj["drawn"], strict=True)),
                errors=dict(zip(names, obj["errors"], strict=True)),
                spent=tuple(obj["spent"]),
                changes=tuple((_to_change(row[:-1]), row[-1]) for row in obj["made"]),
            ),
            history=obj["history"],
        )


def _own_context(own: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    rope = {"rope": parse_rope(own["rope"], "$", [])} if "rope" in own else {}
    return {**own, **rope}


def _to_list(change: Change) -> list[Any]:
    return [change.step, change.name, change.verb, dict(change.arguments)]


def _to_change(row: list[Any]) -> Change:
    step, name, verb, arguments = row
    return Change(step=step, name=name, verb=verb, arguments=arguments)
