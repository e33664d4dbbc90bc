"""Reading YAML as people write it: safe, UTF-8, and a key that stands twice is an error instead of being forgotten.

The file of a run may stand on others: `base: other.yaml`, or `base: [first.yaml, second.yaml]`, relative to the folder
of the file that says so. It is then what its bases hold, from the first to the last, with its own keys over them.
Sections are merged key by key; everything else, lists such as `schedule.phases` included, is replaced whole.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mixer.errors import MixerError


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.YAMLError(f"the key {key!r} stands twice in one section, again in line {_line(key_node)}")
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises yaml.YAMLError."""
    return yaml.load(text, _UniqueKeys)


def read_mapping(path: Path, *, above: Sequence[Path] = ()) -> dict[str, Any]:
    """The mapping that a YAML file holds, its bases included. Raises MixerError, one line.

    `above`: the files that stand on this one, outermost first.
    """
    value = _read_one(path, above)
    bases = value.pop("base", [])
    names = [bases] if isinstance(bases, str) else bases
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise MixerError(f"{path} must name its bases by their files, as in base: other.yaml, found {bases!r} @ $.base")
    whole: dict[str, Any] = {}
    for name in names:
        base = path.parent / name
        if base.resolve() in (known.resolve() for known in (*above, path)):
            raise MixerError(f"{path} names {base} as its base, which stands on {path} itself @ $.base")
        whole = merged(whole, read_mapping(base, above=(*above, path)))
    return merged(whole, value)


def merged(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `below`: sections key by key, every other value replaced whole. Changes neither."""
    whole = dict(below)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = merged(whole[key], value) if both else value
    return whole


def fill_names(value: Any, names: Mapping[str, str]) -> Any:
    """`value` with each `{name}` of `names` in its texts replaced; other braces stay. Changes nothing in place."""
    if isinstance(value, str):
        return re.sub(r"\{([a-z._]+)\}", lambda found: names.get(found[1], found[0]), value)
    if isinstance(value, dict):
        return {key: fill_names(one, names) for key, one in value.items()}
    return [fill_names(one, names) for one in value] if isinstance(value, list) else value


def name_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's mapping, in which `{model.name}` and `{run_name}` stand for the model's and the run's name.

    So one file serves models of several sizes without their outputs getting into each other's way.
    """
    model = config.get("model")
    model = model.get("name") if isinstance(model, dict) else model
    whole: dict[str, Any] = dict(config)
    if isinstance(model, str):
        whole = fill_names(whole, {"model.name": model.rstrip("/").rpartition("/")[2]})
    name = whole.get("run_name")
    return fill_names(whole, {"run_name": name}) if isinstance(name, str) else whole


def _read_one(path: Path, above: Sequence[Path]) -> dict[str, Any]:
    asked = f", the base of {above[-1]}" if above else ""
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MixerError(f"cannot read {path}{asked}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MixerError(f"{path}{asked} is not usable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise MixerError(f"{path}{asked} must hold a mapping of keys to values, found {type(value).__name__}")
    return value


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
