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
    """`launches`: the lines of trained steps, as written. `evaluations`: steps done → held-out loss by corpus."""

    launches: tuple[tuple[Line, ...], ...]
    evaluations: Mapping[int, Mapping[str, float]]

    @property
    def last_line(self) -> Line | None:
        return self.launches[-1][-1] if self.launches else None

    @property
    def steps(self) -> list[Line]:
        """The last line of each step, by step: what the model at the end was trained on."""
        last = {line["step"]: line for launch in self.launches for line in launch}
        return [last[step] for step in sorted(last)]


def read_history(path: Path) -> History:
    """What the file says so far; a line that is still being written, or was cut off, is left out."""
    launches: list[list[Line]] = []
    evaluations: dict[int, Mapping[str, float]] = {}
    for line in _lines(path):
        if "eval" in line:
            evaluations[line["step"]] = line["eval"]
            continue
        if not launches or line["step"] != launches[-1][-1]["step"] + 1:
            launches.append([])
        launches[-1].append(line)
    return History(launches=tuple(map(tuple, launches)), evaluations=dict(sorted(evaluations.items())))


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for text in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found
