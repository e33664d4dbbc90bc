"""What a model forgets: the loss of the reference corpus against what it was at a switchpoint.

At a switchpoint the model has not seen the new mixture yet. The value of the first one is kept, which is what the run
had learnt before anything changed, and that of the newest, which a run of many phases is compared with too. Positive is
worse. Kept in the checkpoint, so that a resumed run says the same. Neither torch nor composer.
"""

from collections.abc import Mapping
from typing import Any


class Forgetting:
    """Follows the loss of `reference`, in nats; `first` and `last` are (switchpoint, loss there), or None before."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.first: tuple[int, float] | None = None
        self.last: tuple[int, float] | None = None

    def knows(self, step: int) -> bool:
        """Whether the loss at this switchpoint is kept."""
        return any(kept is not None and kept[0] == step for kept in (self.first, self.last))

    def at_switchpoint(self, step: int, losses: Mapping[str, float]) -> None:
        """Keep the loss of the reference at a switchpoint; without one nothing is kept."""
        if self.reference in losses:
            self.last = (step, losses[self.reference])
            self.first = self.first or self.last

    def since(self, losses: Mapping[str, float]) -> dict[int, float]:
        """Switchpoint to what has been forgotten since: loss now minus loss then, for the first and the newest."""
        if self.reference not in losses:
            return {}
        return {kept[0]: losses[self.reference] - kept[1] for kept in (self.first, self.last) if kept}

    def metrics(self, losses: Mapping[str, float]) -> dict[str, float]:
        """`eval/<reference>/forgetting` since the first switchpoint and, from the second on, `…_since_last`."""
        since, name = self.since(losses), f"eval/{self.reference}/forgetting"
        if self.first is None or self.last is None or not since:
            return {}
        last = {f"{name}_since_last": since[self.last[0]]} if self.last[0] != self.first[0] else {}
        return {name: since[self.first[0]], **last}

    def state_dict(self) -> dict[str, Any]:
        return {"reference": self.reference, "first": self.first, "last": self.last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as `state` says; of another reference nothing is known."""
        if state.get("reference") == self.reference:
            self.first = tuple(state["first"]) if state["first"] else None
            self.last = tuple(state["last"]) if state["last"] else None
