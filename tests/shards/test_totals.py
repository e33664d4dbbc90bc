"""Totals and lengths of converted directories, against counting by hand; also of those of earlier versions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from mixer.documents import open_documents
from mixer.storage.index import seal
from shards.conversion import Conversion, convert
from shards.manifest import read_manifest
from shards.totals import lengths_of, read_statistics, table
from tests.shards.conftest import all_rows, forget_index, make_texts, write_jsonl


@pytest.fixture
def split(make_conversion: Callable[..., Conversion], tmp_path: Path) -> Path:
    for number in range(3):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", make_texts(40, seed=number))
    convert(make_conversion(tmp_path / "in", holdout=0), workers=1)
    return tmp_path / "out" / "c4" / "train"


def expected_lengths(reference: tokenizers.Tokenizer) -> list[int]:
    texts = [text.strip() for number in range(3) for text in make_texts(40, seed=number)]
    return [len(reference.encode(text, add_special_tokens=False).ids) + 1 for text in texts]


def test_lengths_are_counted_by_powers_of_two(split: Path, reference: tokenizers.Tokenizer) -> None:
    lengths = expected_lengths(reference)
    assert open_documents(split).lengths().tolist() == lengths
    bins = lengths_of(split)
    assert sum(count for _, _, count in bins) == len(lengths)
    for start, end, count in bins:
        assert end == 2 * start
        assert count == sum(start <= length < end for length in lengths)
    assert bins[0][0] <= min(lengths)
    assert bins[-1][1] > max(lengths)


def test_totals(split: Path) -> None:
    found, manifest = read_statistics(split), read_manifest(split)
    assert (found.documents, found.tokens) == (120, manifest.tokens)
    assert found.tokens_per_document == pytest.approx(manifest.tokens / 120, abs=0.01)
    assert found.bytes_per_token == pytest.approx(manifest.text_bytes / manifest.tokens, abs=0.001)
    assert found.distinct_tokens == len(np.unique(all_rows(split)))
    lines = table(found).splitlines()
    assert len(lines) == 1 + len(found.lengths)
    assert max(line.count("#") for line in lines) == 32


def test_an_earlier_version_is_counted_from_its_index(split: Path) -> None:
    now = lengths_of(split)
    manifest = json.loads((split / "corpus.json").read_bytes())
    manifest["parameters"]["format"] = 3
    manifest["manifest_sha256"] = "0" * 64
    del manifest["lengths"]
    (split / "corpus.json").write_bytes(seal(json.dumps(manifest).encode()))
    assert lengths_of(split) == now
    forget_index(split)
    assert lengths_of(split) == []
    assert "tokens a document" in table(read_statistics(split))
