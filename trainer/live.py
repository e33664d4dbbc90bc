"""The live schedule: rank 0 speaks to the service, all ranks take over what it says at the same step.

At the start and then every `sync_interval` steps rank 0 reports progress and asks to freeze the schedule below
`step + lead`. The answer, new revisions and the frontier, is broadcast, so every rank changes its plan between the
same two steps; ranks never poll. Samples are handed out only below the frontier, so no revision can reach a step
that a loader worker has already begun to fetch.

The service is control plane only. If it is away, training goes on under the last known revision: the frontier moves
on by itself, the checkpoint keeps it, and on reconnection `decided_through` tells the service which steps are
settled; an edit that came too late is marked superseded there and never reaches the plan here.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from composer import Callback, Logger, State
from composer.utils import dist

from mixer.proposing import Edit
from trainer.config import ServiceConfig
from trainer.errors import ServiceError
from trainer.feed import Feed

log = logging.getLogger(__name__)

Report = Callable[[], tuple[Mapping[str, float], Mapping[str, int]]]  # metrics by name, samples read by corpus


class Client:
    """The service as rank 0 sees it: one run, made or joined on first contact.

    `definition` is the body of `POST /v1/runs`. While the service is away (no connection, time-out, 5xx) an attempt
    is made only after ten times the time that the last one took, so waiting costs a run a tenth at most.
    """

    def __init__(self, config: ServiceConfig, definition: Mapping[str, Any]) -> None:
        headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
        self._http = httpx.Client(base_url=config.url, headers=headers, timeout=config.timeout)
        self._definition = definition
        self._run_id = config.run_id
        self._joined = False
        self._away = False
        self._not_before = 0.0

    def exchange(self, report: Mapping[str, Any]) -> dict[str, Any] | None:
        """Report progress; the answer {"frontier": int, "revisions": [...]}, or None while the service is away.

        Raises ServiceError when the service refuses this run on first contact; later refusals count as away.
        """
        begin = time.monotonic()
        if begin < self._not_before:
            return None
        try:
            if not self._joined:
                self._join()
            answer = self._call("POST", f"/v1/runs/{self._run_id}/progress", json=report)
        except (httpx.TransportError, _Refused) as error:
            if isinstance(error, _Refused) and not self._joined and error.status < 500:
                raise ServiceError(f"the service at {self._http.base_url} refuses this run: {error}") from None
            self._not_before = time.monotonic() + 10 * (time.monotonic() - begin)
            if not self._away:
                log.warning("the service is away (%s): going on under the last known revision", error or repr(error))
            self._away = True
            return None
        if self._away:
            log.info("the service is back; steps below %d were decided meanwhile", report["decided_through"])
        self._away = False
        return answer

    def propose(self, edit: Edit) -> None:
        """Ask for a revision; it comes back with the next answer. One that is refused, or cannot be sent, is left."""
        if self._away or not self._joined:
            return
        body = {"parent": edit.parent, "effective_step": edit.effective_step, **edit.change}
        try:
            self._call(
                "POST",
                f"/v1/runs/{self._run_id}/revisions",
                json={**body, "author": edit.author, "reason": edit.reason},
            )
        except (httpx.TransportError, _Refused) as error:
            log.info("a proposed mixture was not taken: %s", error or repr(error))

    def _join(self) -> None:
        """Find the run by the given id, or make it; a run of this name that is the same is joined."""
        if self._run_id is None:
            self._run_id = self._call("POST", "/v1/runs", json=self._definition)["id"]
        self._joined = True

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        response = self._http.request(method, path, **arguments)
        if response.is_success:
            return response.json()
        try:
            problem = response.json()
            detail = problem.get("detail") or problem.get("title")
        except ValueError:
            detail = response.text[:200]
        raise _Refused(response.status_code, detail)


class _Refused(Exception):
    """An answer that is not a success; `status` is the HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(f"HTTP {status}: {detail}")


class Live(Callback):
    """Keeps the feed's ledger and frontier in step with the service; `client` is None on all ranks but 0."""

    def __init__(self, feed: Feed, *, client: Client | None, config: ServiceConfig, report: Report) -> None:
        self._feed = feed
        self._client = client
        self._config = config
        self._report = report

    def fit_start(self, state: State, logger: Logger) -> None:
        self._synchronise(int(state.timestamp.batch))

    def batch_end(self, state: State, logger: Logger) -> None:
        step = int(state.timestamp.batch)
        if step % self._config.sync_interval == 0 or step == self._feed.num_steps:
            self._synchronise(step)

    def _synchronise(self, step: int) -> None:
        """One report and one answer, the same for every rank; without an answer the frontier moves on by itself."""
        wanted = min(step + self._config.lead, self._feed.num_steps)
        message: list[Any] = [None]
        if self._client is not None:
            try:
                message = [self._client.exchange(self._body(step, wanted))]
            except ServiceError as error:
                message = [error]
        dist.broadcast_object_list(message)
        answer = message[0]
        if isinstance(answer, ServiceError):
            raise answer
        if answer is None:
            answer = {"revisions": [], "frontier": wanted}
        self._feed.follow(answer["revisions"], answer["frontier"])

    def _body(self, step: int, wanted: int) -> dict[str, Any]:
        metrics, counts = self._report()
        ledger = self._feed.ledger
        return {
            "step": step,
            "freeze_through": wanted,
            "known_revision": ledger.number,
            "superseded": list(ledger.superseded),
            "decided_through": max(step, self._feed.frontier),
            "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
            "counts": counts,
        }
