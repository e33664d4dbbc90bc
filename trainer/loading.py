"""A YAML file and `key=value` overrides -> a `Config`, or every problem at once.

Guarantees: unknown and duplicate keys are errors, nothing is dropped or renormalised; `load` either returns a
`Config` that is consistent in itself or raises `ConfigError` with one line "message @ $.place.in.the[0].file" for
each problem. It reads nothing but that file and those it stands on (and, for a length in epochs, the corpus's index),
and imports neither torch nor composer, so it answers at once.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mixer import Schedule, ScheduleError
from mixer.batching import parse_num_steps
from mixer.errors import ProposingError
from trainer.checkpoints import settings as checkpoints
from trainer.config import PROPOSERS, Config, DynamicConfig
from trainer.errors import ConfigError
from trainer.evaluation import settings as evaluation
from trainer.finetuning.epochs import in_steps
from trainer.models.settings import problems as model_problems
from trainer.optimization import curve
from trainer.overrides import read_run
from trainer.section import UNION


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read `path`, apply `overrides` (see `overrides.read_run`), check everything; raises ConfigError."""
    raw = in_steps(read_run(path, overrides))
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems = [_describe(dict(item)) for item in error.errors()]
        raise ConfigError([*problems, *_mixture_problems(raw), *_schedule_problems(raw)]) from None
    if problems := [*_mixture_problems(raw), *_schedule_problems(raw), *_consistency_problems(config)]:
        raise ConfigError(problems)
    return config


def _describe(error: Mapping[str, Any]) -> str:
    """One pydantic error as "message @ $.place", with what was found."""
    place = _place(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {error['loc'][-1]!r}{_did_you_mean(error['loc'][-1], _all_keys(Config))} @ {place}"
    if error["type"] == "missing":
        return f"this key is missing @ {place}"
    if error["type"] == "unknown_kind":
        found = error["input"]
        error = {**error, "input": found.get("kind") if isinstance(found, Mapping) else found}
        place = f"{place}.kind"
    message = error["msg"][0].lower() + error["msg"][1:]
    found = "" if error["loc"][-1] == "token" else f", found {error['input']!r}"
    return f"{message}{found} @ {place}"


def _place(location: Sequence[str | int]) -> str:
    parts = [part for part in location if not str(part).startswith(UNION)]
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _did_you_mean(name: object, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1) if name not in known else []
    return f", did you mean {close[0]!r}?" if close else ""


def _all_keys(kind: Any) -> list[str]:
    """Every key that a configuration can hold, of all its sections, and of those that are parts of types."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return [key for part in get_args(kind) for key in _all_keys(part)]
    return [key for name, field in kind.model_fields.items() for key in (name, *_all_keys(field.annotation))]


def _mixture_problems(raw: Mapping[str, Any]) -> list[str]:
    """Names in mixtures, in `then` and in `dynamic`, that are no corpus of this configuration."""
    corpora, schedule = raw.get("corpora"), raw.get("schedule")
    if not isinstance(corpora, dict) or not corpora or not isinstance(schedule, dict):
        return []
    named = [*_names_in(schedule.get("phases"), "$.schedule.phases"), *_names_in_dynamic(raw.get("dynamic"))]
    for name, corpus in corpora.items():
        if isinstance(corpus, dict) and corpus.get("then", "refuse") != "refuse":
            named.append((corpus["then"], f"$.corpora.{name}.then"))
    known = sorted({*map(str, corpora), *_made_by_changes(schedule.get("changes"))})
    hint = f"; the corpora are {', '.join(known)}"
    return [
        f"unknown corpus {name!r}{_did_you_mean(name, known) or hint} @ {place}"
        for name, place in named
        if name not in known
    ]


def _made_by_changes(changes: Any) -> Iterator[str]:
    """Names that changes of the corpora make; malformed parts are skipped."""
    for change in changes if isinstance(changes, list) else []:
        corpora = change.get("corpora") if isinstance(change, dict) else None
        yield from map(str, corpora if isinstance(corpora, dict) else ())


def _names_in(phases: Any, place: str) -> Iterator[tuple[str, str]]:
    """(corpus name, its place) for every mixture of a list of phases, groups included; malformed parts are skipped."""
    for index, phase in enumerate(phases if isinstance(phases, list) else []):
        if isinstance(phase, dict):
            yield from _names_in_mixture(phase.get("mixture"), f"{place}[{index}].mixture")


def _names_in_mixture(mixture: Any, place: str) -> Iterator[tuple[str, str]]:
    for name, weight in mixture.items() if isinstance(mixture, dict) else ():
        if isinstance(weight, dict):
            yield from _names_in_mixture(weight.get("parts"), f"{place}.{name}.parts")
        else:
            yield name, f"{place}.{name}"


def _names_in_dynamic(dynamic: Any) -> Iterator[tuple[str, str]]:
    """(corpus name, its place) wherever dynamic mixing names one; malformed parts are skipped."""
    for section, keys in (("rails", ("ranges", "fixed")), ("settings", ("prior", "references"))):
        values = dynamic.get(section) if isinstance(dynamic, dict) else None
        for key in keys if isinstance(values, dict) else ():
            names = values.get(key)
            for name in names if isinstance(names, dict | list) else ():
                yield str(name), f"$.dynamic.{section}.{key}"


def _schedule_problems(raw: Mapping[str, Any]) -> list[str]:
    """What mixer finds wrong with the schedule; nothing where the run's length is itself wrong (reported elsewhere)."""
    batch, seq_len, schedule = (raw.get(key) for key in ("global_batch_size", "seq_len", "schedule"))
    if not (isinstance(batch, int) and isinstance(seq_len, int) and batch > 0 and seq_len > 0):
        return []
    try:
        sizes = {"global_batch_size": batch, "seq_len": seq_len}
        written = schedule if isinstance(schedule, dict) else {}
        rows = {name: written.get(name, ()) for name in ("batch_sizes", "phases")}
        num_steps = parse_num_steps(raw.get("max_duration"), **sizes, **rows)
        Schedule.from_dict(schedule, num_steps=num_steps, **sizes, place="$.schedule")
    except ScheduleError as error:
        return error.problems
    except ValueError:
        pass
    return []


def _consistency_problems(config: Config) -> list[str]:
    """What single keys cannot know: lengths of time, and numbers that must fit each other."""
    problems = [*_length_problems(config), *curve.problems(config), *evaluation.problems(config)]
    if config.dynamic and not problems:
        problems += _dynamic_problems(config, config.dynamic)
    problems += model_problems(config)
    problems += checkpoints.problems(config)
    if config.service:
        if not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", config.service.url):
            problems.append("must be an address like http://127.0.0.1:8321, and no token in it @ $.service.url")
        least = config.service.sync_interval + config.num_batches_ahead
        if config.service.lead < least:
            problems.append(
                f"must be at least {least}, which is sync_interval + the batches that the {config.num_workers} workers "
                f"fetch ahead ({config.num_batches_ahead}), found {config.service.lead} @ $.service.lead"
            )
    return problems


def _dynamic_problems(config: Config, dynamic: DynamicConfig) -> list[str]:
    """Settings and guard rails that cannot be used, and a lead within what the loader's workers have fetched."""
    problems = _settings_problems(dynamic)
    try:
        config.rails(dynamic.rails).check(config.base_schedule())
    except ProposingError as error:
        problems += [f"{problem} @ $.dynamic.rails" for problem in error.problems]
    least = 1 + config.num_batches_ahead
    if dynamic.lead < least:
        problems.append(
            f"must be at least {least}, one more than the batches that the {config.num_workers} workers fetch ahead "
            f"({config.num_batches_ahead}), found {dynamic.lead} @ $.dynamic.lead"
        )
    if config.save_folder is None and config.service is None:
        problems.append("what dynamic mixing decides is kept in save_folder, which is not given @ $.dynamic")
    return problems


def _settings_problems(dynamic: DynamicConfig) -> list[str]:
    known = [field.name for field in dataclasses.fields(PROPOSERS[dynamic.proposer])]
    hint = f"; {dynamic.proposer} has {', '.join(known)}"
    problems = [
        f"unknown setting {name!r}{_did_you_mean(name, known) or hint} @ $.dynamic.settings.{name}"
        for name in dynamic.settings
        if name not in known
    ]
    try:
        dynamic.make_proposer()
    except ValidationError as error:
        place = ("dynamic", "settings")
        problems += [_describe({**item, "loc": (*place, *item["loc"])}) for item in error.errors()]
    except ProposingError as error:
        problems += [f"{problem} @ $.dynamic.settings" for problem in error.problems]
    return problems


def _length_problems(config: Config) -> list[str]:
    """Lengths of time that are none, or less than a step; of `max_duration` first, since others refer to it."""
    lengths = {"max_duration": config.max_duration}
    try:
        config.num_steps  # noqa: B018  (a property that raises)
        lengths |= {"save_interval": config.save_interval}
        lengths |= {"eval.interval": config.eval.interval} if config.eval else {}
        lengths |= _dynamic_lengths(config.dynamic) if config.dynamic else {}
    except (ValueError, ScheduleError):
        pass
    problems = []
    for key, length in lengths.items():
        try:
            if config.steps(length) < 1 and not key.endswith("cool_down"):
                problems.append(f"must be at least one step, found {length!r} @ $.{key}")
        except ValueError as error:
            problems.append(f"{error} @ $.{key}")
        except ScheduleError:
            pass  # told already
    return problems


def _dynamic_lengths(dynamic: DynamicConfig) -> dict[str, str | int]:
    rails = dynamic.rails
    ramp = {"dynamic.rails.ramp.length": rails.ramp.length} if rails.ramp else {}
    return {"dynamic.every": dynamic.every, "dynamic.rails.cool_down": rails.cool_down, **ramp}
