"""Curation: which records of the sources are left out, and why. A stand-in for the faces that conversion calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.engines import Engine, OnProgress
from shards.sources import Unit
from shards.templates import Template

__all__ = ["Curation", "Removed", "curate", "read_removed"]


@dataclass(frozen=True)
class Removed:
    """Records of one unit that are left out: `records` [n] ascending, as blocks number them; `steps` [n] says why."""

    records: NDArray[np.int64]
    steps: NDArray[np.uint8]


@dataclass(frozen=True)
class Curation:
    """What to leave out."""

    step_names: tuple[str, ...] = ()

    def parameters(self) -> dict[str, Any]:
        """Everything that decides what is left out."""
        return {"steps": list(self.step_names)}


def curate(
    curation: Curation,
    units: Sequence[Unit],
    template: Template,
    folder: Path,
    *,
    engine: Engine,
    workers: int,
    on_progress: OnProgress,
) -> None:
    """Write what is removed of each unit to `folder`."""


def read_removed(folder: Path, unit_number: int) -> Removed:
    """What is removed of one unit."""
    return Removed(np.empty(0, np.int64), np.empty(0, np.uint8))
