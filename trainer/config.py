"""What a run is made of: the keys of its YAML file, their types, defaults and meaning, as frozen objects.

Nothing that decides the order of samples has a default that is derived when the run starts. Lengths of time are
Composer's notation: "6000ba" (steps, or a plain integer), "12.6e9tok" (tokens), "0.1dur" (share of the run).
`loading.load` makes a `Config` from a file. Imports neither torch nor composer.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, PositiveInt, TypeAdapter

from mixer import Schedule
from mixer.batching import parse_num_steps
from mixer.proposers import Ado, Softmax
from mixer.proposing import Proposer
from mixer.rails import Rails
from mixer.ramp import Ramp
from trainer.checkpoints.settings import Place
from trainer.errors import ConfigError
from trainer.evaluation.settings import EvalConfig
from trainer.loggers.settings import LoggersConfig
from trainer.models.settings import FsdpConfig, ModelConfig
from trainer.optimization.settings import LearningRateConfig, OptimizerConfig
from trainer.section import Duration, PositiveFloat, Section

PROPOSERS: Mapping[str, type[Ado] | type[Softmax]] = {"ado": Ado, "softmax": Softmax}
PREFETCH_FACTOR = 2  # batches in work for each loader worker
TOKEN = r"[A-Za-z0-9._~+/=-]+"  # what RFC 6750 lets a bearer token hold


class CorpusConfig(Section):
    """Where a corpus lies: `local`, a folder of MDS shards, or of what is fetched from `remote`; its held-out split.

    `mask_prompt`: of a corpus of examples (`switchpoint-shards convert --rows examples`) only outputs are targets.
    """

    local: Path
    remote: str | None = None
    holdout: Path | None = None
    holdout_remote: str | None = None
    max_epochs: PositiveInt | None = None
    then: str = "refuse"
    mask_prompt: bool = False

    @property
    def holdout_folder(self) -> Path:
        """The held-out split: as given, or `holdout` beside `local`."""
        return self.holdout or self.local.parent / "holdout"

    @property
    def holdout_source(self) -> str | None:
        """Where the held-out split is fetched from: as given, or, where neither place is given, beside `remote`."""
        if self.holdout_remote or self.holdout or self.remote is None:
            return self.holdout_remote
        return self.remote.rstrip("/").rpartition("/")[0] + "/holdout"


class ReadingConfig(Section):
    """How rows are had. Nothing here changes which sample stands where.

    `cache_limit`: the most bytes that the copies of remote corpora may have on each machine together ("200gb"; default:
    any). `fetch_ahead`: how far ahead of training shards are made ready, with `threads` at a time; a file is asked for
    `attempts` times, each time for `timeout` seconds. The last key takes a checkpoint of other data than this run has.
    """

    cache_limit: ByteSize | None = None
    fetch_ahead: Duration = "50ba"
    threads: PositiveInt = 4
    attempts: PositiveInt = 6
    timeout: PositiveFloat = 60.0
    allow_different_data_and_lose_reproducibility: bool = False


class ServiceConfig(Section):
    """The live schedule. `lead`: how many steps beyond the current one are frozen at each synchronisation.

    `take_over`: take the run from another trainer, which must have ended for good. For one start: the two would
    otherwise take it from each other in turns.
    """

    url: str
    run_id: str | None = None
    sync_interval: PositiveInt = 10
    lead: PositiveInt = 50
    timeout: PositiveFloat = 5.0
    take_over: bool = False
    token: Annotated[str, Field(pattern=f"^{TOKEN}$")] | None = Field(default=None, repr=False)


class RampConfig(Section):
    """How a mixture comes about: over `length`."""

    shape: Literal["linear", "cosine"] = "linear"
    length: Duration


class RailsConfig(Section):
    """What an algorithm may do to the mixture: `mixer.rails.Rails`, with lengths of time as everywhere here."""

    minimum: float = Rails.minimum
    maximum: float = Rails.maximum
    ranges: dict[str, tuple[float, float]] = Field(default={})
    fixed: tuple[str, ...] = ()
    max_change: float = Rails.max_change
    min_change: float = Rails.min_change
    cool_down: Duration = Rails.cool_down
    ramp: RampConfig | None = None


class DynamicConfig(Section):
    """Dynamic mixing: `proposer`, asked `every`; what it proposes is in force `lead` steps after it was asked for.

    `settings` are the proposer's own, by the names of its arguments.
    """

    proposer: Literal["ado", "softmax"]
    every: Duration
    lead: PositiveInt = 50
    settings: dict[str, Any] = Field(default={})
    rails: RailsConfig = RailsConfig()

    def make_proposer(self) -> Proposer:
        """The algorithm; raises pydantic's ValidationError or ProposingError for its settings (not after `load`)."""
        return TypeAdapter(PROPOSERS[self.proposer]).validate_python(self.settings)


class Config(Section):
    """One run. Counts are in samples or steps unless the name says otherwise."""

    run_name: Annotated[str, Field(pattern=r"^[\w][\w.-]*$")]
    data_seed: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0)] = 17
    max_duration: Duration
    global_batch_size: PositiveInt
    device_train_microbatch_size: PositiveInt | None = None
    seq_len: Annotated[int, Field(ge=2)]
    attention_across_documents: bool = True
    eos_token_id: Annotated[int, Field(ge=0)] | None = None
    tokenizer: str | None = None
    model: ModelConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    lr_schedule: LearningRateConfig
    precision: Literal["fp32", "amp_bf16"] = "fp32"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    compile: bool = False
    activation_checkpointing: bool = False
    fsdp: FsdpConfig | None = None
    corpora: Annotated[dict[str, CorpusConfig], Field(min_length=1)]
    shuffle_window: PositiveInt = 16
    num_groups: PositiveInt = 1
    num_workers: Annotated[int, Field(ge=0)] = 2
    reading: ReadingConfig = ReadingConfig()
    schedule: dict[str, Any]
    eval: EvalConfig | None = None
    service: ServiceConfig | None = None
    dynamic: DynamicConfig | None = None
    save_folder: Place | None = None
    save_interval: Duration = "1000ba"
    save_num_checkpoints_to_keep: Annotated[int, Field(ge=-1)] = -1
    save_at_switchpoints: bool = True
    save_spool: Path | None = None
    load_path: Place | None = None
    load_weights_from: Path | None = None
    autoresume: bool = False
    metrics_file: Path | None = None
    log_interval: PositiveInt = 10
    loggers: LoggersConfig = LoggersConfig()

    def with_token(self, token: str | None) -> "Config":
        """This configuration with the service's token, unless it has one or none is given; ConfigError for none."""
        if token is None or self.service is None or self.service.token is not None:
            return self
        if not re.fullmatch(TOKEN, token):
            raise ConfigError(["SWITCHPOINT_TOKEN holds characters that a bearer token cannot have"])
        return self.model_copy(update={"service": self.service.model_copy(update={"token": token})})

    @property
    def tokens_per_step(self) -> int:
        """Tokens of the first optimizer step over all ranks."""
        return self.global_batch_size * self.seq_len

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run.

        Raises ValueError when `max_duration` is no length, ScheduleError where it is in tokens and batch sizes are
        wrong (not after `load`).
        """
        sizes = {"global_batch_size": self.global_batch_size, "seq_len": self.seq_len}
        rows = {name: self.schedule.get(name, ()) for name in ("batch_sizes", "phases")}
        return parse_num_steps(self.max_duration, **sizes, **rows)

    def steps(self, duration: Duration) -> int:
        """A duration of this configuration, from its beginning, in steps; raises ValueError when it is none."""
        return self.base_schedule().steps(duration)

    @property
    def num_batches_ahead(self) -> int:
        """Batches that the loader's workers are asked for before the step that is being trained has ended."""
        return self.num_workers * PREFETCH_FACTOR

    def rails(self, given: RailsConfig) -> Rails:
        """The guard rails; raises ProposingError where they contradict each other, ValueError for a wrong length."""
        values = {name: getattr(given, name) for name in RailsConfig.model_fields}
        values["cool_down"] = self.steps(given.cool_down)
        values["ramp"] = Ramp(shape=given.ramp.shape, length=self.steps(given.ramp.length)) if given.ramp else None
        return Rails(**values)

    def base_schedule(self) -> Schedule:
        """The schedule as written in the file; raises ScheduleError (not after `load`, which has checked it)."""
        return Schedule.from_dict(
            self.schedule,
            num_steps=self.num_steps,
            global_batch_size=self.global_batch_size,
            seq_len=self.seq_len,
        )
