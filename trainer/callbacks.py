"""Which callbacks a run has, in the order in which they act on one event."""

import sys
from collections.abc import Mapping
from functools import lru_cache

import torch
from composer import Callback
from composer.utils import dist

from trainer.checkpoints.saving import Checkpoints
from trainer.config import Config
from trainer.context.follow import ContextLength
from trainer.dynamic import CorpusLosses, DynamicMixing
from trainer.evaluation.callback import HeldOut, rows_of_rank
from trainer.evaluation.settings import reference_of
from trainer.feed import Feed
from trainer.live import Link, Live, trainer_name
from trainer.loggers.terminal import Bar, StepLines
from trainer.models.causal_lm import CausalLM
from trainer.models.size import flops_per_token, peak_flops
from trainer.optimization.curve import curve_of
from trainer.optimization.optimizer import LearningRate
from trainer.provenance import Provenance
from trainer.record import MetricsFile, Record
from trainer.sources import Sources
from trainer.speed import Speed
from trainer.stopping import Stopping


def callbacks_of(config: Config, sources: Sources, feed: Feed, model: CausalLM, stopping: Stopping) -> list[Callback]:
    """Rate, context, record, evaluation, live schedule, dynamic mixing, checkpoints, stopping, in this order."""
    num_steps = config.num_steps
    file = MetricsFile(config.metrics_file)
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    speed = Speed(
        num_devices=dist.get_world_size(),
        num_tokens=config.base_schedule().num_tokens,
        flops_per_token=lru_cache(lambda seq_len: flops_per_token(config.model, seq_len)),
        peak_flops=peak_flops(torch.cuda.get_device_name()) if on_gpu else None,
    )
    record = Record(file, feed, interval=config.log_interval, speed=speed)
    rate = LearningRate(curve_of(config.lr_schedule, config.base_schedule()))
    lines = StepLines(record, interval=config.log_interval, num_steps=num_steps)
    planned = config.base_schedule().contexts
    context = ContextLength(model.model, feed.context, planned=planned, seq_len=config.seq_len)
    shown = Bar(record, num_steps=num_steps) if sys.stderr.isatty() else lines
    callbacks: list[Callback] = [rate, context, record, shown]
    held_out = None
    if config.eval:
        before_training = config.eval.before_training
        held_out = HeldOut(
            rows_of_rank(sources, config.eval, rank=dist.get_global_rank(), num_ranks=dist.get_world_size()),
            file=file,
            interval=config.steps(config.eval.interval),
            num_steps=num_steps,
            reference=reference_of(config),
            switchpoints=lambda: (*feed.switchpoints, 0) if before_training else feed.switchpoints,
        )
        callbacks.append(held_out)
    link = None
    if config.service:
        if dist.get_global_rank() == 0:
            link = Link(config.service, sources.definition, trainer=trainer_name(config))

        def report() -> tuple[Mapping[str, float], Mapping[str, int]]:
            return {**record.metrics, **(held_out.last if held_out else {})}, record.totals

        callbacks.append(Live(feed, link=link, config=config.service, report=report))
    if config.dynamic:
        losses = CorpusLosses(feed, model)
        mixing = DynamicMixing(config, feed, losses, file=file, definition=sources.definition, link=link)
        callbacks += [losses, mixing]
    if config.save_folder:
        callbacks.append(Provenance(config, sources, feed, record, model=model.model))
        # What an algorithm decides is many phases, of which the file's own are the ones to come back to.
        planned = config.base_schedule().switchpoints
        switchpoints = (lambda: planned) if config.dynamic else (lambda: feed.switchpoints)
        callbacks += [Checkpoints(config, switchpoints=switchpoints, stopping=stopping), stopping]
    return callbacks
