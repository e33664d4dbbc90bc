"""Making shards ready before they are needed: in the background, exactly those that the plan will read.

Runs in a rank's main process, beside training; its threads spend their time waiting for the network or hashing. What it
cannot get it leaves: whoever needs the shard fetches it then, and says what is wrong.
"""

import contextlib
import logging
import threading
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from mixer.errors import MixerError
from mixer.plan import Plan
from mixer.reading import Reading
from mixer.storage.cache import Cache
from mixer.storage.upcoming import Upcoming, shares_of

PAUSE_S = 1.0  # after which what failed, or found no room, is tried again

_log = logging.getLogger(__name__)


class _View(NamedTuple):
    """What is known to come, under a plan and from one of its stretches on: with another one it is looked up anew."""

    plan: Plan
    stretch: int
    upcoming: Upcoming


class FetchAhead:
    """Keeps ready what the next `num_steps` steps of `reading` need.

    Args:
        cache: of the corpora in the order of `names`, by which the plan knows them.
        num_in_flight: steps that may be read still when a later one is handed out: nothing that these use is removed.
        num_threads: how many shards are made ready at the same time.
        ranks: those of the `num_ranks` that share the cache; with node groups, only what these read is fetched.
    """

    def __init__(
        self,
        cache: Cache,
        reading: Reading,
        names: Sequence[str],
        *,
        num_steps: int,
        num_in_flight: int = 8,
        num_threads: int = 4,
        ranks: range = range(1),
        num_ranks: int = 1,
    ) -> None:
        self._cache, self._reading = cache, reading
        self._firsts = dict(zip(names, cache.shelf.firsts, strict=False))
        self._num_steps, self._num_in_flight, self._num_threads = num_steps, num_in_flight, num_threads
        self._publish_every = max(1, num_in_flight // 2)  # steps
        self._ranks, self._num_ranks = ranks, num_ranks
        self._step, self._wake_at = 0, 0
        self._moved, self._ended, self._looking = threading.Event(), threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._fetching: dict[int, threading.Thread] = {}
        self._view: _View | None = None
        self._published: tuple[Upcoming, int, int] | None = None
        shelf = cache.shelf
        smallest = max(1, min(map(shelf.num_bytes, range(shelf.num_shards))))
        self._num_kept = 2 * (cache.budget.limit or 0) // smallest  # no more shards than these matter to what is kept

    def advance(self, step: int) -> None:
        """`step` is handed out now. The first call begins the work: by then a loader's workers have been forked."""
        self._step = step
        if self._cache.budget.limit is not None:  # told before anybody reads the step, or makes room for what it reads
            with self._looking, contextlib.suppress(MixerError):
                self._publish(self._look(self._reading.plan, step), step)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="fetch-ahead", daemon=True)
            self._thread.start()
        elif step >= self._wake_at:
            self._moved.set()

    def close(self) -> None:
        """Begin nothing more. What is being fetched ends with the process."""
        self._ended.set()
        self._moved.set()

    def _work(self) -> None:
        while not self._ended.is_set():
            try:
                is_behind = self._begin_fetching()
            except MixerError as error:  # of the plan, say: whoever needs a shard will be told
                _log.info("not fetching ahead: %s", error)
                is_behind = True
            self._moved.wait(PAUSE_S if is_behind else None)
            self._moved.clear()

    def _begin_fetching(self) -> bool:
        """Begin with what is missing, the first needed first; whether anything still is."""
        step = self._step
        with self._looking:
            upcoming = self._look(self._reading.plan, step)
            upcoming.pass_by(step - self._num_in_flight)
            uses = upcoming.until(step + self._num_steps)
            self._publish(upcoming, step)
            next_start = upcoming.next_start
        is_behind = False
        needed = ((shard, use.start) for use in uses for shard in use.shards.tolist())
        for shard, start in needed:
            if not self._cache.is_ready(shard):
                is_behind = True
                if not self._begin(shard, max(start, step + self._publish_every)):
                    break  # nothing that is needed later goes before it
        self._wake_at = min(next_start - self._num_steps, step + self._publish_every)
        return is_behind

    def _begin(self, shard: int, needed_at: int) -> bool:
        """Whether the shard is being fetched now; False: there is no thread free for it."""
        if shard in self._fetching:
            return True
        if len(self._fetching) >= self._num_threads:
            return False
        thread = threading.Thread(target=self._fetch, args=(shard, needed_at), daemon=True)
        self._fetching[shard] = thread
        thread.start()
        return True

    def _fetch(self, shard: int, needed_at: int) -> None:
        done = False
        try:
            done = self._cache.prepare(shard, needed_at=needed_at)
        except MixerError as error:
            _log.info("not fetched ahead: %s", error)
        finally:
            del self._fetching[shard]
            if done:
                self._moved.set()  # there is a thread free for the next

    def _look(self, plan: Plan, step: int) -> Upcoming:
        stretch = bisect_right(plan.stretch_starts, step)
        if self._view is None or self._view.plan is not plan or self._view.stretch != stretch:
            start = max(step - self._num_in_flight, self._reading.next_step)
            shares = shares_of(plan, self._ranks, self._num_ranks)
            self._view = _View(plan, stretch, Upcoming(shares, start, self._firsts))
        return self._view.upcoming

    def _publish(self, upcoming: Upcoming, step: int) -> None:
        """Tell all processes of this machine when each shard is needed, where room is limited and this has changed."""
        budget, num_known = self._cache.budget, upcoming.num_known
        before = self._published
        if budget.limit is None or (
            before is not None and before[0] is upcoming and before[1] == num_known
            and step < before[2] + self._publish_every
        ):  # fmt: skip
            return
        num_shards = self._cache.shelf.num_shards
        keep_until = step + self._publish_every  # by then it is told again
        budget.publish(upcoming.needs(num_shards, num_ahead=self._num_kept, keep_until=keep_until))
        self._published = upcoming, num_known, step
