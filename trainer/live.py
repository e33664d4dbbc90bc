"""The live schedule: rank 0 speaks to the service, all ranks take over what it says at the same step.

At the start and then every `sync_interval` steps rank 0 reports progress and asks to freeze the schedule below
`step + lead`. The answer, new revisions and the frontier, is broadcast, so every rank changes its plan between the
same two steps; ranks never poll. Samples are handed out only below the frontier, so no revision can reach a step
that a loader worker has already begun to fetch.

The service is control plane only. If it is away, training goes on under the last known revision: the frontier moves
on by itself, the checkpoint keeps it, and on reconnection `decided_through` tells the service which steps are
settled; an edit that came too late is marked superseded there and never reaches the plan here.

One trainer has a run: it claims it on first contact. A trainer that was started again claims it anew, under the same
name, and from then on what still runs of its predecessor is refused. Who is refused so ends, on all ranks.
"""

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from composer import Callback, Logger, State
from composer.utils import dist

from mixer.proposing import Edit
from service.client import Client, ProblemError, backoff_s
from trainer.config import Config, ServiceConfig
from trainer.errors import ServiceError
from trainer.feed import Feed
from trainer.position import Position

log = logging.getLogger(__name__)

LONGEST_NAME = 200  # characters of a trainer's name
LONGEST_GOODBYE_S = 30.0  # that a run which is over tries to tell so, a tenth of its time at most

Report = Callable[[], tuple[Mapping[str, float], Mapping[str, int]]]  # metrics by name, samples read by corpus


def trainer_name(config: Config) -> str:
    """Who claims the run: its save folder, the same after a restart on any machine; without one, this process alone."""
    if config.save_folder is None:
        return f"{socket.gethostname()}:{os.getpid()}"
    place = config.save_folder
    folder = place if isinstance(place, str) else str(place.resolve())
    if len(folder) <= LONGEST_NAME and folder.isprintable():
        return folder
    return f"{blake2b(folder.encode(), digest_size=8).hexdigest()} {folder.rpartition('/')[2][:100]!a}"


class Link:
    """The service as rank 0 sees it: one run, made or joined, and claimed by `trainer`, on first contact.

    `definition` is the body of `POST /v1/runs`. While the service is away (no connection, time-out, 5xx) an attempt is
    made only after ten times the time that the last one took, so waiting costs a run a tenth at most; and not before a
    random time that is drawn from a range twice as long after each failure, so that many trainers do not come at once.
    """

    def __init__(self, config: ServiceConfig, definition: Mapping[str, Any], *, trainer: str) -> None:
        self._service = Client(config.url, token=config.token, timeout_s=config.timeout, attempts=1)
        self._definition = definition
        self._run_id = config.run_id
        self._trainer = trainer
        self._take_over = config.take_over
        self._claim: int | None = None
        self._in_contact = False  # a report was taken since this process began
        self._failures = 0
        self._not_before = 0.0
        self._begun = time.monotonic()

    def exchange(self, report: Mapping[str, Any]) -> dict[str, Any] | None:
        """Report progress; the answer {"frontier": int, "revisions": [...]}, or None while the service is away.

        Raises ServiceError when the service refuses this run on first contact, and when another trainer has it. Other
        refusals count as away: what has been trained is not thrown away for them.
        """
        begin = time.monotonic()
        if begin < self._not_before:
            return None
        try:
            self._join(report["step"])
            answer = self._service.report_progress(self._run_id or "", {**report, "claim": self._claim})
        except ProblemError as problem:
            self._failed(problem, time.monotonic() - begin)
            return None
        if self._failures:
            log.info("the service is back; steps below %d were decided meanwhile", report["decided_through"])
        self._in_contact, self._failures, self._not_before = True, 0, 0.0
        return {
            "frontier": answer.frontier,
            "revisions": [revision.model_dump() for revision in answer.revisions],
        }

    def say_goodbye(self, report: Mapping[str, Any]) -> dict[str, Any] | None:
        """`exchange` for a run that is over: there is no later report, so it is tried for a while, waiting or not."""
        end = time.monotonic() + min(LONGEST_GOODBYE_S, (time.monotonic() - self._begun) / 10)
        while True:
            self._not_before = 0.0
            answer = self.exchange(report)
            if answer is not None or time.monotonic() >= end:
                break
            time.sleep(min(backoff_s(self._failures), max(0.0, end - time.monotonic())))
        if answer is None:
            log.warning("the service has not heard of the end of this run: its record ends with the last report")
        return answer

    def propose(self, edit: Edit) -> None:
        """Ask for a revision; it comes back with the next answer. One that is refused, or cannot be sent, is left."""
        if self._failures or not self._in_contact:
            return
        body = {"parent": edit.parent, "effective_step": edit.effective_step, **edit.change}
        try:
            self._service.create_revision(self._run_id or "", {**body, "author": edit.author, "reason": edit.reason})
        except ProblemError as problem:
            log.info("a proposed mixture was not taken: %s", problem)

    def _join(self, step: int) -> None:
        """Find the run by the given id, or make it (a run of this name that is the same is joined), and claim it."""
        if self._run_id is None:
            self._run_id = self._service.create_run(self._definition).id
        if self._claim is None:
            claim = {"trainer": self._trainer, "step": step, "take_over": self._take_over}
            self._claim = self._service.claim_run(self._run_id, claim).claim
            self._take_over = False

    def _failed(self, problem: ProblemError, spent_s: float) -> None:
        """Take a failure for an outage, or raise ServiceError where going on would be wrong."""
        holder = problem.fields.get("claim", 0)
        if problem.name == "claim-lost" and self._claim is not None and holder < self._claim:
            self._claim = None  # the service has a database from before this claim: it is made again
        elif problem.name in ("claimed", "claim-lost"):
            raise ServiceError(self._taken(problem))
        elif not self._in_contact and not problem.is_away:
            raise ServiceError(f"the service at {self._service.url} refuses this run: {problem}")
        if not self._failures:
            what = "is away" if problem.is_away else "refuses what this run reports"
            log.warning("the service %s (%s): going on under the last known revision", what, problem)
        wait = max(10 * spent_s, backoff_s(self._failures), problem.fields.get("retry_after", 0.0))
        self._not_before = time.monotonic() + wait
        self._failures += 1

    def _taken(self, problem: ProblemError) -> str:
        """That another trainer has the run, with both sides and what can be done."""
        trainer, claim, since = (problem.fields.get(name) for name in ("trainer", "claim", "since"))
        run = f"run {self._run_id} ({self._definition['name']})"
        if self._claim is None:
            return (
                f"{run} is being trained by '{trainer}' (claim {claim}, since {since}), and this is '{self._trainer}': "
                "if that one has ended for good, start once with service.take_over=true; to train beside it, give this "
                "one another run_name"
            )
        other = "another start of this trainer" if trainer == self._trainer else f"'{trainer}'"
        return (
            f"{run} was taken over by {other} (claim {claim}, since {since}); this was '{self._trainer}' (claim "
            f"{self._claim}). It ends here: what it trained since its last report is on no record"
        )


class Live(Callback):
    """Keeps the feed's ledger and frontier in step with the service; `link` is None on all ranks but 0."""

    def __init__(self, feed: Feed, *, link: Link | None, config: ServiceConfig, report: Report) -> None:
        self._feed = feed
        self._link = link
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
        position = Position(ledger=self._feed.ledger, step=step, frontier=self._feed.frontier)
        message: list[Any] = [None]
        if self._link is not None:
            try:
                message = [self._ask(self._link, position)]
            except ServiceError as error:  # every rank must end: the others would wait for ever
                message = [error]
        dist.broadcast_object_list(message)
        answer = message[0]
        if isinstance(answer, ServiceError):
            raise answer
        if answer is None:
            answer = {"revisions": [], "frontier": position.wanted(self._config.lead)}
        self._feed.follow(answer["revisions"], answer["frontier"])

    def _ask(self, link: Link, position: Position) -> dict[str, Any] | None:
        metrics, counts = self._report()
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        report = {**position.report(self._config.lead), "metrics": finite, "counts": counts}
        return link.say_goodbye(report) if position.step == self._feed.num_steps else link.exchange(report)
