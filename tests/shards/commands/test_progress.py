"""What is shown while a conversion is at work, on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.commands import progress
from shards.commands.progress import progress_bar, tokens_per_byte
from shards.conversion import Conversion, convert
from shards.manifest import read_manifest
from tests.shards.conftest import make_texts, write_jsonl


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, work: Path | None) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "_EVERY_SECONDS", 0.0)
    with progress_bar(4000, "c4", work) as update:
        update(1000, 900)
        update(3000)
    return stream.getvalue()


def test_a_terminal_is_shown_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show(monkeypatch, Terminal(), None)
    assert "c4: 100%" in shown
    assert "B/s" in shown
    assert "text " in shown
    assert "tokens/s" not in shown


def test_elsewhere_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show(monkeypatch, io.StringIO(), None) == ""


def test_tokens_are_those_of_the_parts_that_are_finished(
    make_conversion: Callable[..., Conversion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", make_texts(30, seed=number))
    work = tmp_path / "out" / ".c4.work"
    found: list[float | None] = []
    assert tokens_per_byte(work) is None
    convert(
        make_conversion(tmp_path / "in", holdout=0),
        workers=1,
        on_progress=lambda *_: found.append(tokens_per_byte(work)),
    )
    manifest = read_manifest(tmp_path / "out" / "c4" / "train")
    assert found[0] is None
    assert found[-1] == pytest.approx(manifest.tokens / manifest.text_bytes, rel=0.1)
    monkeypatch.setattr(progress, "tokens_per_byte", lambda work: 0.25)
    assert "tokens/s" in show(monkeypatch, Terminal(), work)
