"""Where the tasks in this folder have their data: JSON lines in a local folder, without a network.

lm-evaluation-harness calls `records` with a task's `metadata`, over which its own `--metadata` lies:

    lm_eval run … --include_path trainer/evaluation/tasks --metadata '{"data": "/data/tasks"}'
"""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict


def records(*, file: str, data: str = ".", **_: Any) -> dict[str, Dataset]:
    """The records of `file` in the folder `data` (default: the working folder)."""
    with (Path(data) / file).open(encoding="utf-8") as lines:
        return DatasetDict(test=Dataset.from_list([json.loads(line) for line in lines]))
