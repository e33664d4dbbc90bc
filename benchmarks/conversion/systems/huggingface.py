"""Hugging Face's tokenizers alone: documents in memory to ids in memory, in batches."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from systems import EOS, Request

VERSION = version("tokenizers")
BATCH = 512


class _Prepared:
    texts: list[str]
    ids: list[list[int]]


def prepare(request: Request) -> None:
    lines = (line for path in request.inputs for line in Path(path).read_bytes().splitlines())
    _Prepared.texts = [json.loads(line)["text"] for line in lines]


def convert(request: Request) -> None:
    tokenizer = Tokenizer.from_file(f"{request.tokenizer}/tokenizer.json")
    texts, eos = _Prepared.texts, tokenizer.token_to_id(EOS)
    _Prepared.ids = [
        [*one.ids, eos]
        for start in range(0, len(texts), BATCH)
        for one in tokenizer.encode_batch(texts[start : start + BATCH], add_special_tokens=False)
    ]


def read_ids(request: Request) -> np.ndarray:
    return np.array([token for ids in _Prepared.ids for token in ids])
