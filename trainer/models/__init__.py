"""The model: its configuration, its size by arithmetic, and what Composer trains.

`build_model` is `trainer.models.causal_lm.build_model`; torch is imported when it is first asked for, and `settings`
and `size` need none.
"""

from typing import Any

__all__ = ["build_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trainer.models.causal_lm import build_model

    return build_model
