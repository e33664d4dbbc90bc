"""What the plan needs of a run's YAML file: schedule, corpora, seed. The trainer's other keys are passed over by name.

So a misspelt key is an error here too, and what is shown is what would be trained. Corpora are looked up on disk
(`local`), or given as sizes for planning before any data exists.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, StrictStr, ValidationError

from mixer.batching import parse_num_steps
from mixer.errors import MixerError, ScheduleError
from mixer.groups import make_plan
from mixer.ledger import Ledger
from mixer.plan import Corpus, Plan
from mixer.schedule import Schedule
from mixer.storage import StoredCorpus, open_corpus
from mixer.yamlfile import name_run, read_mapping

SHARD = 16_384  # samples of a shard, where only a corpus's size is known

TRAINER_KEYS = frozenset({
    "activation_checkpointing", "attention_across_documents", "compile", "eos_token_id", "fsdp", "load_weights_from",
    "autoresume", "device", "device_train_microbatch_size", "dynamic", "eval", "load_path", "log_interval", "loggers",
    "lr_schedule", "metrics_file", "model", "num_workers", "optimizer", "precision", "save_folder", "save_interval",
    "save_at_switchpoints", "save_spool",
    "reading", "save_num_checkpoints_to_keep", "seed", "service", "tokenizer",
})  # fmt: skip


class _CorpusKeys(BaseModel):
    model_config = ConfigDict(extra="forbid")

    local: Path | None = None
    remote: StrictStr | None = None
    holdout: Path | None = None
    holdout_remote: StrictStr | None = None
    max_epochs: PositiveInt | None = None
    then: StrictStr = "refuse"


class _RunKeys(BaseModel):
    model_config = ConfigDict(extra="forbid")

    run_name: StrictStr = "run"
    data_seed: NonNegativeInt
    max_duration: int | str
    global_batch_size: PositiveInt
    seq_len: PositiveInt
    shuffle_window: PositiveInt = 16
    num_groups: PositiveInt = 1
    corpora: dict[StrictStr, _CorpusKeys]
    schedule: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run as far as its data order goes.

    `ledger`, `frontier` and the last reported `step` are those of a run that has them. Of corpora that are on disk,
    `shard_bytes` has the size of each shard, `folders` where they are.
    """

    name: str
    schedule: Schedule
    corpora: Mapping[str, Corpus]
    data_seed: int
    shuffle_window: int
    num_groups: int = 1
    ledger: Ledger | None = None
    frontier: int | None = None
    step: int | None = None
    shard_bytes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)

    def plan(self) -> Plan:
        return make_plan(
            self.schedule,
            self.corpora,
            data_seed=self.data_seed,
            shuffle_window=self.shuffle_window,
            num_groups=self.num_groups,
        )


def load_run(path: str | Path, sizes: Mapping[str, str] | None = None) -> PlannedRun:
    """Read a run's YAML file.

    `sizes` gives tokens ("12e9tok") or samples ("5000") of corpora that are not on disk; those of corpora that the file
    does not have are passed over. Raises MixerError with the place of what is wrong.
    """
    keys = _check_keys(Path(path))
    facts = {"global_batch_size": keys.global_batch_size, "seq_len": keys.seq_len}
    try:
        rows = {name: keys.schedule.get(name, ()) for name in ("batch_sizes", "phases")}
        num_steps = parse_num_steps(keys.max_duration, **facts, **rows)
    except ValueError as error:
        raise ScheduleError.of([f"{error} @ $.max_duration"]) from error
    schedule = Schedule.from_dict(keys.schedule, num_steps=num_steps, place="$.schedule", **facts)
    schedule.check_names({*keys.corpora, *(change.name for change in schedule.changes)}, place="$.schedule")
    given = sizes or {}
    opened = {name: _open_local(name, entry) for name, entry in keys.corpora.items() if name not in given}
    return PlannedRun(
        name=keys.run_name,
        schedule=schedule,
        corpora={
            name: Corpus(
                shard_sizes=opened[name].shard_sizes if name in opened else _sizes_of(name, given[name], schedule),
                max_epochs=entry.max_epochs,
                then=entry.then,
                seq_len=_length_of(name, opened.get(name), schedule),
            )
            for name, entry in keys.corpora.items()
        },
        data_seed=keys.data_seed,
        shuffle_window=keys.shuffle_window,
        num_groups=keys.num_groups,
        shard_bytes={name: corpus.shard_bytes.tolist() for name, corpus in opened.items()},
        folders={name: corpus.path for name, corpus in opened.items()},
    )


def _check_keys(path: Path) -> _RunKeys:
    config = name_run(read_mapping(path))
    try:
        return _RunKeys.model_validate({key: value for key, value in config.items() if key not in TRAINER_KEYS})
    except ValidationError as error:
        raise ScheduleError.of([_describe(dict(item)) for item in error.errors()]) from error


def _describe(error: dict[str, Any]) -> str:
    place, name = "$" + "".join(f".{part}" for part in error["loc"]), str(error["loc"][-1])
    if error["type"] == "extra_forbidden":
        known = [*_RunKeys.model_fields, *_CorpusKeys.model_fields, *TRAINER_KEYS]
        close = difflib.get_close_matches(name, known, n=1)
        return f"unknown key '{name}'{f', did you mean {close[0]!r}?' if close else ''} @ {place}"
    if error["type"] == "missing":
        return f"this key is missing @ {place}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, found {error['input']!r} @ {place}"


def _open_local(name: str, keys: _CorpusKeys) -> StoredCorpus:
    if keys.local is None:
        raise MixerError(f"corpus '{name}' has no 'local' folder; give its size with --size {name}=12e9tok")
    try:
        return open_corpus(keys.local, keys.remote)
    except MixerError as error:
        raise MixerError(f"{error}; or give the size with --size {name}=12e9tok @ $.corpora.{name}.local") from error


def _length_of(name: str, corpus: StoredCorpus | None, schedule: Schedule) -> int | None:
    """The tokens of its rows, as they are or else as the first phase that reads it wants them; None: the run's."""
    found = schedule.seq_len
    if corpus is None:
        used = zip(schedule.phases, schedule.contexts, strict=True)
        found = next((context.seq_len for phase, context in used if phase.mixture.get(name)), found)
    elif corpus.has_fixed_rows:
        found = corpus.seq_len
    return None if found == schedule.seq_len else found


def _sizes_of(name: str, size: str, schedule: Schedule) -> list[int]:
    """Shards of a corpus of which only the size is known."""
    seq_len = _length_of(name, None, schedule) or schedule.seq_len
    try:
        samples = int(float(size.removesuffix("tok"))) // seq_len if size.endswith("tok") else int(size)
    except (ValueError, OverflowError):
        samples = 0
    if samples < 1:
        raise MixerError(f"a size is tokens like 12e9tok or samples like 5000, at least 1, found '{size}' for '{name}'")
    full, rest = divmod(samples, SHARD)
    return [SHARD] * full + [rest] * bool(rest)
