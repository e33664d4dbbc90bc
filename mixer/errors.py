"""The errors of `mixer`, drawn as a tree. All are picklable, carry their facts as attributes, and say what to do.

MixerError
├── ScheduleError            .problems: one line each, "message @ $.phases[1].mixture.c4"
│   └── UnknownCorpusError   .names: the names nobody knows
├── RepetitionError          .corpus .step: a corpus would be read more often than its cap allows
├── StepError                .step: outside of the run
├── LedgerError
│   ├── StaleParentError     .parent .current: the edit was made against an old revision
│   └── FrozenStepError      .step .earliest: the edit would change steps already handed out
├── ProposingError           .problems: guard rails, a proposer or a proposal that cannot be used
├── FrontierError            .step .frontier: a step was asked for whose schedule may still change
├── CorpusError              .path: a corpus on disk cannot be read
│   ├── ShardError           .path: one of its shards is missing, truncated or corrupt
│   ├── FetchError           .path .missing: a file of a remote corpus cannot be had
│   └── CacheError           .path: fetched shards cannot be kept on this machine
└── StateError               .problems: a checkpoint does not belong to this run
"""

from typing import Any, Self


class MixerError(Exception):
    """Base of all errors of `mixer`; `facts` become attributes and survive pickling."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
        self.__dict__.update(facts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.message, self.facts)


def _restore(kind: type[MixerError], message: str, facts: dict[str, Any]) -> MixerError:
    return kind(message, **facts)


class ScheduleError(MixerError):
    """A schedule that cannot be used. `problems` lists everything wrong with it, each with its place."""

    problems: list[str]

    @classmethod
    def of(cls, problems: list[str], **facts: Any) -> Self:
        return cls("; ".join(problems), problems=problems, **facts)


class UnknownCorpusError(ScheduleError):
    """A mixture names a corpus that does not exist. `names` lists them."""

    names: list[str]


class RepetitionError(MixerError):
    """A corpus would be read more than `max_epochs` times. `corpus` and the first `step` that would do so."""

    corpus: str
    step: int


class StepError(MixerError, IndexError):
    """A step outside of the run."""

    step: int


class LedgerError(MixerError):
    """A revision that the ledger cannot take."""


class StaleParentError(LedgerError):
    """The revision was made against `parent`, but the newest is `current`."""

    parent: int
    current: int


class FrozenStepError(LedgerError):
    """The revision would change `step`, but only steps from `earliest` on may still change."""

    step: int
    earliest: int


class ProposingError(MixerError):
    """Guard rails that cannot be kept, a setting of a proposer, or a proposal that is no mixture."""

    problems: list[str]

    @classmethod
    def of(cls, problems: list[str], **facts: Any) -> Self:
        return cls("; ".join(problems), problems=problems, **facts)


class FrontierError(MixerError):
    """`step` was asked for, but the schedule is only fixed below `frontier`."""

    step: int
    frontier: int


class CorpusError(MixerError):
    """The corpus at `path` cannot be read."""

    path: str


class ShardError(CorpusError):
    """The shard at `path` is missing, truncated or corrupt."""


class FetchError(CorpusError):
    """The remote file at `path` cannot be had; `missing`: there is no such file."""

    missing: bool


class CacheError(CorpusError):
    """What was fetched cannot be kept in the folder `path`: no space, no permission, or a limit that is too small."""


class StateError(MixerError):
    """A saved state does not belong to this run. `problems` shows both sides of each difference."""

    problems: list[str]
