"""A Hugging Face model's rotary embedding, set to a scaling between two steps.

What is changed: `inv_freq`, `original_inv_freq` and `attention_scaling` of every rotary module, in place, so that
compiled and wrapped models see it; and the model's configuration, so that what `save_pretrained` writes loads
elsewhere with the same positions. Nothing of it is in a checkpoint: it follows from the step (`context.follow`).
"""

import logging
import math
from typing import Any

import torch
from torch import nn

from mixer.context import Context, Rope
from trainer.context.rope import Turning, turning
from trainer.errors import ConfigError

log = logging.getLogger(__name__)

BASES = ("rope_theta", "rotary_emb_base")  # what configurations of transformers 4 call it


class Rotary:
    """The rotary embedding of `model`, which was made for rows of `seq_len` tokens.

    A model that has none, or one that is scaled already, keeps what it has: `check` refuses a scaling for it.
    """

    def __init__(self, model: nn.Module, *, seq_len: int) -> None:
        self._config: Any = model.config
        self._seq_len = seq_len
        self._longest = getattr(self._config, "max_position_embeddings", None)
        self._parts: list[Any] = [m for m in model.modules() if hasattr(m, "inv_freq") and hasattr(m, "rope_type")]
        self._base, self._kind = _of(self._config)

    def set(self, context: Context) -> None:
        """Positions as `context` has them, in rows of its length."""
        self.check(context)
        if self._longest is not None:
            self._config.max_position_embeddings = max(self._longest, context.seq_len)
        if self._parts and self._kind == "default":
            self._turn(context.rope)

    def _turn(self, rope: Rope) -> None:
        for part in self._parts:
            found = turning(rope, base=self._base, dim=2 * len(part.inv_freq), seq_len=self._seq_len)
            with torch.no_grad():
                for name in ("inv_freq", "original_inv_freq"):
                    buffer = getattr(part, name)
                    buffer.copy_(torch.tensor(found.inv_freq, dtype=buffer.dtype))
            part.attention_scaling = found.attention_factor
        self._write(rope, found)

    def _write(self, rope: Rope, found: Turning) -> None:
        """Into the model's configuration, in the form of the transformers that is installed."""
        scaling = _scaling(rope, found, rope.original_seq_len or self._seq_len)
        if hasattr(self._config, "rope_parameters"):  # transformers 5
            kept = {k: v for k, v in self._config.rope_parameters.items() if k in ("partial_rotary_factor",)}
            plainly = {"rope_type": "default"}
            self._config.rope_parameters = {**kept, **(scaling or plainly), "rope_theta": found.base}
            return
        self._config.rope_scaling = scaling
        for name in BASES:
            if hasattr(self._config, name):
                setattr(self._config, name, found.base)
        if scaling and not _can_be_read(self._config):
            self._config.rope_scaling = {"type": scaling["rope_type"], "factor": scaling["factor"]}  # as it once was
            if not _can_be_read(self._config):
                self._config.rope_scaling = scaling
                log.warning("%s of this transformers does not load a rope of kind %s", type(self._config), rope.kind)

    def check(self, context: Context) -> None:
        """Raise ConfigError where the model cannot be set to `context`."""
        if not self._parts and self._longest is not None and context.seq_len > self._longest:
            raise ConfigError([f"the model has {self._longest} positions, rows have {context.seq_len} @ $.model"])
        if context.rope.kind == "none":
            return
        if not self._parts:
            raise ConfigError(["the model has no rotary embedding: leave 'rope' out of the phases @ $.schedule.phases"])
        if self._kind != "default" or not math.isfinite(self._base):
            raise ConfigError(
                [f"the model's rotary embedding is of type {self._kind} already: leave 'rope' out @ $.schedule.phases"]
            )


def _of(config: Any) -> tuple[float, str]:
    """Base and type of the embedding that a configuration describes; a type of "several" where layers differ."""
    parameters = getattr(config, "rope_parameters", None)
    if parameters is not None:
        return parameters.get("rope_theta", math.nan), str(parameters.get("rope_type", "several"))
    scaling = getattr(config, "rope_scaling", None) or {}
    base = next((getattr(config, name) for name in BASES if hasattr(config, name)), math.nan)
    return float(base), str(scaling.get("rope_type", scaling.get("type", "default")))


def _can_be_read(config: Any) -> bool:
    """Whether its class takes what it writes: some of transformers 4 know few kinds of scaling."""
    try:
        type(config).from_dict(config.to_dict())
    except ValueError:
        return False
    return True


def _scaling(rope: Rope, found: Turning, original: int) -> dict[str, Any] | None:
    """What transformers calls `rope_scaling`; None where frequencies are plain ones, of whichever base."""
    if rope.kind == "linear":
        return {"rope_type": "linear", "factor": rope.factor}
    if rope.kind == "yarn":
        return {
            "rope_type": "yarn",
            "factor": rope.factor,
            "original_max_position_embeddings": original,
            "beta_fast": rope.beta_fast,
            "beta_slow": rope.beta_slow,
            "attention_factor": found.attention_factor,
        }
    return None
