"""What the plan needs of a run's YAML file: schedule, corpora, seed. Keys that only the trainer knows are passed over.

Corpora are looked up on disk (`local`), or given as sizes for planning before any data exists.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mixer.duration import parse_steps
from mixer.errors import MixerError, ScheduleError
from mixer.plan import Corpus, Plan
from mixer.reader import open_corpus
from mixer.schedule import Schedule

SHARD = 16_384  # samples of a shard, where only a corpus's size is known


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """A run as far as its data order goes."""

    name: str
    schedule: Schedule
    corpora: Mapping[str, Corpus]
    data_seed: int
    shuffle_window: int

    def plan(self) -> Plan:
        return Plan(self.schedule, self.corpora, data_seed=self.data_seed, shuffle_window=self.shuffle_window)


def load_run(path: str | Path, sizes: Mapping[str, str] | None = None) -> RunFile:
    """Read a run's YAML file.

    `sizes` gives tokens ("12e9tok") or samples ("5000") of corpora that are not on disk. Raises MixerError with the
    place of what is wrong.
    """
    path = Path(path)
    config = _load_yaml(path)
    facts = {key: _positive(config, key, path) for key in ("global_batch_size", "seq_len")}
    steps = _steps(config, facts, path)
    if not isinstance(config.get("corpora"), Mapping) or "schedule" not in config:
        raise MixerError(f"{path}: expected the keys 'corpora' (name → settings) and 'schedule' (phases)")
    schedule = Schedule.from_dict(config["schedule"], num_steps=steps, place="$.schedule", **facts)
    schedule.check_names(config["corpora"], place="$.schedule")
    unknown = (sizes or {}).keys() - config["corpora"].keys()
    if unknown:
        raise MixerError(f"{path} has no corpus '{min(unknown)}', it has {', '.join(sorted(config['corpora']))}")
    return RunFile(
        name=str(config.get("run_name", path.stem)),
        schedule=schedule,
        corpora={
            name: _corpus(name, entry, (sizes or {}).get(name), path.parent, facts["seq_len"])
            for name, entry in config["corpora"].items()
        },
        data_seed=int(config.get("data_seed", 0)),
        shuffle_window=int(config.get("shuffle_window", 16)),
    )


def _corpus(name: str, entry: Any, size: str | None, folder: Path, seq_len: int) -> Corpus:
    entry = entry if isinstance(entry, Mapping) else {}
    cap = {"max_epochs": entry.get("max_epochs"), "then": entry.get("then", "refuse")}
    if size is not None:
        return Corpus(shard_sizes=_even_shards(_num_samples(name, size, seq_len)), **cap)
    if "local" not in entry:
        raise MixerError(f"corpus '{name}' has no 'local' folder; give its size with --size {name}=12e9tok")
    local = Path(entry["local"])
    try:
        return Corpus(shard_sizes=open_corpus(local).shard_sizes, **cap)
    except MixerError as error:
        raise MixerError(f"{error}; or give the size with --size {name}=12e9tok @ $.corpora.{name}.local") from error


def _num_samples(name: str, size: str, seq_len: int) -> int:
    try:
        if size.endswith("tok"):
            return int(float(size[:-3])) // seq_len
        return int(size)
    except ValueError:
        raise MixerError(f"a size is tokens like 12e9tok, or samples like 5000, found '{size}' for '{name}'") from None


def _even_shards(samples: int) -> list[int]:
    full, rest = divmod(samples, SHARD)
    return [SHARD] * full + [rest] * bool(rest)


def _steps(config: Mapping[str, Any], facts: Mapping[str, int], path: Path) -> int:
    try:
        tokens = facts["global_batch_size"] * facts["seq_len"]
        return parse_steps(config.get("max_duration"), tokens_per_step=tokens)
    except ValueError as error:
        raise ScheduleError.of([f"{path}: {error} @ $.max_duration"]) from error


def _positive(config: Mapping[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ScheduleError.of([f"{path}: expected a whole number of at least 1, found {value!r} @ $.{key}"])
    return value


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise MixerError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise MixerError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise MixerError(f"{path} does not hold a mapping of keys to values")
    return config
