"""Calls that wait at the same time are done together: one transaction, and one sync of the disk, for all of them.

While a batch is at work in its thread, and for a moment after it, the next one gathers; so a service at rest answers at
once, and a busy one syncs once for many. A caller has its answer only when the work that holds it is done.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Batches"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batches(Generic[Item, Answer]):
    """Awaitable for one item, done by `work` for many: a list of items in, an answer or an error for each out.

    No batch has two items of the same `key`: the second is for the next, when what the first changed is known. A batch
    begins `pause_s` after the one before it has ended, or later. What `work` itself raises is raised by every call of
    the batch. For one event loop; `close` when that has ended.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Answer | Exception]],
        *,
        key: Callable[[Item], object],
        max_size: int,
        pause_s: float = 0.0,
    ) -> None:
        self._work = work
        self._key = key
        self._max_size = max_size
        self._pause_s = pause_s
        self._not_before = 0.0
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")

    async def __call__(self, item: Item) -> Answer:
        """The answer for `item`; raises its error."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = loop.create_task(self._run())
        return await future

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                if (pause := self._not_before - loop.time()) > 0:
                    await asyncio.sleep(pause)
                batch = self._take()
                try:
                    answers = await loop.run_in_executor(self._thread, self._work, [item for item, _ in batch])
                except Exception as error:
                    answers = [error] * len(batch)
                self._not_before = loop.time() + self._pause_s
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future.cancelled():  # its caller has gone
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._task = None

    def _take(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        taken: list[tuple[Item, asyncio.Future[Answer]]] = []
        left: list[tuple[Item, asyncio.Future[Answer]]] = []
        keys: set[object] = set()
        for waiting in self._waiting:
            key = self._key(waiting[0])
            if len(taken) < self._max_size and key not in keys:
                taken.append(waiting)
            else:
                left.append(waiting)
            keys.add(key)
        self._waiting = left
        return taken
