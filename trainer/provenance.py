"""What a checkpoint must hold so that a model made from it says where it comes from.

One JSON text, the state of a callback: it is plain data whichever way Composer writes checkpoints, and nothing has to
be run to read it.

    {"format": "switchpoint-provenance", "version": 1, "run_name": …, "step": 24, "data_seed": 17,
     "composition": {"c4": {"samples": 290, "tokens": 9280}, …},
     "ledger": {"hash": …, "revision": 0, "base": {…}, "revisions": […]},
     "corpora": {"c4": {"fingerprint": …, "num_samples": 300}, …},
     "code": {"switchpoint": "0.1.0", "commit": …, …}, "config": {…}, "model_config": {…}}

`step`: how many were trained. `composition` is what was read, counted batch by batch, not what was planned. The hash of
the ledger covers all that decided the steps below `step` (`mixer.Ledger.history`), and is the one that the checkpoint's
position in the data holds. `revisions` are those that this run has heard of, superseded ones too.
"""

import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from composer import Callback, Logger, State

from mixer.plan import ORDER_VERSION
from trainer.config import Config
from trainer.feed import Feed
from trainer.record import Record
from trainer.sources import Sources

FORMAT = "switchpoint-provenance"
PACKAGES = ("switchpoint", "torch", "transformers", "mosaicml")


class Provenance(Callback):
    """Counts what is read (`record` has seen each batch by then) and keeps what does not change during a run."""

    def __init__(self, config: Config, sources: Sources, feed: Feed, record: Record, *, model: Any) -> None:
        self._feed = feed
        self._record = record
        self._step = 0
        self._tokens = dict.fromkeys(feed.names, 0)
        self._revisions: dict[int, Any] = {}
        self._fixed = {
            "run_name": config.run_name,
            "data_seed": config.data_seed,
            "corpora": {
                name: {"fingerprint": corpus.fingerprint, "num_samples": int(corpus.num_samples)}
                for name, corpus in sources.train.items()
            },
            "code": code_version(),
            "config": config.model_dump(mode="json", exclude={"service": {"token"}}, exclude_none=True),
            "model_config": model.config.to_dict(),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"json": json.dumps(self.value())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        saved = json.loads(state["json"])
        self._step = saved["step"]
        self._tokens |= {name: read["tokens"] for name, read in saved["composition"].items()}
        self._revisions = {revision["number"]: revision for revision in saved["ledger"]["revisions"]}

    def batch_end(self, state: State, logger: Logger) -> None:
        self._step = int(state.timestamp.batch)
        row = state.batch["tokens"].shape[1]
        for name, count in self._record.last["counts"].items():
            self._tokens[name] += count * row

    def value(self) -> dict[str, Any]:
        """As described above, at this moment. Changes nothing."""
        ledger = self._feed.ledger
        revisions = self._revisions | {revision.number: revision.to_dict() for revision in ledger.revisions}
        base = ledger.base
        context = self._feed.context(max(self._step - 1, 0))
        return {
            "format": FORMAT,
            "version": 1,
            "step": self._step,
            "context": {"seq_len": context.seq_len, "rope": context.rope.to_dict()},
            "composition": {
                name: {"samples": samples, "tokens": self._tokens[name]}
                for name, samples in self._record.totals.items()
            },
            "ledger": {
                "hash": ledger.history(max(self._step, ledger.past.step)),
                "revision": ledger.number,
                "base": {
                    "num_steps": base.num_steps,
                    "global_batch_size": base.global_batch_size,
                    "seq_len": base.seq_len,
                    "schedule": base.to_dict(),
                },
                "revisions": [revisions[number] for number in sorted(revisions)],
            },
            **self._fixed,
        }


def code_version() -> dict[str, Any]:
    """The versions that a run depends on, and, of a checkout, its commit, with a + where files differ from it."""
    found: dict[str, Any] = {"order_version": ORDER_VERSION}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    here = Path(__file__).parent
    try:
        answer = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True, timeout=10)
        found["commit"] = answer.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        found["commit"] = None
    return found
