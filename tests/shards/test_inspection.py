"""Inspection: the right row of the right shard, cut at document borders, with the right tokenizer."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from mixer.reader import open_corpus
from shards.cli import main
from shards.conversion import Conversion, convert
from shards.errors import CallError, CorpusError, TokenizerError
from shards.inspection import Sample, find_document, inspect, read_sample, split_folders
from shards.manifest import fingerprint, read_manifest
from tests.shards.conftest import all_rows, forget_index, write_jsonl


@pytest.fixture
def split(corpus_dir: Path, make_conversion: Callable[..., Conversion], tmp_path: Path) -> Path:
    convert(make_conversion(corpus_dir), workers=1)
    return tmp_path / "out" / "c4" / "train"


def texts_of(sample: Sample) -> list[str]:
    return [piece.text for piece in sample.pieces]


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
    assert texts_of(sample) == ["one two", "Füße 漢字", "three"]
    assert [piece.place for piece in sample.pieces] == [f"{path}, line {number}" for number in (1, 2, 3)]
    assert {piece.end for piece in sample.pieces} == {"<|endoftext|>"}


def test_a_split_without_index_is_cut_at_the_end_of_text(split: Path) -> None:
    with_index = inspect(split, range(40))
    forget_index(split)
    without = inspect(split, range(40))
    assert {piece.place for sample in without for piece in sample.pieces} == {""}
    # Where a document ends at the end of a row, nothing of it is in the next.
    assert [[*filter(None, texts_of(sample))] for sample in without] == [
        [*filter(None, texts_of(sample))] for sample in with_index
    ]


def test_a_text_that_spells_the_end_of_text_token_stays_one_piece(
    make_conversion: Callable[..., Conversion], tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", ["", "one <|endoftext|> two", "three " * 20])
    convert(make_conversion(path, holdout=0), workers=1)
    (sample,) = inspect(tmp_path / "out" / "c4" / "train", [0])
    assert texts_of(sample)[0] == "one <|endoftext|> two"
    assert [piece.place for piece in sample.pieces] == [f"{path}, line 2", f"{path}, line 3"]


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


@pytest.mark.parametrize("rows", ["packed", "best-fit"])
def test_pieces_of_a_document_join_to_its_text(
    rows: str, corpus_dir: Path, make_conversion: Callable[..., Conversion], tmp_path: Path
) -> None:
    """Followed from sample to sample by what each piece says, every document is there, whole, token by token."""
    convert(make_conversion(corpus_dir, rows=rows), workers=1)
    split = tmp_path / "out" / "c4" / "train"
    samples = inspect(split, range(read_manifest(split).samples))
    assert any(sample.num_filled for sample in samples) == (rows == "best-fit")
    documents: dict[str, list] = {}
    for sample in samples:
        assert sum(piece.end_token - piece.start_token for piece in sample.pieces) == 32 - sample.num_filled
        assert len(sample.tokens) == 32 - sample.num_filled
        for piece in sample.pieces:
            documents.setdefault(piece.place, []).append((piece.start_token, sample.sample_id, piece))
    for place, pieces in documents.items():
        pieces.sort(key=lambda one: one[0])
        for (_, first, one), (_, second, other) in pairwise(pieces):
            assert (one.after, other.before) == (second, first)
            assert one.end_token == other.start_token
            assert not one.end
        assert pieces[0][2].start_token == 0
        assert pieces[0][2].before is None
        last = pieces[-1][2]
        assert last.after is None
        assert last.is_cut == (last.end_token < last.num_tokens) == (not last.end)
        source, number = place.split(", line ")
        if not last.is_cut:
            text = json.loads(Path(source).read_text().splitlines()[int(number) - 1])["text"].strip()
            parts = "".join(piece.text for _, _, piece in pieces)
            assert len(parts) == len(text) or "\ufffd" in parts  # a character may be cut at the end of a row
            assert "\ufffd" in parts or parts == text


def test_a_document_is_found(split: Path) -> None:
    samples = inspect(split, range(read_manifest(split).samples))
    for line in (1, 2, 3, 4):
        found = find_document(split, "2.jsonl", line)
        holding = {
            sample.sample_id
            for sample in samples
            for piece in sample.pieces
            if piece.place.endswith(f"2.jsonl, line {line}")
        }
        assert holding == ({n for pair in found.samples for n in range(*pair)} if found else set())
    assert find_document(split, "2.jsonl", 999) is None
    with pytest.raises(CorpusError, match="none of them"):
        find_document(split, "nowhere.jsonl", 1)


# The command


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["inspect", *map(str, words)])
    return code, *capsys.readouterr()


def test_samples_are_shown_with_their_borders(split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, split, "--sample", "1-2", "--sample", "7")
    assert code == 0
    assert re.findall(r"^=== sample (\d+) of", out, re.MULTILINE) == ["1", "2", "7"]
    shown = inspect(split, [1, 2, 7])
    for sample in shown:
        for piece in sample.pieces:
            before = "[...] " if piece.before is not None else ""
            after = " [...]" if piece.after is not None or piece.is_cut else "<|endoftext|>"
            assert f"\n{before}{piece.text}{after}" in out
            if piece.after is not None:
                assert f"goes on in sample {piece.after}" in out
    assert "\x1b" not in out  # no colours: this is no terminal


def test_a_document_is_shown(split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = find_document(split, "0.jsonl", 2)
    assert found is not None
    code, out, _ = call(capsys, split.parent, "--document", "0.jsonl:2")
    assert code == 0
    assert f"0.jsonl, line 2: {found.num_tokens} tokens in sample" in out
    assert out.count("=== sample") == min(sum(end - start for start, end in found.samples), 8)
    assert "holdout" not in out
    shown = json.loads(call(capsys, split, "--document", "0.jsonl:2", "--json")[1])
    assert shown["document"]["num_tokens"] == found.num_tokens


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sample", "x"], "--sample x: write a number from 0"),
        (["--sample", "9-3"], "--sample 9-3"),
        (["--sample", "-3"], "--sample"),
        (["--sample", "99999"], "sample 99999 is not in"),
        (["--document", "0.jsonl"], "write SOURCE:LINE"),
        (["--document", "0.jsonl:x"], "write SOURCE:LINE"),
        (["--document", "0.jsonl:777"], "no document of"),
        (["--document", "nowhere.jsonl:1"], "nowhere.jsonl"),
        (["--plot", "x.doc"], "the ending must be one of"),
    ],
)
def test_wrong_calls(words: list[str], message: str, split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code, _, err = call(capsys, split.parent, *words)
    except SystemExit as end:  # of argparse
        code, _, err = end.code, *capsys.readouterr()
    assert code == 2
    assert message in err


def test_lengths_are_drawn(split: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        assert call(capsys, split.parent, "--plot", tmp_path / name)[0] == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
