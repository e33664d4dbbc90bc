"""The core of Switchpoint: which sample stands in each slot of each step, decided by a pure function.

Standard library and NumPy only; reading shards is in `mixer.reader`, the torch dataset in `mixer.dataset`, and the
algorithms that propose mixtures in `mixer.proposers` (not imported here).
"""

from mixer.batching import parse_num_steps
from mixer.changes import Change
from mixer.duration import parse_steps
from mixer.errors import (
    CorpusError,
    FrontierError,
    FrozenStepError,
    LedgerError,
    MixerError,
    ProposingError,
    RepetitionError,
    ScheduleError,
    ShardError,
    StaleParentError,
    StateError,
    StepError,
    UnknownCorpusError,
)
from mixer.forking import fork
from mixer.ledger import Ledger, Revision
from mixer.plan import ORDER_VERSION, Batch, Corpus, Forecast, Plan
from mixer.proposing import Dynamic, Observation, Proposal, Proposer
from mixer.rails import Rails
from mixer.ramp import Ramp
from mixer.schedule import Phase, Schedule

__all__ = [
    "ORDER_VERSION",
    "Batch",
    "Change",
    "Corpus",
    "CorpusError",
    "Dynamic",
    "Forecast",
    "FrontierError",
    "FrozenStepError",
    "Ledger",
    "LedgerError",
    "MixerError",
    "Observation",
    "Phase",
    "Plan",
    "Proposal",
    "Proposer",
    "ProposingError",
    "Rails",
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
    "fork",
    "parse_num_steps",
    "parse_steps",
]
