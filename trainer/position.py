"""Where a run stands, as far as its service is concerned: what it reports, and how far it goes without an answer.

Pure functions of values that all ranks share; `service/PROTOCOL.md` has the rules, `tests/service/protocol_model.py`
goes through all that can happen with them. Neither torch nor composer.
"""

from dataclasses import dataclass
from typing import Any

from mixer import Ledger


@dataclass(frozen=True, kw_only=True)
class Position:
    """Between two steps: `step` are finished, those below `frontier` may have been handed out under `ledger`."""

    ledger: Ledger
    step: int
    frontier: int

    def wanted(self, lead: int) -> int:
        """The first step that is not to be frozen yet: so far a run also goes on by itself, without an answer."""
        return min(self.step + lead, self.ledger.base.num_steps)

    def report(self, lead: int) -> dict[str, Any]:
        """What the service must know to decide."""
        return {
            "step": self.step,
            "freeze_through": self.wanted(lead),
            "known_revision": self.ledger.number,
            "superseded": list(self.ledger.superseded),
            "decided_through": max(self.step, self.frontier),
        }
