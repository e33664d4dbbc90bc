"""Work of some ranks that may take long or fail, and of which every rank must know the end."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from composer.utils import dist

from trainer.errors import CheckpointError, TrainerError

log = logging.getLogger(__name__)
Result = TypeVar("Result")

MEETING_S = 10.0  # between two meetings of the ranks; a collective that waits for minutes is taken for a hang


def together(work: Callable[[], Result] | None) -> list[Result | None]:
    """Runs `work` of this rank, if it has some; returns what came of it on each rank, by rank.

    Where it fails on any rank it raises on every rank, so that none waits for ever: its own error where it is its own,
    the TrainerError of the first rank that has one elsewhere. It runs in a thread while the ranks meet again and again.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work) if work else None
        while not all(dist.all_gather_object(future is None or bool(wait([future], MEETING_S).done))):
            pass
    error = future.exception() if future else None
    if error is not None and not isinstance(error, TrainerError):
        told: TrainerError | None = CheckpointError(f"rank {dist.get_global_rank()} failed: {error!r}")
    else:
        told = error
    errors = [other for other in dist.all_gather_object(told) if other]
    if error is not None:
        raise error
    if errors:
        raise errors[0]
    return list(dist.all_gather_object(future.result() if future else None))
