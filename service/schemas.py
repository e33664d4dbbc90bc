"""The bodies of the REST API, by direction: `...In` is what clients send, `...Out` what they get.

What comes in is strict: unknown keys, numbers in quotes and values out of range are refused, all at once,
each with its place. Mixtures, phases and changes of corpora pass through: mixer reads them and names their faults.
Steps are 0-based; counts are samples; ranges are half-open.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

__all__ = [
    "AnswerOut",
    "AuditOut",
    "AuditedOut",
    "BatchOut",
    "ClaimIn",
    "ClaimOut",
    "ClaimedOut",
    "CorpusIn",
    "CorpusOut",
    "CourseOut",
    "EventOut",
    "EventsOut",
    "ForecastOut",
    "ForkIn",
    "LedgerOut",
    "LimitIn",
    "NewLimitsIn",
    "ParentOut",
    "PreviewOut",
    "ProblemOut",
    "ProgressIn",
    "ReadsOut",
    "ReportOut",
    "ReportsOut",
    "RevisionIn",
    "RevisionOut",
    "RevisionsOut",
    "RunIn",
    "RunOut",
    "RunsOut",
    "ScheduleIn",
    "ScheduleOut",
    "StepWeightsOut",
    "WeightsOut",
]

MAX_INT = 2**63 - 1
Step = Annotated[int, Field(ge=0, le=10**12)]
Count = Annotated[int, Field(ge=0, le=MAX_INT)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
CorpusName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f\x7f]+$")]
BatchSize = Annotated[int, Field(ge=1, le=2**20)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Prose = Annotated[str, Field(min_length=1, max_length=10_000)]
MAX_LIST = 100_000  # entries of one list in a change of corpora: each is looked at whenever a plan is made


def _bounded(change: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for verb, arguments in change.items():
        for key, value in arguments.items() if isinstance(arguments, Mapping) else ():
            if isinstance(value, list) and len(value) > MAX_LIST:
                raise ValueError(
                    f"{verb}.{key} has {len(value)} entries, at most {MAX_LIST} are taken: "
                    "write neighbours as [start, end), or spread them over several revisions"
                )
    return change


CorpusChange = Annotated[dict[str, JsonValue], AfterValidator(_bounded)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CorpusIn(_In):
    """A corpus of a run: how many samples each of its shards holds, in shard order."""

    shard_sizes: list[Annotated[int, Field(ge=1, le=2**40)]] = Field(min_length=1)
    max_epochs: Annotated[int, Field(ge=1, le=10**9)] | None = Field(default=None, description="no limit when absent")
    then: CorpusName = Field(default="refuse", description='at the cap: "refuse", or the corpus that gets the share')
    fingerprint: Annotated[str, Field(max_length=200)] | None = None
    seq_len: Annotated[int, Field(ge=2, le=2**24)] | None = Field(
        default=None, description="tokens of each of its samples, where that is not the run's seq_len"
    )


class ScheduleIn(_In):
    """Phases from the step where they begin to the end of the run, in the form of the YAML.

    A phase may have a `seq_len`, which its corpora must all have, and a `rope`; without, they go on as before.
    """

    phases: list[dict[str, JsonValue]] = Field(min_length=1, max_length=1000)


class ChangesIn(_In):
    """What changes of the corpora from `start` on, as {name: {verb: arguments}}."""

    start: int | str
    corpora: dict[CorpusName, CorpusChange] = Field(max_length=256)


class BatchSizeIn(_In):
    """The batch size from `start` on."""

    start: int | str
    global_batch_size: BatchSize


class BaseScheduleIn(ScheduleIn):
    """The schedule that a run is made with: phases from step 0 on, and what is known beforehand of later changes of its
    corpora and its batch size."""

    changes: list[ChangesIn] = Field(default=[], max_length=1000)
    batch_sizes: list[BatchSizeIn] = Field(default=[], max_length=1000)


class LimitIn(_In):
    """Limits of one corpus: of its weight at any step, and of what one revision may change it by at any step."""

    min: Share | None = None
    max: Share | None = None
    max_change: Share | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "LimitIn":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is above max: {self.min:g} and {self.max:g}")
        return self


LimitsIn = Annotated[dict[CorpusName, LimitIn], Field(max_length=256)]


class RunIn(_In):
    """A run: everything that decides which sample stands where; and the limits that edits of it are held to."""

    name: Name
    data_seed: Annotated[int, Field(ge=0, le=MAX_INT)]
    global_batch_size: BatchSize = Field(description="samples of a step, from step 0 on")
    seq_len: Annotated[int, Field(ge=1, le=2**24)]
    num_steps: Annotated[int, Field(ge=1, le=10**12)]
    shuffle_window: Annotated[int, Field(ge=1, le=2**20)] = 16
    num_groups: Annotated[int, Field(ge=1, le=2**12, description="node groups, each with its part of every corpus")] = 1
    corpora: dict[CorpusName, CorpusIn] = Field(min_length=1, max_length=256)
    schedule: BaseScheduleIn
    limits: LimitsIn = Field(default={}, description="not part of the definition: they can be changed")

    def definition(self) -> dict[str, Any]:
        """As it is kept: what a run has no use for is left out, as in those that were made before there was any."""
        kept = self.model_dump(exclude={"limits", *(["num_groups"] if self.num_groups == 1 else [])})
        for corpus in kept["corpora"].values():
            if corpus["seq_len"] is None:
                del corpus["seq_len"]
        return kept


class RevisionIn(_In):
    """An edit: from `effective_step` on, `mixture` (reached over `ramp`) or the phases of `schedule`, `corpora`, and
    `global_batch_size`.

    Without `mixture` and `schedule` the weights stay as they are, without `global_batch_size` the batch sizes.
    """

    parent: Annotated[int, Field(ge=0, le=MAX_INT)] | None = Field(
        default=None, description="the revision this was made against; or If-Match"
    )
    effective_step: Step
    mixture: dict[str, JsonValue] | None = None
    ramp: dict[str, JsonValue] | None = None
    schedule: ScheduleIn | None = None
    corpora: dict[CorpusName, CorpusChange] | None = Field(
        default=None,
        max_length=256,
        description="what changes of each: {verb: arguments}, the verbs being add, remove, grow, quarantine, skip, "
        "rename, split",
    )
    global_batch_size: BatchSize | None = Field(
        default=None, description="of every step from effective_step on, in place of all that were planned there"
    )
    reason: Prose
    author: Name

    @model_validator(mode="after")
    def _one_change(self) -> "RevisionIn":
        if self.mixture is not None and self.schedule is not None:
            raise ValueError("give either mixture or schedule")
        if not self.change():
            raise ValueError("give mixture, schedule, corpora or global_batch_size: there is nothing to change")
        if self.ramp is not None and self.mixture is None:
            raise ValueError("ramp goes with mixture; in a schedule each phase has its own")
        return self

    def change(self) -> dict[str, Any]:
        """What changes, without who, why, when and where."""
        what = {"mixture", "ramp", "schedule", "corpora", "global_batch_size"}
        return self.model_dump(include=what, exclude_none=True)


class ProgressIn(_In):
    """The trainer's report, and its wish to freeze the schedule of every step below `freeze_through`."""

    step: Step = Field(description="steps finished, which is the next step to train")
    freeze_through: Step
    known_revision: Count = Field(description="the newest revision of the trainer's ledger")
    decided_through: Step | None = Field(
        default=None,
        description="the first step the trainer has not handed out under known_revision; default: step",
    )
    claim: Count | None = Field(default=None, description="the number of the trainer's claim, where it has one")
    superseded: list[Count] | None = Field(
        default=None,
        max_length=10_000,
        description="the revisions that the trainer's ledger holds as superseded; with it, a ledger that "
        "follows what was superseded here is refused",
    )
    metrics: dict[Name, float | None] = Field(default={}, max_length=1000)
    counts: dict[CorpusName, Count] = Field(default={}, max_length=256, description="samples read of each corpus")

    @model_validator(mode="after")
    def _in_order(self) -> "ProgressIn":
        if self.decided_through is not None and self.decided_through < self.step:
            raise ValueError("decided_through must be at least step: what is finished was handed out")
        return self


class ClaimIn(_In):
    """A trainer takes the run: one that has the same name as the last begins again, another must say `take_over`."""

    trainer: Name = Field(description="who: the same text after a restart, another for another trainer")
    step: Step = Field(description="the first step it will train")
    take_over: bool = Field(default=False, description="also from another trainer, which must have ended for good")


class NewLimitsIn(_In):
    """Limits in place of those there are."""

    limits: LimitsIn
    reason: Prose


class ForkIn(_In):
    """A run that shares another's past up to `step`."""

    name: Name
    step: Step = Field(description="the first step that the fork takes by itself")
    replay: Literal["continue", "unseen"] = Field(
        default="continue", description="what it reads from there on: what the parent would, or what the parent has not"
    )
    until: Step | None = Field(
        default=None, description='for "unseen": the first step of the parent that counts as not read; default: its end'
    )
    author: Name
    reason: Prose


class ClaimOut(_Out):
    """Who trains the run, and under which number: reports under a lower one are refused."""

    claim: int
    trainer: str
    step: int
    since: str


class ClaimedOut(ClaimOut):
    """A claim that was given, and what is known of the run."""

    frontier: int
    revision: int


class ParentOut(_Out):
    """Where a fork comes from."""

    run: str
    step: int


class EventOut(_Out):
    """A call that changed something. `hash` covers all of it, and the event before (`service.chain`)."""

    seq: int
    time: str
    kind: str
    actor: str = Field(description="the name of the token; anonymous where there are none")
    body: dict[str, Any]
    hash: str


class EventsOut(_Out):
    events: list[EventOut]
    next: int | None = Field(description="`after` of the next page; null on the last")


class AuditedOut(EventOut):
    key: int = Field(description="rises over all runs")
    run: str | None = Field(description="null: of no run, such as a token that was issued")


class AuditOut(_Out):
    events: list[AuditedOut]
    next: int | None = Field(description="`after` of the next page; null on the last")


class CorpusOut(_Out):
    """A corpus with all shards that it has by the end of the run."""

    origin: str = Field(description="the corpus of the definition, or added, whose shards and sample_ids it has")
    num_shards: int
    num_samples: int
    max_epochs: int | None
    then: str
    fingerprint: str | None


class RunOut(_Out):
    id: str
    name: str
    created: str
    data_seed: int
    global_batch_size: int
    seq_len: int
    num_steps: int
    shuffle_window: int
    num_groups: int
    order_version: int
    corpora: dict[str, CorpusOut]
    revision: int = Field(description="the newest revision in force; 0 is the schedule the run was made with")
    frontier: int = Field(description="the first step whose schedule may still change")
    step: int | None = Field(description="the highest step reported; null before the first report")
    limits: dict[str, dict[str, float]] = Field(description="corpus → min, max, max_change, those there are")
    claim: ClaimOut | None = Field(description="who trains it; null before a trainer claims it")
    parent: ParentOut | None = Field(description="where it was forked from; null for a run that was not")


class RunSummaryOut(_Out):
    id: str
    name: str
    created: str
    num_steps: int
    revision: int
    frontier: int
    step: int | None


class RunsOut(_Out):
    runs: list[RunSummaryOut]
    next: int | None = Field(description="`after` of the next page; null on the last")


class ScheduleOut(_Out):
    """The schedule in force. Its phases are canonical: starts in steps, exact decimal weights."""

    run: str
    revision: int
    num_steps: int
    global_batch_size: int = Field(description="of step 0")
    seq_len: int
    phases: list[dict[str, Any]]
    changes: list[dict[str, Any]] = Field(description="of the corpora: [{start, corpora}, ...] in order")
    batch_sizes: list[dict[str, Any]] = Field(description="later ones: [{start, global_batch_size}, ...] in order")


class StepWeightsOut(_Out):
    revision: int
    step: int
    frozen: bool
    weights: dict[str, float]


class WeightsOut(_Out):
    """Weights at `steps`, spread evenly over [start, end) with both ends; one list a corpus."""

    revision: int
    start: int
    end: int
    frontier: int
    switchpoints: list[int] = Field(description="those inside the range")
    steps: list[int]
    weights: dict[str, list[float]]


class RevisionBaseOut(_Out):
    """A revision as mixer's `Revision.from_dict` reads it."""

    number: int
    parent: int
    effective_step: int
    schedule: dict[str, Any] | None = Field(
        description="its phases, from the effective step on, in canonical form; null where the weights stay"
    )
    corpora: dict[str, dict[str, Any]] = Field(default={}, description="what changes of each corpus: {verb: arguments}")
    global_batch_size: BatchSize | None = Field(
        default=None, description="of every step from the effective step on; null where batch sizes stay"
    )
    author: str
    reason: str
    time: str
    superseded: str | None = Field(description="why it never came into force; null while in force")


class RevisionOut(RevisionBaseOut):
    superseded_time: str | None


class RevisionsOut(_Out):
    """The history, superseded ones too, by number. `current` is the newest in force."""

    current: int
    revisions: list[RevisionOut]
    next: int | None


class LedgerOut(_Out):
    """All that decides which sample stands where, of one moment: with it any program can make the plan itself."""

    id: str
    created: str
    order_version: int
    revision: int = Field(description="the newest in force, which an edit names as its parent")
    frontier: int
    step: int | None
    definition: dict[str, Any] = Field(description="what the run was made with, in the form of `POST /v1/runs`")
    revisions: list[RevisionBaseOut] = Field(description="all of them by number, superseded ones too")


class CourseOut(_Out):
    """A run from its first step to its end, at `steps`; one list a corpus.

    `weights` are those of the step, `tokens` and `epochs` what has been read in all steps below it. Beside steps spread
    evenly there are those where a phase or its ramp begins or ends, so that lines between them are true.
    """

    steps: list[int]
    weights: dict[str, list[float]]
    tokens: dict[str, list[int]]
    epochs: dict[str, list[float]]


class ForecastOut(_Out):
    """Arithmetic, not measurement: what will have been read of each corpus in all steps below `step`."""

    revision: int
    step: int
    corpora: dict[str, dict[str, Any]]
    course: CourseOut | None = Field(default=None, description="where `points` were asked for")


class PreviewOut(_Out):
    """What an edit would do; nothing was stored."""

    dry_run: Literal[True] = True
    parent: int
    effective_step: int
    step: int
    phases: list[dict[str, Any]] = Field(description="the schedule as it would be")
    changes: list[dict[str, Any]] = Field(description="the changes of the corpora as they would be")
    global_batch_size: int = Field(description="of step 0")
    batch_sizes: list[dict[str, Any]] = Field(description="the later batch sizes as they would be")
    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]]
    course: CourseOut | None = Field(default=None, description="with the edit, where `points` were asked for")


class BatchOut(_Out):
    """Slots [start, end) of a step, one entry a slot in each list."""

    revision: int
    step: int
    frozen: bool
    start: int
    end: int
    corpus: list[str]
    ordinal: list[int]
    epoch: list[int]
    sample_id: list[int]
    next: int | None


class ReadOut(_Out):
    step: int
    slot: int


class ReadsOut(_Out):
    """Where in steps [start, end) a sample is read. `end` may be lower than asked: go on from `next`."""

    revision: int
    corpus: str
    sample_id: int
    start: int
    end: int
    also_named: list[str] = Field(description="other corpora of the run that have this sample, by a rename or a split")
    reads: list[ReadOut]
    next: int | None


class AnswerOut(_Out):
    """What the trainer gets: the frontier, what it lacks, and what is not in force of what it may lack."""

    frontier: int
    revision: int = Field(description="the newest in force")
    revisions: list[RevisionBaseOut] = Field(description="all above known_revision, by number")
    superseded: list[int] = Field(description="the numbers of all that are not in force")


class ReportOut(_Out):
    step: int
    time: str
    known_revision: int
    decided_through: int
    frontier: int
    metrics: dict[str, float | None]
    counts: dict[str, int]


class ReportsOut(_Out):
    reports: list[ReportOut]
    next: int | None = Field(description="`start` of the next page; null on the last")


class ProblemOut(BaseModel):
    """RFC 9457. Fields beyond these depend on `type`: `earliest_step`, `current_revision`, `problems`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
