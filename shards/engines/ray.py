"""Workers on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shards.engines import OnProgress, Work
from shards.errors import CallError

__all__ = ["run"]


def run(jobs: Sequence[Any], work: Work, *, workers: int, on_progress: OnProgress) -> None:
    """As `shards.engines.run_jobs`, on Ray."""
    raise CallError("--engine ray is not in this version; use --engine local")
