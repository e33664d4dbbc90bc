"""Best-fit packing: nothing lost, nothing cut that fits a row, everything found again, and few places unused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from mixer.documents import open_documents
from mixer.reader import RowReader
from mixer.storage import open_corpus
from shards.conversion import Conversion, convert
from shards.inspection import inspect
from shards.manifest import read_unigram
from shards.packing import Placer, Window
from shards.verification import verify
from tests.shards.conftest import all_rows, make_texts, tree_hashes, write_jsonl

Make = Callable[..., Conversion]
EOS = 0


def place_all(lengths: list[int], seq_len: int, window_tokens: int, cuts: list[int]) -> list[Window]:
    """Windows of documents whose tokens are their number, in batches."""
    placer = Placer(seq_len=seq_len, eos_id=EOS, dtype="uint32", window_tokens=window_tokens)
    windows = []
    for batch in np.split(np.arange(len(lengths)), sorted(cut for cut in cuts if cut <= len(lengths))):
        sizes = np.array(lengths, np.int64)[batch]
        windows += placer.add(np.repeat(batch + 1, sizes).astype("uint32"), sizes, (batch * 2 + 1).tolist())
    return [*windows, *placer.finish()]


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 17), st.integers(1, 200), st.lists(st.integers(0, 60)))
def test_every_document_is_placed_once(lengths: list[int], seq_len: int, window: int, cuts: list[int]) -> None:
    windows = place_all(lengths, seq_len, window, cuts)
    assert [record for window in windows for record in window.records.tolist()] == [
        2 * n + 1 for n in range(len(lengths))
    ]
    rows = np.concatenate([window.tokens for window in windows]).reshape(-1, seq_len)
    assert np.bincount(rows.ravel(), minlength=len(lengths) + 1)[1:].tolist() == lengths
    assert sum(window.num_filling for window in windows) == (rows == EOS).sum()
    for number, length in enumerate(lengths, 1):
        held = (rows == number).sum(1)
        least = -(-length // seq_len)
        assert np.count_nonzero(held) == least, "no more rows than it must have"
        assert np.count_nonzero(held == seq_len) >= length // seq_len, "whole rows, and what is left"
    for window in windows:
        starts = np.concatenate([[0], window.ends[:-1]])
        for start, end, owner in zip(starts, window.ends, window.owners, strict=True):
            token = EOS if owner == len(window.records) else (window.records[owner] - 1) // 2 + 1
            assert (window.tokens[start:end] == token).all()
            assert start // seq_len == (end - 1) // seq_len or owner == len(window.records)
        assert window.ends[-1] == len(window.tokens)


@given(LENGTHS, st.integers(1, 17), st.lists(st.integers(0, 60)))
def test_batches_leave_no_trace(lengths: list[int], seq_len: int, cuts: list[int]) -> None:
    whole, batched = (place_all(lengths, seq_len, 100, some) for some in ([], cuts))
    assert [window.tokens.tolist() for window in whole] == [window.tokens.tolist() for window in batched]
    assert [window.owners.tolist() for window in whole] == [window.owners.tolist() for window in batched]


def test_a_window_by_hand() -> None:
    (window,) = place_all([3, 9, 2, 1], 4, 100, [])
    assert window.tokens.reshape(-1, 4).tolist() == [[2, 2, 2, 2], [2, 2, 2, 2], [1, 1, 1, 2], [3, 3, 4, EOS]]
    assert window.ends.tolist() == [4, 8, 11, 12, 14, 15, 16]
    assert window.owners.tolist() == [1, 1, 0, 1, 2, 3, 4]


def test_a_document_goes_where_it_leaves_the_least_room() -> None:
    (window,) = place_all([7, 5, 3], 10, 100, [])
    assert window.tokens.reshape(-1, 10).tolist() == [[1] * 7 + [3] * 3, [2] * 5 + [EOS] * 5]


@pytest.fixture(params=[1 << 20, 3000], ids=["one unit a file", "several"])
def conversion(corpus_dir: Path, make_conversion: Make, request: pytest.FixtureRequest) -> Conversion:
    return make_conversion(corpus_dir, rows="best-fit", seq_len=64, unit_bytes=request.param)


def test_every_record_is_found_again(
    conversion: Conversion, corpus_dir: Path, reference: tokenizers.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.splits.WINDOW_TOKENS", 1500)
    report = convert(conversion, workers=1)
    splits = [report.folder / manifest.split for manifest in report.manifests]
    indexes, rows = [open_documents(split) for split in splits], [all_rows(split) for split in splits]
    numbers, cut = [0, 0], 0
    for source, path in enumerate(sorted(corpus_dir.iterdir())):
        for record, line in enumerate(path.open(), 1):
            whole = [*reference.encode(json.loads(line)["text"].strip()).ids, EOS]
            found = [index.find(source, record) for index in indexes]
            assert sum(document is not None for document in found) == 1
            for split, document in enumerate(found):
                if document is None:
                    continue
                assert (document.number, document.num_dropped) == (numbers[split], 0)
                assert indexes[split].document(document.number) == document
                numbers[split] += 1
                tokens = [rows[split].ravel()[start:end] for start, end in document.spans]
                assert np.concatenate(tokens).tolist() == whole
                pieces = []
                samples = [sample for a, b in indexes[split].samples_of(document) for sample in range(a, b)]
                assert len(samples) == -(-len(whole) // 64)
                assert indexes[split].samples_of_span(source, record, record + 1) == indexes[split].samples_of(document)
                for sample in samples:
                    for passage in indexes[split].in_sample(sample):
                        if passage.document.number == document.number:
                            pieces.append((passage.offset, rows[split][sample, passage.start : passage.end].tolist()))
                before = 0
                for offset, piece in pieces:  # samples ascend, and so do the pieces of a document
                    assert offset == before
                    before += len(piece)
                assert [token for _, piece in pieces for token in piece] == whole
                cut += len(samples) > 1
    assert cut > 10
    for split, manifest, table in zip(splits, report.manifests, rows, strict=True):
        assert verify(split) == []
        assert manifest.tokens + manifest.padding_tokens == table.size
        assert manifest.dropped_tokens == 0
        assert read_unigram(split).sum() == manifest.tokens
        assert np.array_equal(RowReader([open_corpus(split)]).read(np.arange(len(table))), table)
        ends = open_documents(split).ends_in(0, len(table))
        assert len(ends) == manifest.documents
        assert (table.ravel()[ends] == EOS).all()
    assert inspect(splits[0], [0, len(rows[0]) - 1])


def test_fewer_documents_are_cut_and_the_same_bytes_for_any_workers(make_conversion: Make, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", make_texts(800, seed=3, longest=100))
    trees, cut = [], {}
    for rows, workers in (("packed", 1), ("best-fit", 1), ("best-fit", 2)):
        out = tmp_path / f"{rows}{workers}"
        about = {"rows": rows, "seq_len": 256, "shard_bytes": 1 << 14, "unit_bytes": 60_000, "holdout": 0}
        (train,) = convert(make_conversion(path, out=str(out), **about), workers=workers).manifests
        index = open_documents(out / "c4" / "train")
        samples = [index.samples_of(index.document(number)) for number in range(index.num_documents)]
        cut[rows] = sum(sum(end - start for start, end in ranges) > 1 for ranges in samples)
        if rows == "best-fit":
            trees.append(tree_hashes(out))
            assert train.padding_tokens < 0.03 * train.tokens
    assert trees[0] == trees[1]
    assert cut["packed"] > 5 * cut["best-fit"]
