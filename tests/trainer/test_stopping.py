"""A run that is asked to end saves its state after the step under way, and goes on from there."""

import os
import random
import signal
from pathlib import Path

import pytest

from tests.trainer.conftest import NUM_STEPS, run_config
from tests.trainer.launch import Run, last_of_each_step, steps_in, wait_for_step
from trainer import stopping as module
from trainer.checkpoints.files import complete_checkpoints
from trainer.stopping import Stopping

ASKED_FOR = 75


@pytest.mark.parametrize(("num_ranks", "number"), [(1, signal.SIGTERM), (2, signal.SIGUSR1)], ids=["one", "two"])
def test_no_step_is_trained_twice_or_lost(
    num_ranks: int, number: signal.Signals, corpora: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """The signal goes to the process group of the last rank alone, as if its loader workers were still in it."""
    config = run_config(corpora, tmp_path, save_interval="100ba", save_at_switchpoints=False, num_workers=2)
    metrics = tmp_path / "metrics.jsonl"
    run = Run([str(config)], tmp_path, num_ranks=num_ranks, own_groups=True)
    wait_for_step(run, metrics, random.Random(num_ranks).randint(2, NUM_STEPS - 8))
    workers = run.workers()
    assert len(workers) == 2 * num_ranks
    run.signal(number, rank=num_ranks - 1)
    assert run.wait() == ASKED_FOR, run.output
    done = len(list(steps_in(metrics)))
    assert [path.name for path in complete_checkpoints(tmp_path / "checkpoints")] == [f"step-{done:08d}.pt"]
    last = run.output.splitlines()[-1]
    assert last == f"stopped by {number.name} after {done} steps, which are saved: start again to go on"
    assert not any(worker.is_running() for worker in workers)

    run = Run([str(config)], tmp_path, num_ranks=num_ranks)
    assert run.wait() == 0, run.output
    assert [line["step"] for line in steps_in(metrics)] == list(range(NUM_STEPS))
    expected = [line["digest"] for line in steps_in(undisturbed / "metrics.jsonl")]
    assert [line["digest"] for line in last_of_each_step(metrics).values()] == expected


def test_ctrl_c_twice_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes again together with the first, or another one, is the same request; later it is not."""
    stopping, now, sent = Stopping(), [10.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    before = signal.getsignal(signal.SIGINT)
    try:
        stopping._ask(signal.SIGINT, None)
        now[0] += 0.5
        stopping._ask(signal.SIGINT, None)
        now[0] += 5
        stopping._ask(signal.SIGTERM, None)
        assert sent == []
        stopping._ask(signal.SIGINT, None)
        assert sent == [(os.getpid(), signal.SIGINT)]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
