"""The core of Switchpoint: which sample stands in each slot of each step, decided by a pure function.

Standard library and NumPy only; reading shards is in `mixer.reader`, the torch dataset in `mixer.dataset` (not imported
here).
"""

from mixer.duration import parse_steps
from mixer.errors import (
    CorpusError,
    FrontierError,
    FrozenStepError,
    LedgerError,
    MixerError,
    RepetitionError,
    ScheduleError,
    ShardError,
    StaleParentError,
    StateError,
    StepError,
    UnknownCorpusError,
)
from mixer.ledger import Ledger, Revision
from mixer.plan import ORDER_VERSION, Batch, Corpus, Forecast, Plan
from mixer.ramp import Ramp
from mixer.schedule import Phase, Schedule

__all__ = [
    "ORDER_VERSION",
    "Batch",
    "Corpus",
    "CorpusError",
    "Forecast",
    "FrontierError",
    "FrozenStepError",
    "Ledger",
    "LedgerError",
    "MixerError",
    "Phase",
    "Plan",
    "Ramp",
    "RepetitionError",
    "Revision",
    "Schedule",
    "ScheduleError",
    "ShardError",
    "StaleParentError",
    "StateError",
    "StepError",
    "UnknownCorpusError",
    "parse_steps",
]
