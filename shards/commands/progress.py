"""A bar while something is at work: on stderr, and only on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["progress_bar", "tokens_per_byte"]

_EVERY_SECONDS = 2.0
_PARTS = 16


@contextmanager
def progress_bar(total: int, name: str, work: Path | None = None) -> Iterator[Callable[..., None]]:
    """Gives a function that is told the bytes read since it was last called, of `total`, and those of text in them.

    The bar has the speed of reading, and the time left by it; behind it stand the speed in text, where any is told,
    and in tokens, as soon as a part is finished in the folder `work` of the conversion that says how many a text has.
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
            if not bar.disable and text_bytes and now - shown >= _EVERY_SECONDS:
                shown = now
                speed = text_bytes / (now - start)
                ratio = tokens_per_byte(work) if work is not None else None
                tokens = f", {speed * ratio:,.0f} tokens/s" if ratio else ""
                bar.set_postfix_str(f"text {speed / 1e6:.1f} MB/s{tokens}", refresh=False)

        yield update


def tokens_per_byte(work: Path) -> float | None:
    """Tokens of a byte of text, by the first parts that are finished in `work`; None before there is one."""
    from shards.part import read_part

    parts = [part for folder in sorted(work.glob("parts/[0-9]*[0-9]"))[:_PARTS] if (part := read_part(folder))]
    splits = [split for part in parts for split in part.splits.values()]
    text_bytes = sum(split.text_bytes for split in splits)
    return sum(split.tokens for split in splits) / text_bytes if text_bytes else None
