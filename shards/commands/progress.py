"""A bar while something is at work: on stderr, and only on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(total: int, name: str) -> Iterator[Callable[[int], None]]:
    """Gives what is told the bytes done since it was last called, of `total`."""
    from tqdm import tqdm

    with tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None) as bar:

        def update(num_bytes: int) -> None:
            bar.update(num_bytes)

        yield update
