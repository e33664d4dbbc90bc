"""The check: was every batch the planned one? Recomputed without the trainer, from what lies on disk.

The service's exported ledger and the shards give the plan, the plan gives the address of every row of every step, the
shards give the rows, and their digest must be the one that the trainer wrote down when it trained on that step. Steps
that a crash made it train twice must be right both times. Nothing of the trainer's code is used.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from demo.metrics import History, Line
from mixer import Ledger, Plan, Revision, Schedule, ShardError
from mixer.reader import RowReader, open_corpus
from mixer.storage import StoredCorpus


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as the service exported it."""

    definition: Mapping[str, Any]
    ledger: Ledger

    @property
    def num_steps(self) -> int:
        return self.ledger.base.num_steps

    def plan(self, schedule: Schedule | None = None) -> Plan:
        """The plan of `schedule`; default: of the base and all revisions in force."""
        return Plan(
            schedule or self.ledger.schedule,
            {name: corpus["shard_sizes"] for name, corpus in self.definition["corpora"].items()},
            data_seed=self.definition["data_seed"],
            shuffle_window=self.definition["shuffle_window"],
        )


@dataclass(frozen=True, kw_only=True)
class Result:
    """`faults` are sentences; there is none when the run was as planned."""

    num_steps: int
    num_as_planned: int
    num_twice: int  # steps trained twice, and identical both times
    largest_deviation: float  # samples, over all corpora and all prefixes of the run, drawn from scheduled
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.faults and self.num_as_planned == self.num_steps


def read_run(exported: Path) -> Run:
    """The run in a ledger that `switchpoint-service export` wrote."""
    head, *items = map(json.loads, exported.read_text("utf-8").splitlines())
    definition = head["definition"]
    sizes = {name: definition[name] for name in ("num_steps", "global_batch_size", "seq_len")}
    revisions = []
    for item in items:
        if revision := item.get("revision"):
            revision.pop("superseded_time", None)
            revisions.append(Revision.from_dict(revision))
    base = Schedule.from_dict(definition["schedule"], **sizes)
    return Run(definition=definition, ledger=Ledger(base=base, revisions=tuple(revisions)))


def check(run: Run, corpora: Mapping[str, Path], history: History) -> Result:
    """Compare every line of `history` with the plan of `run` over the shards in `corpora` (name → folder of shards)."""
    plan = run.plan()
    opened = {name: open_corpus(corpora[name]) for name in plan.names}
    faults = list(_data_faults(run, opened))
    reader = RowReader([opened[name] for name in plan.names])
    planned: dict[int, str] = {}
    for step in range(run.num_steps):
        try:
            planned[step] = planned_digest(plan, reader, step)
        except ShardError as error:  # no rows are read from a shard that is not what it was: nobody can vouch for them
            faults.append(f"step {step} cannot be compared: {error}")
    faults += _order_faults(history, run.num_steps)
    as_planned, times = set(planned), [0] * run.num_steps
    for line in history.lines:
        step = line["step"]
        times[step] += 1
        if step not in planned:
            continue
        found = (line["digest"], _nonzero(line["counts"]))
        wanted = (planned[step], plan.counts(step))
        if found != wanted:
            as_planned.discard(step)
            faults.append(f"step {step} was trained on {found}, the plan says {wanted}")
    as_planned -= {step for step, count in enumerate(times) if not count}
    return Result(
        num_steps=run.num_steps,
        num_as_planned=len(as_planned),
        num_twice=sum(times[step] > 1 for step in as_planned),
        largest_deviation=largest_deviation(history.steps, run.ledger.schedule),
        faults=tuple(faults),
    )


def planned_digest(plan: Plan, reader: RowReader, step: int) -> str:
    """BLAKE2b over the BLAKE2b of each row (little-endian uint32), in slot order: what metrics lines hold."""
    batch = plan.batch(step)
    rows = reader.read(reader.bases[batch.corpus] + batch.sample_id).astype("<u4")
    each = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return hashlib.blake2b(each, digest_size=16).hexdigest()


def same_without_service(run: Run, config: Path) -> int:
    """How many steps have the same batch, slot by slot, in a run of the YAML `config`, which knows no service."""
    values = yaml.safe_load(config.read_text("utf-8"))
    schedule = Schedule.from_dict(
        values["schedule"],
        num_steps=int(values["max_duration"].removesuffix("ba")),
        global_batch_size=values["global_batch_size"],
        seq_len=values["seq_len"],
    )
    one, other = run.plan(), run.plan(schedule)
    return sum(
        bool(np.array_equal(a.corpus, b.corpus) and np.array_equal(a.sample_id, b.sample_id))
        for a, b in ((one.batch(step), other.batch(step)) for step in range(run.num_steps))
    )


def largest_deviation(lines: Sequence[Line], schedule: Schedule) -> float:
    """How far, in samples, what was read of any corpus was from its scheduled share after any step, at most."""
    errors = dict.fromkeys(schedule.names, 0.0)
    largest = 0.0
    for line in lines:
        weights, size = schedule.weights(line["step"]), schedule.batch_size(line["step"])
        for name in errors:
            errors[name] += line["counts"].get(name, 0) - weights.get(name, 0.0) * size
        largest = max(largest, *map(abs, errors.values()))
    return largest


def _order_faults(history: History, num_steps: int) -> Iterator[str]:
    """Launches that do not begin where a checkpoint can have been, or a run that does not end at its end."""
    expected = 0
    for number, launch in enumerate(history.launches):
        first, last = launch[0]["step"], launch[-1]["step"]
        if first > expected or (number == 0 and first != 0):
            yield f"launch {number + 1} of the trainer began at step {first}; step {expected} was never trained"
        expected = max(expected, last + 1)
    if expected != num_steps:
        yield f"the run has {num_steps} steps, {expected} were trained"


def _data_faults(run: Run, opened: Mapping[str, StoredCorpus]) -> Iterator[str]:
    """Corpora whose shards on disk are not those that the run was defined with."""
    for name, corpus in opened.items():
        defined = run.definition["corpora"][name]
        if corpus.fingerprint != defined["fingerprint"] or corpus.shard_sizes.tolist() != defined["shard_sizes"]:
            yield f"the shards of {name} on disk are not those that the run began with"


def _nonzero(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
