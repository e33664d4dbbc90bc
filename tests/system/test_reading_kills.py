"""Reading from object storage through kills: two ranks and their workers, one small cache, SIGKILL at random moments.

Whatever is killed, the next start goes on from the last checkpoint with exactly the planned samples in their slots, on
other ranks and workers, and of the dead nothing is left: no process, no shared memory, no lock, nothing half fetched.
The cache never holds more than its limit. The mixture is edited on the way, also after the last checkpoint.
"""

import contextlib
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from mixer import Ledger, Plan
from mixer.storage.locks import Locks
from tests.mds import write_manifest, write_shards
from tests.s3 import s3_server, upload
from tests.system.reading_ranks import BATCH, SEED, SEQ_LEN, WINDOW, Job, Ranks, digest

NAMES = ("c4", "code", "math")
NUM_STEPS, SAVE_EVERY, LEAD = 40, 3, 14  # LEAD: more than any loader of these fetches ahead
LIMIT = 32_000  # bytes: some twenty of the 60 shards
SCHEDULE = {
    "phases": [
        {"start": 0, "mixture": {"c4": 1.0}},
        {"start": 8, "mixture": {"c4": 0.6, "code": 0.4}, "ramp": {"shape": "linear", "length": 4}},
    ]
}


def source_rows(name: str) -> np.ndarray:
    """Row i is its corpus, i, and what belongs to it alone."""
    rows = np.random.default_rng(NAMES.index(name)).integers(0, 2**16, (300, SEQ_LEN), dtype=np.uint16)
    rows[:, 0], rows[:, 1] = NAMES.index(name), np.arange(300)
    return rows


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], dict[str, str], Path]]:
    """The environment of an S3 server, the addresses of the corpora on it, and the folder they came from."""
    root = tmp_path_factory.mktemp("remote")
    for name in NAMES:
        compression = "zstd:3" if name == "code" else None
        write_shards(root / name, source_rows(name), rows_a_shard=15, compression=compression)
    write_manifest(root / "c4")
    with s3_server() as environment:
        yield environment, {name: upload(environment, root / name, name) for name in NAMES}, root


def shared_memory() -> set[Path]:
    """Segments and semaphores of torch and multiprocessing, whose there are; other tests may use other libraries'."""
    return {path for path in Path("/dev/shm").iterdir() if path.name.startswith(("torch_", "sem."))}


class Campaign:
    """Runs one after the other over one cache, each killed again and again until it comes to its end."""

    def __init__(self, remote: tuple[dict[str, str], dict[str, str], Path], folder: Path, seed: int) -> None:
        self.environment, addresses, root = remote
        self.corpora = {name: (folder / name, address) for name, address in addresses.items()}
        self.chance, self.kills, self.steps, self.runs = random.Random(seed), 0, 0, 0
        from mixer.storage import open_corpus

        self._sizes = {name: open_corpus(root / name).shard_sizes for name in NAMES}
        self._digests = {name: digest(source_rows(name)) for name in NAMES}
        self._shared_before = shared_memory()
        self._begin_run()

    def _begin_run(self) -> None:
        self.state: dict[str, Any] | None = None
        self.ledger = self._job(0).base()
        self.frontier, self.next_step = LEAD, 0

    def _job(self, num_workers: int) -> Job:
        return Job(
            corpora=self.corpora, limit=LIMIT, schedule=SCHEDULE, num_steps=NUM_STEPS,
            environment=self.environment, num_workers=num_workers, state=self.state,
        )  # fmt: skip

    def until(self, num_kills: int) -> None:
        while self.kills < num_kills:
            ranks = Ranks(self._job(self.chance.choice([0, 1, 2, 3])), self.chance.choice([1, 2, 2, 2, 4]))
            deadline = time.monotonic() + self.chance.uniform(0, 2.5)
            if self._go_on(ranks, deadline):
                assert ranks.wait() == [0] * len(ranks._processes)
                self.runs += 1
                self._check_nothing_is_left()
                self._begin_run()
                if self.chance.random() < 0.3:
                    for folder, _ in self.corpora.values():
                        shutil.rmtree(folder)

    def _go_on(self, ranks: Ranks, deadline: float) -> bool:
        """Until the run's end (True), or until somebody is killed."""
        ranks.tell(self.ledger.revisions, self.frontier)
        while True:
            if time.monotonic() > deadline:
                self._kill(ranks)
                return False
            answer = ranks.step()
            assert answer is not None, f"a rank ended by itself: exit code {ranks.end()}"
            step, digests, state = answer
            assert digests == self._expected(step)
            assert self._cached() <= LIMIT
            self.steps += 1
            if (step + 1) % SAVE_EVERY == 0:
                self.state = state
            self._edit()
            self.frontier = max(self.frontier, min(step + 1 + LEAD, NUM_STEPS))
            if step + 1 == NUM_STEPS:
                ranks.tell((), self.frontier)
                return True
            ranks.tell(self.ledger.revisions, self.frontier)

    def _expected(self, step: int) -> list[str]:
        plan = Plan(self.ledger.schedule, self._sizes, data_seed=SEED, shuffle_window=WINDOW)
        batch = plan.batch(step)
        assert len(batch.corpus) == BATCH
        pairs = zip(batch.corpus.tolist(), batch.sample_id.tolist(), strict=True)
        return [self._digests[plan.names[corpus]][sample] for corpus, sample in pairs]

    def _edit(self) -> None:
        """Now and then another mixture from the frontier on, which the last checkpoint cannot know."""
        if self.chance.random() > 0.05 or self.frontier >= NUM_STEPS:
            return
        share = round(self.chance.uniform(0.1, 0.9), 3)
        mixture = {"c4": 1 - share, self.chance.choice(["code", "math"]): share}
        self.ledger: Ledger = self.ledger.propose(
            {"mixture": mixture}, parent=self.ledger.in_force, effective_step=self.frontier,
            frontier=self.frontier, author="test", reason="a test", time="2026-01-01T00:00:00Z",
        )  # fmt: skip

    def _kill(self, ranks: Ranks) -> None:
        """One rank, one worker, or all at once; then what is left of the run ends, as a launcher would have it."""
        family = ranks.family()
        kind = self.chance.choice(["rank", "worker", "all"])
        workers = [process for process in family if process.ppid() in {one.pid for one in family}]
        chosen = workers if kind == "worker" and workers else family
        for victim in chosen if kind == "all" else [self.chance.choice(chosen)] if chosen else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        ranks.end()
        self.kills += 1
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive, f"{alive} outlived the kill of a {kind}"
        self._check_nothing_is_left(fetching=True)

    def _check_nothing_is_left(self, *, fetching: bool = False) -> None:
        """No shared memory, every lock free; half-fetched files only until somebody begins again."""
        assert shared_memory() <= self._shared_before
        for folder, _ in self.corpora.values():
            if folder.exists():
                locks = Locks(folder)
                for number in range(24):
                    with locks.trying(number) as is_free:
                        assert is_free, f"lock {number} of {folder} is held by nobody alive"
                assert fetching or not list(folder.glob(".fetch/*"))
        assert self._cached() <= LIMIT

    def _cached(self) -> int:
        """Bytes of the copies that are there, and of what is arriving."""
        total = 0
        for folder, _ in self.corpora.values():
            for path in [*folder.glob("*.mds"), *folder.glob(".fetch/*/*")]:
                with contextlib.suppress(FileNotFoundError):
                    total += path.stat().st_size if ".json" not in path.parent.name else 0
        return total


def test_reading_survives_kills(remote: tuple[dict[str, str], dict[str, str], Path], tmp_path: Path) -> None:
    campaign = Campaign(remote, tmp_path, seed=1)
    campaign.until(8)
    assert campaign.steps > 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_reading_survives_two_hundred_kills(
    remote: tuple[dict[str, str], dict[str, str], Path], tmp_path: Path
) -> None:
    begin = time.monotonic()
    campaign = Campaign(remote, tmp_path, seed=2)
    for num_kills in range(20, 201, 20):
        campaign.until(num_kills)
        print(
            f"\n{campaign.kills} kills, {campaign.runs} runs came to their end, {campaign.steps} steps compared, "
            f"{time.monotonic() - begin:.0f} s"
        )
