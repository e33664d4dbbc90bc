"""What a run will do, as text, before it does it: derived quantities, the schedule and the forecast.

Arithmetic only: no torch, no composer, nothing is read but what `Sources` already holds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from mixer.plot import Curve, plot_plan
from trainer.config import Config
from trainer.errors import ConfigError
from trainer.evaluation import settings as evaluation
from trainer.models.lines import lines as model_lines
from trainer.optimization import curve
from trainer.sources import Sources


def describe(config: Config, sources: Sources) -> str:
    """The page that `--dry-run` prints and that every run prints before training."""
    return "\n".join([*_quantities(config), *_schedule(config), *_forecast(sources)])


def as_yaml(config: Config) -> str:
    """The whole configuration with every default, as a YAML file that gives the same run; without the token."""
    return yaml.safe_dump(as_values(config), sort_keys=False, allow_unicode=True).rstrip()


def as_values(config: Config) -> dict[str, Any]:
    """What that file says, as plain values; without the token."""
    return config.model_dump(mode="json", exclude={"service": {"token"}}, exclude_none=True)


def plot(config: Config, sources: Sources, path: Path) -> None:
    """A picture of the mixture, the learning rate and the batch size of every step; raises ConfigError, MixerError."""
    steps, rates = curve.points(curve.curve_of(config.lr_schedule, config.base_schedule()), config.num_steps)
    ungrouped = replace(sources, config=config.model_copy(update={"num_groups": 1}))  # reads as much of each corpus
    try:
        plot_plan(ungrouped.plan(), path, title=config.run_name, curve=Curve("learning rate", steps, rates))
    except OSError as error:
        raise ConfigError([str(error)]) from error


def _quantities(config: Config) -> Iterator[str]:
    schedule = config.base_schedule()
    yield f"run             {config.run_name}"
    yield from model_lines(config, schedule.num_tokens)
    yield f"tokens / step   {config.global_batch_size:,} × {config.seq_len:,} = {config.tokens_per_step:,}"
    for step in sorted({row.start for row in schedule.batch_sizes} | {p.start for p in schedule.phases if p.seq_len}):
        size, seq_len = schedule.batch_size(step), schedule.context(step).seq_len
        yield f"  from {step:,}ba{'':<4}{size:,} × {seq_len:,} = {size * seq_len:,}"
    if not config.attention_across_documents:
        yield "attention       within documents"
    yield f"tokens / run    {config.num_steps:,} steps, {schedule.num_tokens:,}"
    yield from curve.lines(config)
    yield from evaluation.lines(config)
    if config.save_folder:
        yield f"checkpoints     every {config.steps(config.save_interval):,} steps in {config.save_folder}"
    if config.service:
        yield f"live schedule   {config.service.url}, every {config.service.sync_interval} steps"
    if names := ", ".join(config.loggers.model_dump(exclude_none=True)):
        yield f"metrics to      {names}"
    if config.dynamic:
        yield (
            f"dynamic mixing  {config.dynamic.proposer}, every {config.steps(config.dynamic.every):,} steps, "
            f"in force {config.dynamic.lead:,} steps later"
        )


def _schedule(config: Config) -> Iterator[str]:
    schedule = config.base_schedule()
    yield "schedule"
    for phase in schedule.to_dict()["phases"]:
        ramp = phase.get("ramp")
        over = f"  ({ramp['shape']} over {ramp['length']})" if ramp else ""
        yield f"  from {phase['start']:<12}{_mixture(phase['mixture'])}{over}{_context(phase)}"


def _mixture(mixture: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {weight:g}" for name, weight in mixture.items())


def _context(phase: Mapping[str, Any]) -> str:
    """What a phase says of its rows and positions; nothing where they go on."""
    length = f"  rows of {phase['seq_len']:,} tokens" if "seq_len" in phase else ""
    rope = ", ".join(f"{key} {value}" for key, value in phase.get("rope", {}).items())
    return length + (f"  rope: {rope}" if rope else "")


def _forecast(sources: Sources) -> Iterator[str]:
    """Samples, tokens and epochs of each corpus by the end of the run; a warning for each that repeats."""
    plan = sources.plan()
    forecast = plan.forecast()
    width = max(len(name) for name in forecast)
    yield "forecast for the whole run"
    for name, corpus in forecast.items():
        yield (
            f"  {name:<{width}}  {corpus.samples:>15,} samples  {corpus.tokens:>19,} tokens  "
            f"{corpus.epochs:>8.3f} epochs of {plan.num_readable(name):,}"
        )
    for name, corpus in forecast.items():
        if corpus.first_repeat_step is not None:
            yield (
                f"warning: {name} repeats from step {corpus.first_repeat_step:,} on; it would not if it began at step "
                f"{corpus.earliest_start:,} or later, or with an average weight of at most {corpus.largest_weight:.4f}"
            )
