"""This project's conversion, with hashing, fsync, counts and document index, as anybody gets it."""

from pathlib import Path

import numpy as np

from shards import Conversion, read_manifest
from shards import convert as convert_corpus
from shards.mds import read_rows, shard_name
from systems import SEQ_LEN, Request

VERSION = ""


def convert(request: Request) -> None:
    conversion = Conversion(
        inputs=request.inputs, corpus="text", tokenizer=request.tokenizer, out=request.out, seq_len=SEQ_LEN, holdout=0
    )
    convert_corpus(conversion, workers=request.cores)


def read_ids(request: Request) -> np.ndarray:
    """Rows in order: of so little text no part fills a shard of its own, so this is the order of the documents."""
    folder = Path(request.out, "text", "train")
    manifest = read_manifest(folder)
    rows = [read_rows(folder / shard_name(number), manifest.row_format) for number in range(len(manifest.shards))]
    return np.concatenate(rows).reshape(-1)
