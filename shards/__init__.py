"""Corpora to MDS shards: conversion, and what can be said about the result.

    from shards import Conversion, convert
    report = convert(Conversion(inputs=["data/c4"], corpus="c4", tokenizer="tok", out="out"))

Uses no torch; reading for training is `mixer`'s work. Errors are in `shards.errors`.
"""

from shards.conversion import Conversion, Report, convert
from shards.errors import ShardsError
from shards.inspection import inspect
from shards.manifest import Manifest, read_manifest
from shards.verification import verify

__all__ = [
    "Conversion",
    "Manifest",
    "Report",
    "ShardsError",
    "convert",
    "inspect",
    "read_manifest",
    "verify",
]
