"""What checkpoints are called, and which of them stay.

`step-00000040.pt` is the state after 40 steps in one file, `step-00000040` the same in parts (a folder). A name with
`-switchpoint` is the state right before the first step of a phase, and is never removed.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

_NAME = re.compile(r"step-(\d{8,})(-switchpoint)?(\.pt)?")


class Name(NamedTuple):
    """Sorts by step."""

    step: int
    at_switchpoint: bool
    is_sharded: bool

    @classmethod
    def parse(cls, text: str) -> "Name | None":
        """None for what is no checkpoint."""
        found = _NAME.fullmatch(text)
        return cls(int(found[1]), bool(found[2]), not found[3]) if found else None

    def __str__(self) -> str:
        return f"step-{self.step:08d}{'-switchpoint' * self.at_switchpoint}{'' if self.is_sharded else '.pt'}"


def superseded(names: Iterable[Name], num_to_keep: int) -> list[Name]:
    """Those to remove so that the newest `num_to_keep` (at least one; -1: all) and those at switchpoints are left."""
    movable = sorted(name for name in names if not name.at_switchpoint)
    return [] if num_to_keep < 0 else movable[: -max(1, num_to_keep)]
