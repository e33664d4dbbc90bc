"""Inspection: the right row of the right shard, cut at document borders, with the right tokenizer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from mixer.reader import open_corpus
from shards.conversion import Conversion, convert
from shards.errors import CallError, CorpusError, TokenizerError
from shards.inspection import inspect, read_sample, split_folders
from shards.manifest import fingerprint, read_manifest
from tests.shards.conftest import all_rows, forget_index, write_jsonl


@pytest.fixture
def split(corpus_dir: Path, make_conversion: Callable[..., Conversion], tmp_path: Path) -> Path:
    convert(make_conversion(corpus_dir), workers=1)
    return tmp_path / "out" / "c4" / "train"


def test_every_sample_by_its_number(split: Path) -> None:
    manifest, rows = read_manifest(split), all_rows(split)
    for sample_id, row in enumerate(rows):
        assert np.array_equal(read_sample(split, manifest, sample_id), row)
    for sample_id in (-1, len(rows)):
        with pytest.raises(CallError, match=f"sample {sample_id} is not in"):
            read_sample(split, manifest, sample_id)


def test_pieces_are_the_documents(
    make_conversion: Callable[..., Conversion], tmp_path: Path, reference: tokenizers.Tokenizer
) -> None:
    texts = ["one two", "Füße 漢字", "three"]
    length = sum(len(reference.encode(text).ids) + 1 for text in texts)
    path = write_jsonl(tmp_path / "in" / "a.jsonl", texts)
    convert(make_conversion(path, seq_len=length, holdout=0), workers=1)
    (sample,) = inspect(tmp_path / "out" / "c4" / "train", [0])
    assert sample.pieces == ("one two", "Füße 漢字", "three")
    assert sample.places == tuple(f"{path}, line {number}" for number in (1, 2, 3))


def test_a_split_without_index_is_cut_at_the_end_of_text(split: Path) -> None:
    with_index = inspect(split, range(40))
    forget_index(split)
    without = inspect(split, range(40))
    assert [sample.places for sample in without] == [()] * 40
    # Where a document ends at the end of a row, nothing of it is in the next.
    assert [[*filter(None, sample.pieces)] for sample in without] == [
        [*filter(None, sample.pieces)] for sample in with_index
    ]


def test_a_text_that_spells_the_end_of_text_token_stays_one_piece(
    make_conversion: Callable[..., Conversion], tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", ["", "one <|endoftext|> two", "three " * 20])
    convert(make_conversion(path, holdout=0), workers=1)
    (sample,) = inspect(tmp_path / "out" / "c4" / "train", [0])
    assert sample.pieces[0] == "one <|endoftext|> two"
    assert sample.places == (f"{path}, line 2", f"{path}, line 3")


def test_another_tokenizer_is_refused(split: Path, odd_tokenizer_dir: Path, tokenizer_dir: Path) -> None:
    with pytest.raises(TokenizerError, match=r"is not the tokenizer of .* name the right one with --tokenizer"):
        inspect(split, [0], tokenizer=str(odd_tokenizer_dir))
    assert inspect(split, [2, 1], tokenizer=str(tokenizer_dir))[0].sample_id == 2


def test_split_folders(split: Path) -> None:
    assert split_folders(split) == [split]
    assert split_folders(split.parent) == [split, split.with_name("holdout")]
    with pytest.raises(CorpusError, match="is no directory"):
        split_folders(split / "absent")


def test_the_fingerprint_of_a_beginning_is_what_the_manifest_says_of_the_whole(split: Path) -> None:
    """So that a run can tell a corpus that has grown from another one (mixer.reader, which may not import shards)."""
    corpus, manifest = open_corpus(split), read_manifest(split)
    assert corpus.fingerprint_of(len(manifest.shards)) == corpus.fingerprint == manifest.fingerprint
    assert corpus.fingerprint_of(1) == fingerprint(manifest.row_format, manifest.shards[:1]) != corpus.fingerprint
    assert corpus.fingerprint_of(len(manifest.shards) + 1) is None
