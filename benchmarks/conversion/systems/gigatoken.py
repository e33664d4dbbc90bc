"""gigatoken alone: documents in memory to ids in memory, one pass of a fresh encoder. Nothing is read or written."""

import json
from importlib.metadata import version
from pathlib import Path

import gigatoken
import numpy as np

from systems import Request

VERSION = version("gigatoken")
BATCH = 2048


class _Prepared:
    texts: list[bytes]
    arrays: list


def prepare(request: Request) -> None:
    lines = (line for path in request.inputs for line in Path(path).read_bytes().splitlines())
    _Prepared.texts = [json.loads(line)["text"].encode() for line in lines]


def convert(request: Request) -> None:
    tokenizer = gigatoken.Tokenizer.from_json(Path(request.tokenizer, "tokenizer.json").read_bytes())
    texts = _Prepared.texts
    _Prepared.arrays = [
        tokenizer.encode_batch(texts[start : start + BATCH], parallel=request.cores > 1)
        for start in range(0, len(texts), BATCH)
    ]


def read_ids(request: Request) -> np.ndarray:
    return np.concatenate([np.append(np.asarray(ids), 0) for array in _Prepared.arrays for ids in array])
