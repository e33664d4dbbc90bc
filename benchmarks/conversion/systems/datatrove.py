"""datatrove's pipeline of a JSON-lines reader and its `DocumentTokenizer`, not shuffled, as many tasks as cores."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer

from systems import EOS, Request

VERSION = version("datatrove")


def convert(request: Request) -> None:
    pipeline = [
        JsonlReader(str(Path(request.inputs[0]).parent)),
        DocumentTokenizer(
            output_folder=request.out,
            tokenizer_name_or_path=f"{request.tokenizer}/tokenizer.json",
            eos_token=EOS,
            shuffle_documents=False,
            save_final_metadata=False,
        ),
    ]
    logs = f"{request.out}.logs"
    LocalPipelineExecutor(pipeline=pipeline, tasks=request.cores, workers=request.cores, logging_dir=logs).run()


def read_ids(request: Request) -> np.ndarray:
    return np.concatenate([np.fromfile(path, "<u2") for path in request.out_files if path.suffix == ".ds"])
