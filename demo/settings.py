"""What the demo's run is: its length, its two mixtures, and when things happen in it. The YAML of the trainer."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DATA_SEED = 17
BASE = "c4"
MIX = {"c4": 0.6, "starcoder": 0.2, "math": 0.1, "flan": 0.04, "knowledgeqa": 0.03, "dclm": 0.03}
EDITED_MIX = {"c4": 0.45, "starcoder": 0.25, "math": 0.2, "flan": 0.04, "knowledgeqa": 0.03, "dclm": 0.03}
AUTHOR = "demo"
REASON = "held-out loss of math and code still falls fast: give both more"
FEWEST_STEPS = 24


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One demo. Times are steps; lengths of rows are tokens."""

    out: Path
    num_steps: int
    samples: Path | None
    seq_len: int = 64
    global_batch_size: int = 16
    eval_samples: int = 32
    num_workers: int = field(default_factory=lambda: os.cpu_count() or 1)

    @property
    def switchpoint(self) -> int:
        """C4 alone before it, the mix from here on."""
        return self.num_steps * 2 // 5

    @property
    def ramp(self) -> int:
        return max(2, self.num_steps // 20)

    @property
    def edit_at(self) -> int:
        """When the revision is posted; it is meant for `edit_from`."""
        return self.num_steps // 2

    @property
    def edit_from(self) -> int:
        return self.num_steps * 3 // 4

    @property
    def kill_at(self) -> int:
        """The trainer is killed after this step at the earliest: never right after a checkpoint, so steps are lost."""
        return self.num_steps * 5 // 8 + 1

    @property
    def save_interval(self) -> int:
        return max(6, self.num_steps // 10)

    @property
    def eval_interval(self) -> int:
        return max(6, self.num_steps // 12)

    @property
    def sync_interval(self) -> int:
        return max(1, self.num_steps // 60)

    @property
    def database(self) -> Path:
        return self.out / "service.db"

    @property
    def metrics_file(self) -> Path:
        return self.out / "run" / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.out / "run" / "checkpoints"

    def log(self, name: str) -> Path:
        return self.out / "logs" / f"{name}.log"


def run_config(settings: Settings, *, corpora: Mapping[str, Path], vocab_size: int, url: str) -> dict[str, Any]:
    """The trainer's configuration. `corpora`: name → train shards; those in no mixture are only evaluated."""
    ramp = {"shape": "linear", "length": f"{settings.ramp}ba"}
    return {
        "run_name": "demo",
        "data_seed": DATA_SEED,
        "max_duration": f"{settings.num_steps}ba",
        "global_batch_size": settings.global_batch_size,
        "seq_len": settings.seq_len,
        "model": {"name": "tiny", "vocab_size": -(-vocab_size // 128) * 128},
        "device": "cpu",
        "lr_schedule": {"peak": 5e-3, "warmup": "0.1dur", "floor": 1e-4},
        "corpora": {name: {"local": str(folder)} for name, folder in sorted(corpora.items())},
        "shuffle_window": 4,
        "num_workers": 1,
        "schedule": {
            "phases": [
                {"start": "0ba", "mixture": {BASE: 1.0}},
                {"start": f"{settings.switchpoint}ba", "mixture": MIX, "ramp": ramp},
            ]
        },
        "eval": {"interval": f"{settings.eval_interval}ba", "num_samples": settings.eval_samples},
        "service": {"url": url, "sync_interval": settings.sync_interval, "lead": settings.sync_interval + 4},
        "save_folder": str(settings.checkpoints),
        "save_interval": f"{settings.save_interval}ba",
        "save_num_checkpoints_to_keep": 2,
        "autoresume": True,
        "metrics_file": str(settings.metrics_file),
        "log_interval": 10,
    }


def without_service(config: Mapping[str, Any], schedule: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """`config` with `schedule` for its own and no service: a run of it reads the same batches, asking nobody."""
    kept = {name: value for name, value in config.items() if name != "service"}
    changed = {"run_name": "same", "schedule": dict(schedule), "save_folder": str(out / "checkpoints")}
    return kept | changed | {"metrics_file": str(out / "metrics.jsonl")}


def write_yaml(path: Path, config: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
