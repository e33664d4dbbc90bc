"""The sections `optimizer` and `lr_schedule` of a configuration. Imports no torch."""

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from trainer.optimization.schedules import Shape
from trainer.section import UNION, Duration, PositiveFloat, Section, Share

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class GroupConfig(Section):
    """Parameters with settings of their own: those whose name holds `match`, a regular expression.

    `weight_decay` replaces the optimizer's; `lr_scale` is a factor on the learning rate of every step.
    """

    match: re.Pattern[str]
    weight_decay: Rate | None = None
    lr_scale: PositiveFloat = 1.0


class OptimizerConfig(Section):
    """AdamW; `clip_norm` is the largest global norm of the gradient.

    Decay is decoupled as in torch's AdamW: each step takes lr x `weight_decay` x the weight. It acts on matrices; norms
    and biases have none, nor have embeddings unless `decay_embeddings`. A parameter belongs to the first of `groups`
    that matches its name.
    """

    betas: tuple[Share, Share] = (0.9, 0.95)
    eps: PositiveFloat = 1e-8
    weight_decay: Rate = 0.1
    decay_embeddings: bool = True
    groups: tuple[GroupConfig, ...] = ()
    clip_norm: PositiveFloat = 1.0


class _WarmUp(Section):
    """Linear warm-up to `peak`, which the last step of `warmup` has; "0ba" for none."""

    peak: PositiveFloat
    warmup: Duration = "0.1dur"


class CosineRate(_WarmUp):
    """Then a cosine to `floor` at the end of the whole run."""

    floor: Rate = 1e-6
    kind: Literal["cosine"] = "cosine"


class LinearRate(_WarmUp):
    """Then a straight line to `floor` at the end of the whole run."""

    kind: Literal["linear"]
    floor: Rate = 1e-6


class ExponentialRate(_WarmUp):
    """Then to `floor` at the end of the whole run, by the same factor in each step."""

    kind: Literal["exponential"]
    floor: PositiveFloat = 1e-6


class ConstantRate(_WarmUp):
    """Then `peak` to the end."""

    kind: Literal["constant"]


class WsdRate(_WarmUp):
    """Warm-up, stable, decay: `peak` until `decay_start`, then by `shape` to `floor` at the end of the whole run.

    `decay_start` is a time, or "switchpoint", the last of the schedule in the file, or "switchpoint 1", the first.
    """

    kind: Literal["wsd"]
    decay_start: Duration
    shape: Shape = "one_minus_sqrt"
    floor: Rate = 1e-6


class PieceConfig(Section):
    """From `start` (a time or a switchpoint) until the next piece: from the rate before it by `kind` to the rate `to`.

    A constant piece goes on with the rate before it, or jumps to `to`.
    """

    start: Duration
    kind: Literal["linear", "cosine", "exponential", "one_minus_sqrt", "constant"]
    to: Rate | None = None


class MultiPhaseRate(Section):
    """Any curve, piece by piece; before the first the rate is 0, so a warm-up is a linear piece."""

    kind: Literal["multi_phase"]
    pieces: tuple[PieceConfig, ...]


def _kind(value: Any) -> str:
    kind = value.get("kind", "cosine") if isinstance(value, dict) else getattr(value, "kind", "cosine")
    return f"{UNION}{kind}"


KINDS = ("cosine", "linear", "exponential", "constant", "wsd", "multi_phase")
LearningRateConfig = Annotated[
    Annotated[CosineRate, Tag(f"{UNION}cosine")]
    | Annotated[LinearRate, Tag(f"{UNION}linear")]
    | Annotated[ExponentialRate, Tag(f"{UNION}exponential")]
    | Annotated[ConstantRate, Tag(f"{UNION}constant")]
    | Annotated[WsdRate, Tag(f"{UNION}wsd")]
    | Annotated[MultiPhaseRate, Tag(f"{UNION}multi_phase")],
    Discriminator(
        _kind,
        custom_error_type="unknown_kind",
        custom_error_message=f"Kind must be one of {', '.join(KINDS)}",
    ),
]
