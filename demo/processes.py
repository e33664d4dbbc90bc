"""Programs that the demo starts: each in a session of its own, its output in a file, and always ended."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
# Training on a CPU, on a machine that others use too. Threads that wait sleep, rather than take the cores from those
# that work; and glibc keeps the memory of a step for the next one: the logits of a large vocabulary are hundreds of MB,
# otherwise fetched from the system page by page in each step (half of the time, for the GPT-NeoX vocabulary).
ON_A_CPU = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
GRACE = 10.0  # seconds from SIGTERM to SIGKILL
READY = re.compile(r"^switchpoint-service ready: (http://\S+)$", re.MULTILINE)


class DemoError(Exception):
    """A stage failed; `log` is the file that says more."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message, log)
        self.message = message
        self.log = log


class Child:
    """`python ARGUMENTS...` in the repository's root, with all that it starts; a context that ends it when left."""

    def __init__(self, name: str, arguments: Sequence[str], *, log: Path) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**ON_A_CPU, **os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative where a signal ended it."""
        return self._process.poll()

    def wait(self, timeout: float) -> int | None:
        """The exit code, or None if it still runs after `timeout` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self.exit_code

    def stop(self) -> None:
        """SIGTERM, as a supervisor ends it; after `GRACE` seconds SIGKILL."""
        if self.exit_code is None:
            self._process.terminate()
        if self.wait(GRACE) is None:
            self.kill()

    def kill(self) -> None:
        """SIGKILL for it and all it started, as when a machine goes down: nothing is flushed, no handler runs."""
        if self.exit_code is None:  # otherwise its number may be another process's by now
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def output(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def failed(self) -> DemoError:
        """The error to raise when it ended and should not have."""
        return DemoError(f"the {self.name} ended with exit code {self.exit_code}", self.log)


@contextmanager
def serve(database: Path, *, log: Path) -> Iterator[str]:
    """The live schedule's service on a free port, for as long as the block lasts; gives its address."""
    with Child("service", ["-m", "service", "serve", "--port", "0", "--db", str(database)], log=log) as service:
        end = time.monotonic() + 60
        while not (ready := READY.search(service.output())):
            if service.exit_code is not None:
                raise service.failed()
            if time.monotonic() > end:
                raise DemoError("the service was not ready after 60 seconds", log)
            time.sleep(0.05)
        yield ready[1]
        service.stop()


def start_trainer(config: Path, *, log: Path) -> Child:
    """The trainer on `config`. One process needs no launcher, which would import Composer once more."""
    return Child("trainer", ["trainer/run.py", str(config)], log=log)


def dry_run(config: Path, *, log: Path) -> None:
    """Let the trainer check `config` and say what it would do."""
    with Child("trainer's dry run", ["trainer/run.py", str(config), "--dry-run"], log=log) as trainer:
        if trainer.wait(120) != 0:
            raise trainer.failed()


def export_ledger(database: Path, run_id: str, ledger: Path) -> None:
    """Write what the service knows of the run to `ledger`, as JSON lines."""
    command = [sys.executable, "-m", "service", "export", "--db", str(database), "-o", str(ledger), run_id]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoError(f"the export of the ledger failed: {done.stderr.strip()}")
