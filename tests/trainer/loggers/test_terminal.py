"""What a person sees: the line that moves, and the lines of steps."""

import io
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from trainer.loggers.terminal import Bar, StepLines, pace

METRICS = {"speed/tokens_per_s": 12_345.6, "speed/mfu": 0.4567, "speed/time_left_s": 3725.0}


def record() -> Any:
    last = {"loss": 5.25, "lr": 3e-4, "counts": {"c4": 3, "code": 1}}
    return SimpleNamespace(last=last, speed=SimpleNamespace(metrics=METRICS))


def state(step: int) -> Any:
    return SimpleNamespace(timestamp=SimpleNamespace(batch=step))


def test_pace_tells_what_is_known() -> None:
    assert pace(METRICS) == "12,346 tokens/s  MFU 45.7%  1:02:05 left"
    assert pace({"speed/tokens_per_s": 10.0}) == "10 tokens/s"


def test_the_bar_goes_on_where_the_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, logger = io.StringIO(), Any
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = Bar(record(), num_steps=10)
    bar.fit_start(state(7), logger)
    for step in (8, 9, 10):
        bar.batch_end(state(step), logger)
    bar.close(state(10), logger)
    assert " 70% " in terminal.getvalue()
    shown = terminal.getvalue().rstrip().split("\r")[-1]
    assert shown.startswith("100% ")
    assert shown.endswith("10/10, loss 5.2500  lr 0.0003  12,346 tokens/s  MFU 45.7%  1:02:05 left")


def test_lines_come_at_their_interval_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    lines = StepLines(record(), interval=4, num_steps=10)
    with caplog.at_level(logging.INFO, logger="trainer"):
        for step in range(1, 11):
            lines.batch_end(state(step), Any)
    assert [message.split("  ")[0] for message in caplog.messages] == ["step 4/10", "step 8/10", "step 10/10"]
    assert "lr 0.0003  c4 0.750 code 0.250  12,346 tokens/s" in caplog.messages[0]
