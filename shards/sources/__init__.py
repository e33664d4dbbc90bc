"""Sources: the input files of a conversion. Finding them, cutting them into units, reading units as records.

A source is named by text: a path, or a URL where `storage` knows its kind. See `finding` for the order of sources,
`units` for what is read by itself, `blocks` for the records.
"""

from shards.sources.blocks import Block, Fault, OnBad, read_blocks, stop_at
from shards.sources.finding import ENDINGS, find_sources, place
from shards.sources.storage import Stamp, open_source, stat_source
from shards.sources.units import UNIT_BYTES, Unit, cut_into_units, whole_source

__all__ = [
    "ENDINGS",
    "UNIT_BYTES",
    "Block",
    "Fault",
    "OnBad",
    "Stamp",
    "Unit",
    "cut_into_units",
    "find_sources",
    "open_source",
    "place",
    "read_blocks",
    "stat_source",
    "stop_at",
    "whole_source",
]
