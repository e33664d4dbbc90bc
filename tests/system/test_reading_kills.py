"""Reading from object storage through kills: ranks and their workers, one small cache, SIGKILL at random moments.

Whatever is killed, the next start goes on from the last checkpoint with exactly the planned samples in their slots, on
other ranks and workers, and of the dead nothing is left: no process, no shared memory, no temporary file, no lock,
nothing half fetched when somebody has begun again. The mixture is edited on the way, also after the last checkpoint.

Meanwhile somebody watches the cache: at no moment has it more bytes of shards, those that are arriving included, than
its limit allows; and what was removed from it does not stay mapped. What is killed, when, and what is edited at which
step depends on the seed alone, which is printed; what these moments find under way is the machine's.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mixer import Plan
from mixer.storage import open_corpus
from mixer.storage.cache import Cache
from mixer.storage.locks import ROOM_LOCK, Locks
from tests.mds import write_manifest, write_shards
from tests.s3 import s3_server, upload
from tests.system.reading_ranks import BATCH, SEED, SEQ_LEN, WINDOW, EndedError, Job, Ranks, Step, digest, living

NAMES = ("c4", "code", "math")
NUM_ROWS, ROWS_A_SHARD = 600, 30
NUM_STEPS, SAVE_EVERY, LEAD = 80, 3, 14  # LEAD: more than any loader of these fetches ahead
LIMIT = 64_000  # bytes: less than twenty of the 60 shards; some 16 can be in use at once
SCHEDULE = {
    "phases": [
        {"start": 0, "mixture": {"c4": 1.0}},
        {"start": 8, "mixture": {"c4": 0.6, "code": 0.4}, "ramp": {"shape": "linear", "length": 4}},
    ]
}
KNOWN = {"index.json", "corpus.json", ".lock", ".needs.npy", ".needs.npy.new", ".verified", ".fetch"}  # beside shards
PATIENCE_S = 120

Remote = tuple[dict[str, str], dict[str, str], Path]


def source_rows(name: str) -> np.ndarray:
    """Row i is its corpus, i, and what belongs to it alone."""
    rows = np.random.default_rng(NAMES.index(name)).integers(0, 2**16, (NUM_ROWS, SEQ_LEN), dtype=np.uint16)
    rows[:, 0], rows[:, 1] = NAMES.index(name), np.arange(NUM_ROWS)
    return rows


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """The environment of an S3 server, the addresses of the corpora on it, and the folder they came from."""
    root = tmp_path_factory.mktemp("remote")
    for name in NAMES:
        compression = "zstd:3" if name == "code" else None
        write_shards(root / name, source_rows(name), rows_a_shard=ROWS_A_SHARD, compression=compression)
    write_manifest(root / "c4")
    with s3_server() as environment:
        yield environment, {name: upload(environment, root / name, name) for name in NAMES}, root


class Watcher:
    """Looks at the cache all the time, from a thread: `most` bytes of shards at any moment, in `looks` looks.

    What counts are the shards under their names, and all that is in `.fetch` for one. A look that files came or went
    during is none. Of the process groups `mapping`, also at what they have mapped: `removed` mappings of files that
    were removed, the `longest` for so many seconds.
    """

    def __init__(self, folders: list[Path], *, mapping: list[int] | None = None) -> None:
        self.most, self.looks, self.longest, self.removed = 0, 0, 0.0, 0
        self._folders, self._groups, self._since = folders, mapping, dict[tuple[int, str], float]()
        self._ended, self._thread = threading.Event(), threading.Thread(target=self._watch)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            sizes = self._sizes()
            if sizes.keys() == self._sizes().keys():  # files only grow: so much was there when the first look had ended
                self.looks += 1
                self.most = max(self.most, sum(sizes.values()))
            if self._groups:
                self._look_at_mappings(self._groups)

    def _sizes(self) -> dict[tuple[str, int], int]:
        """(path, inode) → bytes."""
        found = {}
        for folder in self._folders:
            fetching = [entry for entry in entries_in(f"{folder}/.fetch") if entry.name.endswith(".mds")]
            for entry in [*entries_in(folder), *(file for one in fetching for file in entries_in(one))]:
                with contextlib.suppress(FileNotFoundError):
                    if ".mds" in entry.name:
                        found[entry.path, entry.inode()] = os.stat(entry.path).st_size  # noqa: PTH116
        return found

    def _look_at_mappings(self, groups: list[int]) -> None:
        now, mapped = time.monotonic(), set[tuple[int, str]]()
        for process in living(groups):
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
                mapped |= {(process.pid, line) for line in lines if line.endswith(".mds (deleted)")}
        self.removed += len(mapped - self._since.keys())
        self._since = {one: self._since.get(one, now) for one in mapped}
        self.longest = max([self.longest, *(now - since for since in self._since.values())])


class Campaign:
    """Runs one after the other over one cache, each killed again and again until it comes to its end."""

    def __init__(self, remote: Remote, folder: Path, seed: int) -> None:
        print(f"\nseed {seed}")
        self.environment, addresses, root = remote
        self.corpora = {name: (folder / name, address) for name, address in addresses.items()}
        self.folders = [folder / name for name in NAMES]
        self.seed, self.chance, self.kills = seed, random.Random(seed), Counter[str]()
        self.steps = self.runs = self.edited_since = self.looks = self.most = 0
        self._temporary, self._saved = folder / "temporary", folder / "state.json"
        self._temporary.mkdir()
        self._stored = {name: open_corpus(root / name) for name in NAMES}
        self._digests = {name: digest(source_rows(name)) for name in NAMES}
        self._segments = set(Path("/dev/shm").iterdir())
        self._begin_run()

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({kinds}), {self.runs} runs came to their end, {self.steps} steps compared, "
            f"{self.edited_since} starts from before the newest revision; at most {self.most} of {LIMIT} bytes in the "
            f"cache, in {self.looks} looks"
        )

    def until(self, num_kills: int) -> None:
        """So many kills, and then to the end of the run."""
        with Watcher(self.folders) as watcher:
            while (more := self.kills.total() < num_kills) or self._furthest >= 0:
                self._live(kill=more)
                assert watcher.most <= LIMIT, f"there were {watcher.most} bytes in the cache"
        self.looks, self.most = self.looks + watcher.looks, max(self.most, watcher.most)
        for folder in self.folders:
            if not (folder / "index.json").exists():  # whoever began to make it was killed
                continue
            Cache([open_corpus(folder)])
            assert not list(folder.glob(".fetch/*"))
        self._check_nothing_is_left()

    def start(self, *, num_ranks: int, num_workers: int, num_steps: int = NUM_STEPS) -> Ranks:
        """A start from the last checkpoint, told what was decided until now."""
        state = json.loads(self._saved.read_text()) if self._saved.exists() else None
        ranks = Ranks(self._job(num_workers, num_steps, state), num_ranks)
        ranks.tell(self.ledger.revisions, self._frontier)
        return ranks

    def _begin_run(self) -> None:
        self._saved.unlink(missing_ok=True)
        self._frontier, self._furthest = LEAD, -1
        self.ledger, self._num_saved = self._job(0, NUM_STEPS, None).base(), 0

    def _job(self, num_workers: int, num_steps: int, state: dict | None) -> Job:
        return Job(
            corpora=self.corpora, limit=LIMIT, schedule=SCHEDULE, num_steps=num_steps, environment=self.environment,
            num_workers=num_workers, state=state, temporary=self._temporary,
        )  # fmt: skip

    def _live(self, *, kill: bool) -> None:
        """One start, to the end of the run or to a kill: while it begins, or while it reads."""
        is_early, kind = self.chance.random() < 0.25, self.chance.choice(["rank", "worker", "ranks", "all"])
        after = self.chance.uniform(0, 1)
        self.edited_since += self.ledger.number > self._num_saved
        ranks = self.start(num_workers=self.chance.choice([0, 1, 2, 3]), num_ranks=self.chance.choice([1, 2, 2, 2, 4]))
        deadline = time.monotonic() + after if kill and is_early else None
        while step := self._step_of(ranks, deadline or time.monotonic() + PATIENCE_S):
            self._check(step)
            if step.number + 1 == NUM_STEPS:
                ranks.tell((), self._frontier)
                assert ranks.wait() == [0] * len(ranks.pids)
                self._end_run(ranks)
                return
            ranks.tell(self.ledger.revisions, self._frontier)
            if kill and deadline is None:
                self._check_nothing_is_half_fetched()
                deadline = time.monotonic() + after
        assert deadline, f"no step in {PATIENCE_S} s"
        self._kill(ranks, kind)

    def _step_of(self, ranks: Ranks, deadline: float) -> Step | None:
        try:
            return ranks.step(deadline)
        except EndedError as error:
            raise AssertionError(f"a rank ended by itself: exit codes {ranks.end()}, {error}") from None

    def _end_run(self, ranks: Ranks) -> None:
        self._await_the_end_of(ranks, "nobody")
        self._check_nothing_is_left()
        self.runs += 1
        self._begin_run()
        if self.chance.random() < 0.3:
            for folder in self.folders:
                shutil.rmtree(folder)

    def _check(self, step: Step) -> None:
        """That it is as planned; then the checkpoint, where one is due, and what is decided after this step."""
        assert step.digests == self._expected(step.number), f"step {step.number}"
        self.steps += 1
        if (step.number + 1) % SAVE_EVERY == 0:
            self._saved.with_suffix(".new").write_text(json.dumps(step.state))
            self._saved.with_suffix(".new").replace(self._saved)
            self._num_saved = self.ledger.number
        if step.number > self._furthest:
            self._furthest = step.number
            self._edit(random.Random(f"{self.seed} {self.runs} {step.number}"))
            self._frontier = max(self._frontier, min(step.number + 1 + LEAD, NUM_STEPS))

    def _expected(self, step: int) -> list[str]:
        """From the plan and the source alone."""
        sizes = {name: corpus.shard_sizes for name, corpus in self._stored.items()}
        plan = Plan(self.ledger.schedule, sizes, data_seed=SEED, shuffle_window=WINDOW)
        batch = plan.batch(step)
        assert len(batch.corpus) == BATCH
        pairs = zip(batch.corpus.tolist(), batch.sample_id.tolist(), strict=True)
        return [self._digests[plan.names[corpus]][sample] for corpus, sample in pairs]

    def _edit(self, chance: random.Random) -> None:
        """Now and then another mixture from the frontier on, which the last checkpoint cannot know."""
        if chance.random() > 0.1 or self._frontier >= NUM_STEPS:
            return
        share = round(chance.uniform(0.1, 0.9), 3)
        self.ledger = self.ledger.propose(
            {"mixture": {"c4": 1 - share, chance.choice(["code", "math"]): share}}, parent=self.ledger.in_force,
            effective_step=self._frontier, frontier=self._frontier, author="test", reason="a test",
            time="2026-01-01T00:00:00Z",
        )  # fmt: skip

    def _kill(self, ranks: Ranks, kind: str) -> None:
        """One rank, one worker, all ranks, or all; then what is left of the run ends, as a launcher would have it."""
        workers = sorted(process.pid for process in ranks.workers())
        kind = kind if workers or kind != "worker" else "rank"
        one = [self.chance.choice(workers if kind == "worker" else ranks.pids)]
        for pid in {"rank": one, "worker": one, "ranks": ranks.pids, "all": [*workers, *ranks.pids]}[kind]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if kind == "worker":
            with contextlib.suppress(EndedError):
                while ranks.step(time.monotonic() + PATIENCE_S):
                    pass
                raise AssertionError("a rank did not end when its worker was killed")
        ranks.end()
        self.kills[kind] += 1
        self._await_the_end_of(ranks, f"a {kind}")
        self._check_nothing_is_left()

    def _await_the_end_of(self, ranks: Ranks, who: str) -> None:
        end = time.monotonic() + 10
        while alive := living(ranks.pids):
            assert time.monotonic() < end, f"{alive} outlived the kill of {who}"
            time.sleep(0.01)

    def _check_nothing_is_left(self) -> None:
        """No shared memory, no temporary file, no file of unknown use, and every lock is free."""
        assert not list(self._temporary.iterdir())
        assert not (left := orphans(set(Path("/dev/shm").iterdir()) - self._segments)), left
        for (name, corpus), folder in zip(self._stored.items(), self.folders, strict=True):
            if not folder.exists():
                continue
            found = {path.name for path in folder.iterdir()}
            assert not (unknown := found - KNOWN - set(corpus.shard_names)), f"{unknown} of {name}"
            locks = Locks(folder)
            for number in [*range(len(corpus.shard_names) + 1), ROOM_LOCK]:
                with locks.trying(number) as is_free:
                    assert is_free, f"lock {number} of {folder} is held by nobody alive"

    def _check_nothing_is_half_fetched(self) -> None:
        """By those who died before this start: nobody holds the lock of what they had begun."""
        for name, folder in zip(NAMES, self.folders, strict=True):
            for path in folder.glob(".fetch/*.mds"):
                with Locks(folder).trying(self._stored[name].shard_names.index(path.name) + 1) as is_free:
                    assert not (is_free and path.exists()), f"{path} was left behind"


def entries_in(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def orphans(paths: set[Path]) -> set[Path]:
    """Those that no process has mapped or open."""
    for process in Path("/proc").glob("[0-9]*") if paths else []:
        with contextlib.suppress(OSError):
            used = (process / "maps").read_text() + " ".join(str(fd.readlink()) for fd in (process / "fd").iterdir())
            paths = {path for path in paths if str(path) not in used}
    return {path for path in paths if path.exists()}


def test_reading_survives_kills(remote: Remote, tmp_path: Path) -> None:
    campaign = Campaign(remote, tmp_path, seed=1)
    campaign.until(6)
    assert campaign.steps > 0
    assert campaign.looks > 0


def watch_mappings(remote: Remote, folder: Path, seconds: float) -> Watcher:
    """Of two ranks that read on and on."""
    campaign = Campaign(remote, folder, seed=0)
    campaign._frontier = num_steps = 100_000
    ranks = campaign.start(num_ranks=2, num_workers=2, num_steps=num_steps)
    end = time.monotonic() + PATIENCE_S
    with Watcher(campaign.folders, mapping=ranks.pids) as watcher:
        while step := campaign._step_of(ranks, end):
            ranks.tell((), num_steps)
            end = min(end, time.monotonic() + seconds) if step.number == 0 else end
    ranks.end()
    assert watcher.most <= LIMIT
    return watcher


def test_what_was_removed_does_not_stay_mapped(remote: Remote, tmp_path: Path) -> None:
    for seconds in (3, 12, 48):  # on a loaded machine it takes longer until something is removed
        (tmp_path / str(seconds)).mkdir()
        watcher = watch_mappings(remote, tmp_path / str(seconds), seconds)
        if watcher.removed:
            break
    assert watcher.removed > 0
    assert watcher.longest < 2, "a reader looks every second what was removed, at its next batch"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_reading_survives_two_hundred_kills(remote: Remote, tmp_path: Path) -> None:
    begin, campaign = time.monotonic(), Campaign(remote, tmp_path, seed=2)
    for num_kills in range(20, 201, 20):
        campaign.until(num_kills)
        print(f"{campaign}; {time.monotonic() - begin:.0f} s")
    assert campaign.edited_since > 0
