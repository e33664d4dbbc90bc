"""LitData's `optimize` with its `TokensLoader`, a generator of each document's ids, as its documentation does it."""

import json
import os
from importlib.metadata import version
from pathlib import Path

os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"

import numpy as np
import torch
from litdata import TokensLoader, optimize
from tokenizers import Tokenizer

from systems import EOS, SEQ_LEN, Request

VERSION = version("litdata")


class Tokenize:
    """One document after another, as in LitData's own example; `tokenizers` is what such examples use."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.tokenizer = None

    def __call__(self, file: str):
        if self.tokenizer is None:
            self.tokenizer = Tokenizer.from_file(self.path)
            self.eos = self.tokenizer.token_to_id(EOS)
        with Path(file).open(encoding="utf-8") as lines:
            for line in lines:
                ids = self.tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids
                yield torch.tensor([*ids, self.eos], dtype=torch.uint16)


def convert(request: Request) -> None:
    optimize(
        fn=Tokenize(f"{request.tokenizer}/tokenizer.json"),
        inputs=request.inputs,
        output_dir=request.out,
        chunk_size=SEQ_LEN * 8192,
        item_loader=TokensLoader(),
        num_workers=request.cores,
        reorder_files=False,
        start_method="fork",
    )


def read_ids(request: Request) -> np.ndarray:
    """Each chunk is a number of items, where each begins and the last ends, and the items."""
    chunks = []
    for path in sorted(Path(request.out).glob("*.bin"), key=lambda path: [int(n) for n in path.stem.split("-")[1:]]):
        data = path.read_bytes()
        first = int(np.frombuffer(data, "<u4", 1, 4)[0])
        chunks.append(np.frombuffer(data, "<u2", offset=first))
    return np.concatenate(chunks)
