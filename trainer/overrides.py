"""What the command line says of a run: its file, and what is laid over it, as one mapping that is not yet checked.

    cfg.yaml 160m.yaml corpora.c4.local=/data/c4 eval.interval=50ba

Each override is a further file, laid over what stands before it as a file over its base (`mixer.yamlfile`), or one key
with its new value. Imports neither torch nor composer.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mixer import MixerError
from mixer.yamlfile import merged, name_run, parse_yaml, read_mapping
from trainer.errors import ConfigError


def read_run(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The mapping in `path` with `overrides` applied from the first to the last; raises ConfigError."""
    try:
        raw = read_mapping(path)
        for override in overrides:
            if re.fullmatch(r"[^=]+\.ya?ml", override):
                raw = merged(raw, read_mapping(Path(override)))
            else:
                _apply(raw, override)
    except MixerError as error:
        raise ConfigError([str(error)]) from None
    return name_run(raw)


def _apply(raw: dict[str, Any], override: str) -> None:
    """Set one dotted key; list places as `[1]` or `.1`; the value is YAML. Missing sections are made."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError([f"the override {override!r} must be key=value, as in global_batch_size=64"])
    *parents, last = [part for part in re.split(r"[.\[\]]", key) if part]
    try:
        node: Any = raw
        for part in parents:
            if part == "model" and isinstance(node.get(part), str):
                node[part] = {"name": node[part]}  # the short form, given by its name alone
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[int(last) if isinstance(node, list) else last] = parse_yaml(value)
    except (IndexError, ValueError, TypeError, AttributeError):
        raise ConfigError([f"the override {override!r} names no place in the configuration @ $.{key}"]) from None
    except yaml.YAMLError:
        raise ConfigError([f"the value of the override {override!r} is not YAML @ $.{key}"]) from None
