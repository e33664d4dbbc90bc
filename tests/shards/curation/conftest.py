"""Documents to curate: made-up ones, and real ones where the sample data is."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np

from shards.curation.batch import Batch

VOCABULARY = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "st", "ck", "lm")]


def make_documents(num: int, seed: int, *, shortest: int = 30, longest: int = 120) -> list[str]:
    """Documents of made-up words; no two share an n-gram of 5 but by rare chance."""
    rng = random.Random(seed)
    documents = []
    for _ in range(num):
        words = rng.choices(VOCABULARY, k=rng.randint(shortest, longest))
        sentences = [" ".join(words[i : i + 9]).capitalize() + "." for i in range(0, len(words), 9)]
        documents.append(" ".join(sentences))
    return documents


def make_batch(texts: list[str]) -> Batch:
    return Batch(texts, np.arange(1, len(texts) + 1))


def read_texts(path: Path, field: str) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        return [json.loads(line)[field].strip() for line in file]
