"""What to leave out of a corpus, as people write it in YAML: a list of steps, in the order they are taken.

    curation:
      - language: {keep: [en]}
      - quality: {rules: gopher}
      - decontaminate: {against: [{path: gsm8k/test.jsonl, template: gsm8k}]}
      - exact_duplicates
      - near_duplicates: {threshold: 0.8}

A step that stands twice needs a `name`, under which its documents are counted. Duplicates are looked for among
what all other steps left, so their steps stand last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.curation.decontamination import Decontamination
from shards.curation.duplicates import ExactDuplicates, NearDuplicates
from shards.curation.judging import Step
from shards.curation.language import Language
from shards.curation.length import Length
from shards.curation.quality import Quality
from shards.curation.rater import Rater
from shards.curation.settings import Section
from shards.errors import CallError

__all__ = ["Curation", "read_curation"]

_JUDGES: dict[str, Any] = {
    "length": Length,
    "language": Language,
    "quality": Quality,
    "rater": Rater,
    "decontaminate": Decontamination,
}
_EXACT, _NEAR = "exact_duplicates", "near_duplicates"
_KINDS = (*_JUDGES, _EXACT, _NEAR)
_MOST_REASONS = 256


@dataclass(frozen=True, kw_only=True)
class Curation:
    """Steps of a curation.

    Attributes:
        steps: that judge each document by itself, in order.
        exact, near: duplicates over the whole corpus, after all of these; None where not asked for.
    """

    steps: tuple[Step, ...] = ()
    exact: ExactDuplicates | None = None
    near: NearDuplicates | None = None

    @classmethod
    def parse(cls, data: object, where: str) -> Curation:
        """From the list of steps, or a mapping with that list under `curation`.

        Args:
            data: as read from YAML.
            where: how errors name the place, as in `mine.yaml`.

        Raises:
            CallError: it is no such list; the message names the key. A file, model or function named is missing.
        """
        if isinstance(data, Mapping) and set(data) == {"curation"}:
            data, where = data["curation"], f"{where}: curation"
        if not isinstance(data, list) or not data:
            raise CallError(f"{where} must be a list of steps; a step is one of {', '.join(_KINDS)}")
        found: dict[str, tuple[str, Any]] = {}
        for number, entry in enumerate(data):
            kind, step = _parse_step(entry, f"{where}[{number}]")
            if step.name in found:
                raise CallError(f"{where}[{number}]: a step is called {step.name!r} already; give this one a name")
            found[step.name] = kind, step
        kinds = [kind for kind, _ in found.values()]
        _check_order(kinds, where)
        last = {kind: step for kind, step in found.values() if kind not in _JUDGES}
        steps = tuple(step for kind, step in found.values() if kind in _JUDGES)
        curation = cls(steps=steps, exact=last.get(_EXACT), near=last.get(_NEAR))
        if len(curation.step_names) > _MOST_REASONS:
            raise CallError(f"{where} has {len(curation.step_names)} steps and rules; {_MOST_REASONS} are allowed")
        return curation

    @property
    def step_names(self) -> tuple[str, ...]:
        """Names that removed documents are counted under, in the order they are taken; `Removed.steps` points here."""
        last = tuple(step.name for step in (self.exact, self.near) if step)
        return tuple(reason for step in self.steps for reason in step.reasons) + last

    def parameters(self) -> dict[str, Any]:
        """All that decides the result, as JSON: settings, SHA-256 of models and evaluation sets, versions."""
        steps = [{"name": step.name, "kind": _kind(step), **step.parameters()} for step in self.steps]
        last = [
            {"name": step.name, "kind": _kind(step), **step.parameters()} for step in (self.exact, self.near) if step
        ]
        return {"steps": steps + last}


def read_curation(path: str) -> Curation:
    """The curation that the YAML file at `path` holds. Raises CallError, as `Curation.parse`."""
    import yaml

    from mixer.yamlfile import parse_yaml

    try:
        data = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CallError(f"cannot read {path}: {error.strerror or error}", path=path) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CallError(f"{path} is not usable as YAML: {' '.join(str(error).split())}", path=path) from None
    return Curation.parse(data, path)


def _parse_step(entry: object, where: str) -> tuple[str, Any]:
    mapping = {entry: {}} if isinstance(entry, str) else entry
    if not isinstance(mapping, Mapping) or len(mapping) != 1:
        raise CallError(f"{where} must be one step, as in `- exact_duplicates` or `- length: {{min_words: 50}}`")
    kind, settings = next(iter(mapping.items()))
    if kind not in _KINDS:
        raise CallError(f"{where}: no step is called {kind!r}; known: {', '.join(_KINDS)}")
    section = Section({} if settings is None else settings, f"{where}.{kind}")
    name = section.text("name", kind)
    cls = _JUDGES.get(kind) or (ExactDuplicates if kind == _EXACT else NearDuplicates)
    step = cls.parse(section, name)
    section.finish()
    return kind, step


def _check_order(kinds: list[str], where: str) -> None:
    last = [kind for kind in kinds if kind not in _JUDGES]
    if kinds[len(kinds) - len(last) :] != last or last not in ([], [_EXACT], [_NEAR], [_EXACT, _NEAR]):
        raise CallError(f"{where}: {_EXACT}, then {_NEAR}, stand once at most, behind all other steps")


def _kind(step: object) -> str:
    return next((kind for kind, cls in _JUDGES.items() if isinstance(step, cls)), "") or (
        _EXACT if isinstance(step, ExactDuplicates) else _NEAR
    )
