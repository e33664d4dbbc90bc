"""The destinations of metrics that a configuration asks for (`trainer.loggers.destination`); libraries on use alone."""

import importlib.util
import json
import logging
import secrets
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from composer.loggers import LoggerDestination

from trainer.config import Config
from trainer.errors import ConfigError
from trainer.loggers.destination import Destination, now_ms
from trainer.loggers.settings import MlflowConfig, WandbConfig
from trainer.record import MetricsFile
from trainer.summary import as_values

log = logging.getLogger(__name__)

MLFLOW_BATCH = 1000  # most metrics, and most parameters are a tenth of it, that MLflow takes at once
MLFLOW_VALUE = 6000  # longest value of a parameter


def destinations(config: Config) -> list[LoggerDestination]:
    """One for each key of the section `loggers`; raises ConfigError where a library is not installed."""
    name, wanted, values = config.run_name, config.loggers, as_values(config)
    problems = []
    for key in ("tensorboard", "wandb", "mlflow"):
        if getattr(wanted, key) and importlib.util.find_spec(key) is None:
            problems.append(f"{key} is not installed: install switchpoint[loggers] @ $.loggers.{key}")
    if problems:
        raise ConfigError(problems)
    made: list[LoggerDestination] = []
    if wanted.jsonl:
        made.append(JsonLines(name, wanted.jsonl))
    if wanted.tensorboard:
        made.append(TensorBoard(name, wanted.tensorboard.folder))
    if wanted.wandb:
        made.append(Wandb(name, wanted.wandb, values))
    if wanted.mlflow:
        made.append(Mlflow(name, wanted.mlflow, values))
    return made


class JsonLines(Destination):
    """{"step": 12, "lr": 0.0003, …}; where a checkpoint was saved amid a step, its metrics stand in two lines."""

    def __init__(self, run_name: str, path: Path) -> None:
        super().__init__(run_name)
        self._path = path

    def start(self, step: int) -> None:
        self._file = MetricsFile(self._path)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._file.write({"step": step, **metrics})

    def finish(self, *, complete: bool) -> None:
        pass


class TensorBoard(Destination):
    """Event files, a new one at each start; of steps that are trained again TensorBoard forgets the first time."""

    def __init__(self, run_name: str, folder: Path) -> None:
        super().__init__(run_name)
        self._folder = folder / run_name

    def start(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # evaluations after `step` steps bear that number and are not made again, so what follows them is forgotten
        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1 if step else None, flush_secs=10)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def sync(self) -> None:
        self._writer.flush()

    def finish(self, *, complete: bool) -> None:
        self._writer.close()


class Wandb(Destination):
    """A run of Weights & Biases; the axis of all metrics is `step`, since its own step never goes back."""

    def __init__(self, run_name: str, config: WandbConfig, values: Mapping[str, Any]) -> None:
        super().__init__(run_name)
        self._config = config
        self._values = values

    def start(self, step: int) -> None:
        import wandb

        config = self._config
        self.run_id = self.run_id or secrets.token_hex(8)
        if config.folder:
            config.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=config.project,
            entity=config.entity,
            group=config.group,
            tags=config.tags,
            name=self.run_name,
            id=self.run_id,
            resume="allow",
            dir=config.folder,
            mode="offline" if config.offline else None,
            config=dict(self._values),
            allow_val_change=True,
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({"step": step, **metrics})

    def finish(self, *, complete: bool) -> None:
        self._run.finish(exit_code=0 if complete else 1)


class Mlflow(Destination):
    """A run of MLflow. Metrics go out in the background; a server that is away loses metrics and stops nothing."""

    def __init__(self, run_name: str, config: MlflowConfig, values: Mapping[str, Any]) -> None:
        super().__init__(run_name)
        self._experiment = config.experiment
        self._uri = config.tracking_uri
        self._values = values
        self._metrics: list[Any] = []
        self._sent_ms = 0
        self._on_the_way: deque[Any] = deque(maxlen=20)  # they arrive in the order in which they were sent

    def start(self, step: int) -> None:
        from mlflow import MlflowClient, MlflowException
        from mlflow.entities import Param

        try:
            self._client = MlflowClient(tracking_uri=self._uri)
            experiment = self._client.get_experiment_by_name(self._experiment)
            number = experiment.experiment_id if experiment else self._client.create_experiment(self._experiment)
            if self.run_id is None:
                self.run_id = self._client.create_run(number, run_name=self.run_name).info.run_id
            self._client.update_run(self.run_id, status="RUNNING")
            known = self._client.get_run(self.run_id).data.params
        except MlflowException as error:
            raise ConfigError([f"{str(error).splitlines()[0]} @ $.loggers.mlflow"]) from error
        # a parameter cannot change: those of the first start stay, of later ones only new keys are added
        params = [Param(key, value[:MLFLOW_VALUE]) for key, value in flat(self._values) if key not in known]
        for first in range(0, len(params), MLFLOW_BATCH // 10):
            self._client.log_batch(self.run_id, params=params[first : first + MLFLOW_BATCH // 10])

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = now_ms()
        self._metrics += [Metric(name, value, now, step) for name, value in metrics.items()]
        if len(self._metrics) >= MLFLOW_BATCH // 2 or now > self._sent_ms + 5000:
            self._send(synchronous=False)
            self._sent_ms = now

    def sync(self) -> None:
        from mlflow import MlflowException

        try:
            while self._on_the_way:
                self._on_the_way.popleft().wait()
            self._send(synchronous=True)
        except MlflowException as error:
            log.warning("MLflow has not got all metrics: %s", str(error).splitlines()[0])

    def finish(self, *, complete: bool) -> None:
        from mlflow import MlflowException

        self.sync()
        try:
            self._client.set_terminated(self.run_id, status="FINISHED" if complete else "FAILED")
        except MlflowException as error:
            log.warning("MLflow does not know that the run has ended: %s", str(error).splitlines()[0])

    def _send(self, *, synchronous: bool) -> None:
        metrics, self._metrics = self._metrics, []
        for first in range(0, len(metrics), MLFLOW_BATCH):
            part = metrics[first : first + MLFLOW_BATCH]
            sent = self._client.log_batch(self.run_id, metrics=part, synchronous=synchronous)
            if sent is not None:
                self._on_the_way.append(sent)


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value as text) of a configuration; lists as JSON."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value if isinstance(value, str) else json.dumps(value)
