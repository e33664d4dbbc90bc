"""The sections `optimizer` and `lr_schedule` of a configuration. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.section import Duration, PositiveFloat, Section, Share


class OptimizerConfig(Section):
    """AdamW; `clip_norm` is the largest global norm of the gradient."""

    betas: tuple[Share, Share] = (0.9, 0.95)
    eps: PositiveFloat = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    clip_norm: PositiveFloat = 1.0


class LearningRateConfig(Section):
    """Linear warm-up to `peak`, cosine to `floor` at the end of the whole run."""

    peak: PositiveFloat
    floor: Annotated[float, Field(ge=0)] = 1e-6
    warmup: Duration = "0.1dur"
    kind: Literal["cosine"] = "cosine"
