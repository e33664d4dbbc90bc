"""Reading YAML as people write it: safe, UTF-8, and a key that stands twice is an error instead of being forgotten."""

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


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises MixerError, one line."""
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MixerError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MixerError(f"{path} is not usable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise MixerError(f"{path} must hold a mapping of keys to values, found {type(value).__name__}")
    return value


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
