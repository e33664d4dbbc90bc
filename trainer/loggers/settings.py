"""The section `loggers` of a configuration: no secrets, which each library reads from its own environment.

Imports none of the libraries.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from trainer.section import Section

Address = Annotated[str, Field(pattern=r"^[^@\s]+$")]  # credentials come from the environment


class TensorBoardConfig(Section):
    """Event files in `folder`, below the run's name."""

    folder: Path


class WandbConfig(Section):
    """A run of `project`; `offline` keeps it in `folder` (default: the working directory) for `wandb sync`."""

    project: str
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    offline: bool = False
    folder: Path | None = None


class MlflowConfig(Section):
    """A run of `experiment` at `tracking_uri`, as in sqlite:///mlflow.db (default: what MLflow's environment says)."""

    experiment: str
    tracking_uri: Address | None = None


class LoggersConfig(Section):
    """Any of these, each by its key; `jsonl` is a file with all metrics of a step in one line."""

    jsonl: Path | None = None
    tensorboard: TensorBoardConfig | None = None
    wandb: WandbConfig | None = None
    mlflow: MlflowConfig | None = None
