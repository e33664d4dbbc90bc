"""Reading recipe files: YAML to a `Recipe`, with every problem of a file named by its key."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    model_validator,
)

from mixer.errors import MixerError
from mixer.yamlfile import read_mapping
from shards.errors import CallError
from shards.templates import Template

__all__ = ["HubFiles", "Recipe", "find_recipe", "find_recipes", "recipe_names"]

_FOLDER = Path(__file__).parent
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """Files of a data set on the hub; `files` are globs within it, `revision` None for its main one."""

    hub: str
    revision: str | None
    files: tuple[str, ...]

    @property
    def urls(self) -> list[str]:
        """The inputs that these files are, in order."""
        at = f"@{self.revision}" if self.revision else ""
        return [f"hf://datasets/{self.hub}{at}/{file}" for file in self.files]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one corpus is made, or of which parts several are.

    Attributes:
        name: of the corpus.
        description, licence: for people; empty where the file has none.
        tokens: expected, by the GPT-NeoX tokenizer; None if unknown.
        inputs: paths (absolute, or relative to the working directory) and URLs, in order; `sources` after them.
        sources: what of it lies on the hub.
        template: makes text of a record.
        mask_prompt: whether finetuning on it leaves prompts out of the loss.
        options: `seq_len`, `holdout`, `rows`, `on_error`, `compression` and `curation`, those that the file has.
        parts: names of the recipes that this one stands for; then it has no inputs.
        place: of the file.
    """

    name: str
    description: str
    licence: str
    tokens: int | None
    inputs: tuple[str, ...]
    sources: tuple[HubFiles, ...]
    template: Template
    mask_prompt: bool
    options: dict[str, Any]
    parts: tuple[str, ...]
    place: str

    @property
    def all_inputs(self) -> list[str]:
        """What to convert when nothing else is named: `inputs`, then the files of `sources`."""
        return [*self.inputs, *(url for source in self.sources for url in source.urls)]

    def settings(self, inputs: Sequence[str] = ()) -> dict[str, Any]:
        """The fields of a `Conversion` that the recipe decides; `inputs`, if there are any, in place of its own.

        Raises:
            CallError: it has no inputs, and none are given.
        """
        found = list(inputs) or self.all_inputs
        if not found:
            raise CallError(f"recipe {self.name} says of no place where it lies ({self.place}); name its files")
        return {"corpus": self.name, "inputs": found, "template": self.template, **self.options}


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def find_recipes(name: str) -> list[Recipe]:
    """The recipe `name` (of a shipped one, or the path of a file), or those of its parts. Raises CallError."""
    recipe = find_recipe(name)
    return [find_recipe(part) for part in recipe.parts] or [recipe]


def find_recipe(name: str) -> Recipe:
    """The recipe `name`: of a shipped one, or the path of a file. Raises CallError: there is none, or it is wrong."""
    if name in recipe_names():
        return _shipped(name)
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        close = difflib.get_close_matches(name, recipe_names(), n=1)
        meant = f", did you mean {close[0]!r}?" if close else ""
        raise CallError(f"no recipe {name!r}{meant}; known: {', '.join(recipe_names())}; or the path of a .yaml file")
    return _read(path)


@cache
def _shipped(name: str) -> Recipe:
    return _read(_FOLDER / f"{name}.yaml")


def _count(value: Any) -> Any:
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMBT]?)", value.strip())):
        return round(float(match[1]) * _UNITS[match[2]])
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[list[Annotated[StrictStr, Field(min_length=1)]], BeforeValidator(_as_list), Field(min_length=1)]


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Source(_Keys):
    hub: Annotated[StrictStr, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: StrictStr | None = None
    files: Texts


class _File(_Keys):
    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None = None
    description: StrictStr = ""
    licence: StrictStr = ""
    tokens: Annotated[int, BeforeValidator(_count), Field(strict=True, gt=0)] | None = None
    inputs: Texts | None = None
    sources: Annotated[list[_Source], Field(min_length=1)] | None = None
    template: Texts = ["{text}"]
    mask_prompt: StrictBool = False
    parts: Texts | None = None
    rows: Literal["packed", "best-fit", "examples"] | None = None
    seq_len: Annotated[int, Field(strict=True, ge=1)] | None = None
    holdout: Annotated[float, Field(ge=0, lt=1)] | None = None
    on_error: Literal["stop", "skip"] | None = None
    compression: Literal["zstd"] | None = None
    curation: Any = None  # read by shards.curation

    @model_validator(mode="after")
    def _one_or_many(self) -> _File:
        if self.parts and (self.inputs or self.sources):
            raise ValueError("a recipe of 'parts' has no 'inputs' or 'sources' of its own")
        return self


_OPTIONS = ("rows", "seq_len", "holdout", "on_error", "compression", "curation")


def _read(path: Path) -> Recipe:
    try:
        value = read_mapping(path)
    except MixerError as error:
        raise CallError(str(error), path=str(path)) from None
    try:
        keys = _File.model_validate(value)
    except ValidationError as error:
        problems = "; ".join(_describe(dict(item)) for item in error.errors())
        raise CallError(f"{path}: {problems}", path=str(path)) from None
    name = keys.name or path.stem
    try:
        template = Template(name, tuple(keys.template))
    except CallError as error:
        raise CallError(f"{path}: {error} @ $.template", path=str(path)) from None
    for part in keys.parts or ():
        if part not in recipe_names():
            raise CallError(f"{path}: {part!r} is no shipped recipe; known: {', '.join(recipe_names())} @ $.parts")
    return Recipe(
        name=name,
        description=" ".join(keys.description.split()),
        licence=" ".join(keys.licence.split()),
        tokens=keys.tokens,
        inputs=tuple(_beside(path, text) for text in keys.inputs or ()),
        sources=tuple(
            HubFiles(hub=source.hub, revision=source.revision, files=tuple(source.files))
            for source in keys.sources or ()
        ),
        template=template,
        mask_prompt=keys.mask_prompt,
        options={key: found for key in _OPTIONS if (found := getattr(keys, key)) is not None},
        parts=tuple(keys.parts or ()),
        place=str(path),
    )


def _beside(path: Path, text: str) -> str:
    return text if "://" in text else os.path.normpath(path.parent / text)


def _describe(error: dict[str, Any]) -> str:
    place = "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = [*_File.model_fields, *_Source.model_fields]
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        meant = f", did you mean {close[0]!r}?" if close else ""
        return f"unknown key {error['loc'][-1]!r}{meant} @ {place}"
    if error["type"] == "missing":
        return f"this key is missing @ {place}"
    if error["type"] == "value_error":
        return f"{error['ctx']['error']} @ {place}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, found {error['input']!r} @ {place}"
