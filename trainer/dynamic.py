"""Dynamic mixing in a run: the mixture follows the losses, within the guard rails, as revisions of the ledger.

Every `every` steps rank 0 tells the algorithm the mean training loss of each corpus since it was asked before. What it
proposes, and the rails let through, is broadcast: every rank takes the revision over between the same two steps. It
comes into force `lead` steps later, which no loader worker has begun to fetch, since samples are handed out only below
the frontier, and that is never farther ahead. With a live schedule the service decides: the proposal is posted there
and comes back like anybody's edit.

The run repeats from its ledger without the algorithm: `ledger.jsonl` in the save folder has every revision with its
reason, in the form that the service exports and `switchpoint-mixer` reads. It is a function of the run's state,
written anew, whole or not at all, whenever that changes; so a run that goes back to a checkpoint mends it by itself.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composer import Callback, Logger, State
from composer.utils import dist

from mixer import ORDER_VERSION, MixerError, RepetitionError
from mixer.opening import FORMAT
from mixer.proposing import Dynamic, Observation
from trainer.checkpoints.bucket import Bucket, StorageError
from trainer.checkpoints.files import publish
from trainer.checkpoints.settings import folder_of
from trainer.config import Config
from trainer.errors import CheckpointError, ResumeError
from trainer.feed import Feed
from trainer.live import Link
from trainer.models.causal_lm import CausalLM
from trainer.record import MetricsFile

log = logging.getLogger(__name__)


class CorpusLosses(Callback):
    """The mean training loss of each corpus since the last `take`, of the forward passes that train; all ranks agree.

    A corpus goes by the name under which the plan reads it at that step. Each row has as many tokens as any other, so a
    mean over rows is one over tokens. The sums are added up over the ranks at each step, so a checkpoint has them.
    """

    def __init__(self, feed: Feed, model: CausalLM) -> None:
        self._feed = feed
        self._model = model
        self._of_rows: list[torch.Tensor] = []
        self._sums: dict[str, list[float]] = {}  # corpus -> sum of the losses of its rows, number of its rows

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums = dict(state["sums"])

    def take(self) -> dict[str, float]:
        """Corpus -> mean loss in nats per token; of those that were read. Starts again."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means

    def batch_start(self, state: State, logger: Logger) -> None:
        self._of_rows = []

    def after_loss(self, state: State, logger: Logger) -> None:
        self._of_rows.append(self._model.row_losses)  # microbatches are cut from the batch in order

    def batch_end(self, state: State, logger: Logger) -> None:
        names, corpus = self._feed.names_at(int(state.timestamp.batch) - 1)
        losses = torch.cat(self._of_rows).double().cpu().numpy()
        sums = np.stack([np.bincount(corpus, weights, minlength=len(names)) for weights in (losses, None)])
        total = state.device.tensor_to_device(torch.from_numpy(sums))
        dist.all_reduce(total, reduce_operation="SUM")
        for name, loss, count in zip(names, *total.tolist(), strict=True):
            if count:
                before = self._sums.get(name, [0.0, 0])
                self._sums[name] = [before[0] + loss, before[1] + int(count)]


class DynamicMixing(Callback):
    """Asks the algorithm, and has every rank follow what becomes of its proposals. `link`: the service, on rank 0."""

    def __init__(
        self,
        config: Config,
        feed: Feed,
        losses: CorpusLosses,
        *,
        file: MetricsFile,
        definition: Mapping[str, Any],
        link: Link | None = None,
    ) -> None:
        assert config.dynamic
        self._every, self._lead = config.steps(config.dynamic.every), config.dynamic.lead
        proposer = config.dynamic.make_proposer()
        self._dynamic = Dynamic(proposer, config.rails(config.dynamic.rails), every=self._every)
        self._feed = feed
        self._losses = losses
        self._file = file
        self._link = link
        self._is_served = config.service is not None
        self._revisions: list[dict[str, Any]] = []
        self._created = _now()
        folder = folder_of(config)
        bucket = Bucket(config.save_folder) if isinstance(config.save_folder, str) else None
        self._ledger = LedgerFile(folder, definition, bucket) if folder else None

    def state_dict(self) -> dict[str, Any]:
        return {
            "dynamic": self._dynamic.state(),
            "revisions": list(self._revisions),
            "created": self._created,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        was = state["dynamic"]["proposer"]
        if was == self._dynamic.proposer.name:
            self._dynamic.restore(state["dynamic"])
        else:
            log.warning("the proposer was '%s', is '%s': it starts with no memory", was, self._dynamic.proposer.name)
        self._revisions, self._created = list(state["revisions"]), state["created"]

    def fit_start(self, state: State, logger: Logger) -> None:
        if self._is_served:
            return
        number = self._feed.ledger.number
        if number > len(self._revisions):
            raise ResumeError(
                f"the checkpoint knows of {number} revisions, and of {number - len(self._revisions)} not what they "
                "were, so this run could not be repeated from its ledger: go on as it was begun, without 'dynamic'"
            )
        del self._revisions[number:]  # those of another schedule than the one that the file now has
        self._move_on(int(state.timestamp.batch))
        self._write(int(state.timestamp.batch))

    def batch_end(self, state: State, logger: Logger) -> None:
        step = int(state.timestamp.batch)
        if not self._is_served:
            self._move_on(step)
        if step % self._every == 0:
            self._ask(step, logger)
        if step == self._feed.num_steps and not self._is_served:
            self._write(step)

    def _move_on(self, step: int) -> None:
        """Freeze the schedule below `step + lead`."""
        self._feed.follow([], step + self._lead)

    def _ask(self, step: int, logger: Logger) -> None:
        losses = self._losses.take()
        logger.log_metrics({f"loss/{name}": loss for name, loss in losses.items()})
        self._file.write({"step": step, "corpus_loss": losses})
        message: list[Any] = [None]
        if dist.get_global_rank() == 0:
            try:
                message = [self._decide(step, losses)]
            except MixerError as error:  # of an algorithm; the others would wait for ever
                message = [error]
        dist.broadcast_object_list(message)
        if isinstance(message[0], MixerError):
            raise message[0]
        if message[0] is not None:
            self._accept(step, message[0])

    def _decide(self, step: int, losses: Mapping[str, float]) -> dict[str, Any] | None:
        """The revision to be made now, if any, on rank 0; with a service, it is asked for there instead."""
        ledger = self._feed.ledger
        observation = Observation(step=step, losses=losses, samples=self._feed.drawn_before(step))
        frontier = max(self._feed.frontier, step + self._lead)
        if self._is_served:
            edit = self._dynamic.decide(ledger, observation, frontier=frontier)
            if edit and self._link:
                self._link.propose(edit)
            return None
        longer = self._dynamic.consider(ledger, observation, frontier=frontier, time=_now())
        return longer.revisions[-1].to_dict() if longer is not ledger else None

    def _accept(self, step: int, revision: dict[str, Any]) -> None:
        """Follow a revision, unless a corpus would then be read more often than its cap allows."""
        try:
            self._feed.follow([revision], self._feed.frontier)
        except RepetitionError as error:
            log.info("step %d  a proposed mixture is dropped: %s", step, error)
            return
        self._revisions.append(revision)
        self._write(step)
        log.info(
            "step %d  revision %d, from step %d: %s",
            step, revision["number"], revision["effective_step"], revision["reason"],
        )  # fmt: skip

    def _write(self, step: int) -> None:
        if self._ledger and dist.get_global_rank() == 0:
            position = {"created": self._created, "frontier": self._feed.frontier, "step": step}
            self._ledger.write(self._revisions, position)


class LedgerFile:
    """`ledger.jsonl` in `folder`, and in `bucket`: a run by its `definition` and its whole history."""

    def __init__(self, folder: Path, definition: Mapping[str, Any], bucket: Bucket | None = None) -> None:
        self._path = folder / "ledger.jsonl"
        self._bucket = bucket
        run_id = blake2b(definition["name"].encode(), digest_size=6).hexdigest()
        self._head = {"format": FORMAT, "version": 1, "id": run_id, "order_version": ORDER_VERSION}
        self._definition = definition

    def write(self, revisions: Sequence[Mapping[str, Any]], position: Mapping[str, Any]) -> None:
        """Put these in the place of what is there, whole or not at all. Raises CheckpointError."""
        lines: list[Mapping[str, Any]] = [{**self._head, **position, "definition": self._definition}]
        lines += [{"revision": {**revision, "superseded_time": None}} for revision in revisions]
        lines.append({"end": {"revisions": len(revisions), "progress": 0}})
        temporary = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            publish(temporary, self._path)
        except OSError as error:
            raise CheckpointError(
                f"the ledger {self._path} could not be written: {error.strerror or error}; the one before is whole: "
                "free some space and start again with autoresume=true"
            ) from error
        if self._bucket:
            try:
                self._bucket.upload(self._path, self._path.name)
            except StorageError as error:  # it goes there again, whole, with the next change
                log.warning("%s: the newest is %s", error, self._path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
