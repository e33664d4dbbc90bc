"""Runs of the trainer in processes of their own, without paying ten seconds of imports for each.

The processes are forked from a server that has imported Composer once and computed nothing. They are real ones: they
have their own environment and output, they can be killed, and several make a process group as `composer -n` would.

A forked process can use a GPU only where the server has not looked for one through CUDA, so torch is told to ask the
driver's management library instead.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

PRELOAD = ["composer", "trainer.run", "trainer.callbacks", "trainer.models.causal_lm", "tests.trainer.launch"]


class Run:
    """One start of the trainer on `num_ranks` processes, already under way; output goes to `folder`/rank*.txt."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        num_ranks: int = 1,
        environment: Mapping[str, str] | None = None,
        own_groups: bool = False,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        port = str(_free_port())
        self._outputs = [folder / f"rank{rank}.txt" for rank in range(num_ranks)]
        self._processes = []
        for rank, output in enumerate(self._outputs):
            size, rank_text = str(num_ranks), str(rank)
            names = {"RANK": rank_text, "LOCAL_RANK": rank_text, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
            names |= environment or {}
            names |= {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONUNBUFFERED": "1"}
            process = context.Process(target=_enter, args=(list(arguments), names, str(output), own_groups))
            process.start()
            self._processes.append(process)

    def wait(self, timeout: float = 120) -> int:
        """The exit code, which all ranks must have."""
        for process in self._processes:
            process.join(timeout)
            assert process.exitcode is not None, f"still running after {timeout} s:\n{self.output}"
        (code,) = {process.exitcode for process in self._processes}
        return code

    def kill(self) -> None:
        """SIGKILL, as the machine would."""
        for process in self._processes:
            process.kill()
            process.join()

    def signal(self, number: int, *, rank: int) -> None:
        """To the whole process group of a rank, as Slurm and a terminal send it; it needs `own_groups`."""
        os.killpg(self._processes[rank].pid, number)

    def pause(self) -> None:
        """Stop the processes where they are, until `go_on`."""
        for process in self._processes:
            os.kill(process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        for process in self._processes:
            os.kill(process.pid, signal.SIGCONT)

    def workers(self) -> list[psutil.Process]:
        """The loader workers that run now."""
        return [worker for process in self._processes for worker in psutil.Process(process.pid).children()]

    @property
    def alive(self) -> bool:
        return all(process.is_alive() for process in self._processes)

    @property
    def output(self) -> str:
        return self._outputs[0].read_text() if self._outputs[0].exists() else ""


def steps_in(metrics: Path) -> Iterator[dict[str, Any]]:
    """The lines of trained steps in a metrics file, as written; a line that is being written is left out."""
    for line in metrics.read_text().split("\n")[:-1] if metrics.exists() else []:
        if "loss" in (found := _parse(line)):
            yield found


def last_of_each_step(metrics: Path) -> dict[int, dict[str, Any]]:
    """Step to its last line, in the order of steps' first appearance."""
    return {line["step"]: line for line in steps_in(metrics)}


def evaluations_in(metrics: Path) -> dict[int, dict[str, float]]:
    """Steps done to the held-out losses, last line of each."""
    lines = [_parse(line) for line in metrics.read_text().split("\n")[:-1]]
    return {line["step"]: line["eval"] for line in lines if "eval" in line}


def wait_for_step(run: Run, metrics: Path, step: int, timeout: float = 120) -> None:
    """Return as soon as the metrics file holds a line of `step` or a later one."""
    end = time.monotonic() + timeout
    while not any(line["step"] >= step for line in steps_in(metrics)):
        assert run.alive, f"the run ended before step {step}:\n{run.output}"
        assert time.monotonic() < end, f"no step {step} after {timeout} s:\n{run.output}"
        time.sleep(0.02)


def _parse(line: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError:
        return {}


def _enter(arguments: list[str], names: Mapping[str, str], output: str, own_group: bool) -> None:
    with open(output, "ab", buffering=0) as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(names)
    if own_group:
        os.setpgid(0, 0)
    multiprocessing.set_start_method("fork", force=True)  # loader workers as in a run from the command line
    import torch

    from trainer.run import main

    torch.set_num_threads(1)

    sys.exit(main(arguments))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
