"""llm-foundry's `convert_dataset_json`, called as its script calls it. It has one process; its rows are int32."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from llmfoundry.command_utils import convert_dataset_json_from_args
from streaming.base.format.mds.reader import MDSReader

from systems import EOS, SEQ_LEN, Request

VERSION = version("llm-foundry")


def convert(request: Request) -> None:
    convert_dataset_json_from_args(
        path=f"{Path(request.inputs[0]).parent}/*.jsonl",
        out_root=request.out,
        compression=None,
        concat_tokens=SEQ_LEN,
        split="train",
        tokenizer=request.tokenizer,
        eos_text=EOS,
    )


def read_ids(request: Request) -> np.ndarray:
    shards = json.loads(Path(request.out, "index.json").read_text())["shards"]
    readers = [MDSReader.from_json(request.out, None, shard) for shard in shards]
    return np.concatenate([reader.get_item(n)["tokens"] for reader in readers for n in range(reader.samples)])
