"""Curation: documents that a corpus is better without, found before it is converted.

`Curation.parse` takes what people write (`shards.curation.parsing`), `curate` finds out which records go
(`shards.curation.curating`), `read_removed` and `read_summary` say which, and how many by which step. One
module a step: `length`, `language`, `quality` with `rules` and `repetition`, `rater`, `decontamination` with
`evaluation_sets` and `ngram_index`, `duplicates`; all of them see text through `words`.
"""

from shards.curation.curating import (
    BYTES_PER_DOCUMENT,
    REPORT,
    Removed,
    copy_reports,
    curate,
    read_removed,
    read_summary,
)
from shards.curation.parsing import Curation, read_curation

__all__ = [
    "BYTES_PER_DOCUMENT",
    "REPORT",
    "Curation",
    "Removed",
    "copy_reports",
    "curate",
    "read_curation",
    "read_removed",
    "read_summary",
]
