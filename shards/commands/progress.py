"""A bar while something is at work: on stderr, and only on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]

_EVERY_SECONDS = 1.0


@contextmanager
def progress_bar(total: int, name: str) -> Iterator[Callable[..., None]]:
    """Gives a function that is told the bytes read since it was last called, of `total`, and those of text in them.

    The bar has the speed of reading and the time left by it; behind it stands the speed in text, where any is told.
    """
    from tqdm import tqdm

    with tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None) as bar:
        start = shown = time.monotonic()
        text_bytes = 0

        def update(read_bytes: int, new_text_bytes: int = 0) -> None:
            nonlocal text_bytes, shown
            text_bytes += new_text_bytes
            bar.update(read_bytes)
            now = time.monotonic()
            if text_bytes and now - shown >= _EVERY_SECONDS:
                shown = now
                bar.set_postfix_str(f"text {text_bytes / 1e6 / (now - start):.1f} MB/s", refresh=False)

        yield update
