"""Lengths of time in epochs, "4ep", for a run of one corpus: rounded up to whole steps.

    max_duration: 4ep      4 x samples of the corpus / global_batch_size

The last step is full: where the samples do not divide, it holds the first of the next epoch. Of a run of several
corpora no length is a number of epochs, since each has its own. The corpus's index is read, and nothing else.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from mixer.errors import MixerError
from mixer.storage import open_corpus
from trainer.errors import ConfigError

_EPOCHS = re.compile(r"\s*(\d+(?:\.\d+)?)ep\s*")
_PLACES = ("max_duration", "save_interval", "eval.interval")


def in_steps(raw: Mapping[str, Any]) -> dict[str, Any]:
    """`raw`, a run's mapping as read, with lengths in epochs turned into steps. Raises ConfigError."""
    found = {place: match for place in _PLACES if (match := _EPOCHS.fullmatch(str(_at(raw, place))))}
    whole = dict(raw)
    if not found:
        return whole
    samples, batch = _num_samples(raw, *found), raw.get("global_batch_size")
    if not isinstance(batch, int) or batch < 1:
        return whole  # told by whoever checks that key
    for place, match in found.items():
        steps = f"{ceil(Fraction(match[1]) * samples / batch)}ba"
        section, _, key = place.rpartition(".")
        if section:
            whole[section] = {**whole[section], key: steps}
        else:
            whole[key] = steps
    return whole


def _at(raw: Mapping[str, Any], place: str) -> Any:
    section, _, key = place.rpartition(".")
    inside = raw.get(section) if section else raw
    return inside.get(key) if isinstance(inside, Mapping) else None


def _num_samples(raw: Mapping[str, Any], place: str, *_: str) -> int:
    """Samples of the only corpus."""
    corpora = raw.get("corpora")
    if not isinstance(corpora, Mapping) or len(corpora) != 1:
        raise ConfigError([f"a length in epochs needs a run of exactly one corpus: give it in ba or tok @ $.{place}"])
    if isinstance(raw.get("schedule"), Mapping) and "batch_sizes" in raw["schedule"]:
        raise ConfigError([f"a length in epochs needs a constant batch size: give it in ba or tok @ $.{place}"])
    ((name, corpus),) = corpora.items()
    local = corpus.get("local") if isinstance(corpus, Mapping) else None
    if not isinstance(local, str | Path):
        raise ConfigError([f"a folder is needed to count the samples of an epoch @ $.corpora.{name}.local"])
    try:
        return open_corpus(local, corpus.get("remote")).num_samples
    except MixerError as error:
        raise ConfigError([f"{error} @ $.corpora.{name}.local"]) from None
