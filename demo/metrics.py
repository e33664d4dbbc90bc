"""The trainer's metrics file as this demo reads it: one launch of the trainer after the other.

Steps since the last checkpoint stand twice after a crash; a launch is a run of lines whose steps count up by one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class History:
    """`lines`: of trained steps, as written. `evaluations`: steps done → held-out loss by corpus."""

    lines: tuple[Line, ...]
    evaluations: Mapping[int, Mapping[str, float]]

    @property
    def launches(self) -> list[list[Line]]:
        """The lines of each launch; one that lost no step to a crash cannot be told from the one before it."""
        found: list[list[Line]] = []
        for line in self.lines:
            if not found or line["step"] != found[-1][-1]["step"] + 1:
                found.append([])
            found[-1].append(line)
        return found

    @property
    def steps(self) -> list[Line]:
        """The last line of each step, by step: what the model at the end was trained on."""
        last = {line["step"]: line for line in self.lines}
        return [last[step] for step in sorted(last)]


def read_history(path: Path) -> History:
    """What the file says so far; a line that is still being written, or was cut off, is left out."""
    lines = _lines(path)
    evaluations = {line["step"]: line["eval"] for line in lines if "eval" in line}
    return History(
        lines=tuple(line for line in lines if "eval" not in line), evaluations=dict(sorted(evaluations.items()))
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for text in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found
