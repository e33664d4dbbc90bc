"""All files of the sample data, each by the recipe it belongs to, with the counts that the data's own table states."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from shards.conversion import Conversion, convert
from shards.recipes import find_recipe

#: Files whose folder is no recipe of that name.
OTHERS = {"code": "starcoder", "extra": "text"}
#: Pages that are nothing but white space.
EMPTY = {"dclm/cc-main-2019-30.jsonl.zst": 7}

COMPANION = """\
description: The licences of the files in the Parquet file beside it; a list and no corpus, so it has its own recipe.
template: "{repo} {path}: {license}"
"""


def stated_counts(readme: Path) -> dict[str, int]:
    """Records by file, from the tables of the data."""
    rows = re.findall(r"^\| `([\w./-]+/[\w./-]+)` \|(.*)\|$", readme.read_text(), re.MULTILINE)
    return {name: int(cells.split(" | ")[4].replace(",", "")) for name, cells in rows if cells.count(" | ") == 7}


def test_all_files_convert_by_their_recipes(
    sample_data: Path, make_conversion: Callable[..., Conversion], tmp_path: Path
) -> None:
    counts = stated_counts(sample_data / "README.md")
    assert len(counts) == 41
    own = tmp_path / "licenses.yaml"
    own.write_text(COMPANION)
    for name, num_records in counts.items():
        folder = name.partition("/")[0]
        known = str(own) if name.endswith(".licenses.jsonl") else OTHERS.get(folder, folder)
        settings = find_recipe(known).settings([str(sample_data / name)])
        out = tmp_path / "out" / name.replace("/", "-")
        train, holdout = convert(
            make_conversion(**{**settings, "seq_len": 128, "shard_bytes": 1 << 20, "out": str(out)}), workers=1
        ).manifests
        assert train.records == num_records, name
        assert train.empty_records == EMPTY.get(name, 0), name
        assert train.documents + holdout.documents == num_records - EMPTY.get(name, 0), name
        assert train.samples, name
