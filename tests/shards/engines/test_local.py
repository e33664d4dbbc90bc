"""Worker processes: they end with whoever asked for them, and their death is an error, not a wait."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from shards.conversion import Conversion, convert
from shards.errors import WorkerError
from tests.shards.conftest import make_texts, write_jsonl


def is_worker(process: psutil.Process) -> bool:
    """Whether it is one of the pool's, and not one that has just ended, of this test or another."""
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_a_killed_worker_is_an_error_and_the_work_goes_on_later(
    make_conversion: Callable[..., Conversion], tmp_path: Path
) -> None:
    for number in range(4):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", make_texts(3000, seed=number, longest=20))

    def kill_one(read_bytes: int, text_bytes: int) -> None:
        if workers := [child for child in psutil.Process().children() if is_worker(child)]:
            os.kill(workers[-1].pid, signal.SIGKILL)

    conversion = make_conversion(tmp_path / "in", holdout=0)
    with pytest.raises(WorkerError, match=r"a worker died while it converted .* run the same command again"):
        convert(conversion, workers=2, on_progress=kill_one)
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    assert not (tmp_path / "out" / "c4").exists()
    convert(conversion, workers=2)
    assert (tmp_path / "out" / "c4" / "train" / "corpus.json").exists()
