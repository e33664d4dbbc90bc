"""Conversion: exact rows in exact order, the same bytes after any crash, refusal of what does not belong."""

from __future__ import annotations

import fcntl
import json
import logging
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer.documents import open_documents
from mixer.reader import RowReader, open_corpus
from shards.conversion import Conversion, convert
from shards.errors import CallError, MismatchError, RecordError, SourceError
from shards.manifest import read_manifest, read_unigram
from shards.mds import RowFormat
from tests.shards.conftest import all_rows, forget_index, make_texts, tree_hashes, write_jsonl

Make = Callable[..., Conversion]
SPLITS = ("train", "holdout")


def oracle(files: list[list[str]], reference: tokenizers.Tokenizer, conversion: Conversion) -> dict[str, np.ndarray]:
    """The token stream of each split in the order of its rows, slowly and from the words of the contract."""
    row_format = RowFormat(seq_len=conversion.seq_len, dtype="uint16", shard_bytes=conversion.shard_bytes)
    per_shard = row_format.rows_per_shard * conversion.seq_len
    full: dict[str, list[int]] = {split: [] for split in SPLITS}
    rest: dict[str, list[int]] = {split: [] for split in SPLITS}
    for texts in files:
        streams: dict[str, list[int]] = {split: [] for split in SPLITS}
        for text in filter(None, map(str.strip, texts)):
            key = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
            split = "holdout" if key < conversion.holdout * 2**64 else "train"
            streams[split] += [*reference.encode(text).ids, 0]
        for split, stream in streams.items():
            whole = len(stream) - len(stream) % per_shard
            full[split] += stream[:whole]
            rest[split] += stream[whole:]
    return {split: np.array(full[split] + rest[split]) for split in SPLITS}


def texts_of(folder: Path) -> list[list[str]]:
    return [[json.loads(line)["text"] for line in path.open()] for path in sorted(folder.iterdir())]


def check_against_oracle(
    out: Path, files: list[list[str]], reference: tokenizers.Tokenizer, conversion: Conversion
) -> None:
    for split, stream in oracle(files, reference, conversion).items():
        folder = out / conversion.corpus / split
        if not folder.exists():
            assert not conversion.holdout
            continue
        manifest, rows = read_manifest(folder), all_rows(folder)
        assert manifest.tokens == len(stream)
        assert manifest.dropped_tokens == len(stream) % conversion.seq_len
        assert np.array_equal(rows.ravel(), stream[: len(stream) - manifest.dropped_tokens])
        counts = np.bincount(rows.ravel(), minlength=manifest.parameters["vocab_size"])
        assert np.array_equal(read_unigram(folder), counts)
        assert all(shard.samples == manifest.row_format.rows_per_shard for shard in manifest.shards[:-1])
    check_documents(out / conversion.corpus, files, reference)


def check_documents(folder: Path, files: list[list[str]], reference: tokenizers.Tokenizer) -> None:
    """Every record has its tokens where the index of one split says; a record without text is in none."""
    splits = [folder / split for split in SPLITS if (folder / split).exists()]
    indexes = [open_documents(split) for split in splits]
    streams = [all_rows(split).ravel() for split in splits]
    numbers = [0] * len(splits)
    for source, texts in enumerate(files):
        for record, text in enumerate(texts, 1):
            found = [index.find(source, record) for index in indexes]
            assert sum(document is not None for document in found) == bool(text.strip())
            for split, document in enumerate(found):
                if document is not None:
                    assert document.number == numbers[split]
                    numbers[split] += 1
                    tokens = [streams[split][start:end] for start, end in document.spans]
                    whole = [*reference.encode(text.strip()).ids, 0]
                    assert np.concatenate(tokens).tolist() == whole[: len(whole) - document.num_dropped]
    assert numbers == [index.num_documents for index in indexes]


def test_rows_are_the_documents_in_order(
    corpus_dir: Path, make_conversion: Make, tmp_path: Path, reference: tokenizers.Tokenizer
) -> None:
    conversion = make_conversion(corpus_dir)
    report = convert(conversion, workers=1)
    check_against_oracle(tmp_path / "out", texts_of(corpus_dir), reference, conversion)
    train, holdout = report.manifests
    assert len(train.shards) > 5
    assert holdout.samples > 0
    assert train.documents + holdout.documents == train.records == 184
    assert report.text_bytes == train.text_bytes + holdout.text_bytes
    assert [source.path for source in train.sources] == [f"{corpus_dir}/{n}.jsonl" for n in range(5)]
    assert os.listdir(tmp_path / "out") == ["c4"]  # noqa: PTH208


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.text("ab \n漢", max_size=30), min_size=1, max_size=8), min_size=1, max_size=4),
    st.integers(1, 7),
    st.sampled_from([0.0, 0.3]),
)
def test_any_small_corpus(
    make_conversion: Make,
    reference: tokenizers.Tokenizer,
    tmp_path: Path,
    files: list[list[str]],
    seq_len: int,
    holdout: float,
) -> None:
    files = [["first text, long enough " * 3], ["one more " * 9, "another " * 9], *files]
    shutil.rmtree(tmp_path / "in", ignore_errors=True)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    paths = [write_jsonl(tmp_path / "in" / f"{n}.jsonl", texts) for n, texts in enumerate(files)]
    conversion = make_conversion(*paths, seq_len=seq_len, holdout=holdout, shard_bytes=320)
    convert(conversion, workers=1)
    check_against_oracle(tmp_path / "out", files, reference, conversion)


def test_the_stock_reader_reads_it(corpus_dir: Path, make_conversion: Make, tmp_path: Path) -> None:
    from streaming import StreamingDataset

    convert(make_conversion(corpus_dir), workers=1)
    for split in SPLITS:
        folder = tmp_path / "out" / "c4" / split
        dataset = StreamingDataset(local=str(folder), shuffle=False, batch_size=1, validate_hash="sha256")
        rows = all_rows(folder)
        assert len(dataset) == len(rows) > 0
        read = [sample["tokens"] for sample in dataset]
        assert all(np.array_equal(a, b) for a, b in zip(read, rows, strict=True))


def test_records_are_counted_as_messages_count_them(make_conversion: Make, tmp_path: Path) -> None:
    """Lines from 1, blank ones too; rows of Parquet from 1."""
    words = ["some words that fill a row " * 3, "others " * 40, "the last"]
    folder = tmp_path / "in"
    folder.mkdir()
    lines = ["", json.dumps({"text": words[0]}), " ", json.dumps({"text": " "}), json.dumps({"text": words[1]}), ""]
    (folder / "a.jsonl").write_text("\n".join(lines))
    pq.write_table(pa.table({"text": ["", words[2], " \n", words[0]]}), folder / "b.parquet")
    convert(make_conversion(folder, holdout=0), workers=1)
    index = open_documents(tmp_path / "out" / "c4" / "train")
    assert index.sources == (f"{folder}/a.jsonl", f"{folder}/b.parquet")
    found = [(document.source, document.record) for document in map(index.document, range(4))]
    assert found == [(index.sources[0], 2), (index.sources[0], 5), (index.sources[1], 2), (index.sources[1], 4)]


def test_a_document_is_read_back_from_its_samples(
    corpus_dir: Path, make_conversion: Make, tmp_path: Path, reference: tokenizers.Tokenizer
) -> None:
    """As a user would: find the record, read its samples, take what is the document's of each."""
    convert(make_conversion(corpus_dir), workers=1)
    train = tmp_path / "out" / "c4" / "train"
    index, reader = open_documents(train), RowReader([open_corpus(train)])
    num_cut = num_found = 0
    for source, texts in enumerate(texts_of(corpus_dir)):
        for record, text in enumerate(texts, 1):
            if (document := index.find(f"{source}.jsonl", record)) is None:
                continue
            tokens: list[int] = []
            samples = [sample_id for start, end in index.samples_of(document) for sample_id in range(start, end)]
            for sample_id, row in zip(samples, reader.read(samples), strict=True):
                (passage,) = (one for one in index.in_sample(sample_id) if one.document == document)
                assert passage.offset == len(tokens)
                tokens += row[passage.start : passage.end].tolist()
            whole = [*reference.encode(text.strip()).ids, 0]
            assert tokens == whole[: len(whole) - document.num_dropped]
            num_cut += len(document.spans) > 1
            num_found += 1
    assert num_found == index.num_documents > 100
    assert num_cut > 0


def test_held_out_documents_are_in_no_training_row(make_conversion: Make, tmp_path: Path) -> None:
    """Duplicates included: here every text is there twice, in different files and white space."""
    texts = make_texts(300, seed=5, longest=6)
    write_jsonl(tmp_path / "in" / "a.jsonl", texts)
    write_jsonl(tmp_path / "in" / "b.jsonl", [f"\n {text}\t" for text in reversed(texts)])
    convert(make_conversion(tmp_path / "in", seq_len=1, holdout=0.3, shard_bytes=1 << 20), workers=1)
    found = {}
    for split in SPLITS:
        stream = all_rows(tmp_path / "out" / "c4" / split).ravel()
        pieces = np.split(stream, np.flatnonzero(stream == 0) + 1)
        found[split] = [tuple(piece.tolist()) for piece in pieces if piece.size]
    assert not set(found["train"]) & set(found["holdout"])
    assert all(len(pieces) == 2 * len(set(pieces)) for pieces in found.values())
    assert len(found["train"]) + len(found["holdout"]) == 600
    assert 0.2 < len(found["holdout"]) / 600 < 0.4


def test_any_number_of_workers_gives_the_same_bytes(corpus_dir: Path, make_conversion: Make, tmp_path: Path) -> None:
    trees = []
    for workers in (1, 2, 3):
        out = tmp_path / f"out{workers}"
        convert(make_conversion(corpus_dir, out=str(out)), workers=workers)
        trees.append(tree_hashes(out))
    assert trees[0] == trees[1] == trees[2]


def crash_at(event_number: int, conversion: Conversion) -> None:
    """Body of a child: convert, and end as by SIGKILL just before the event of that number."""
    seen = 0

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(args[1], str) and "w" in args[1]
        if writes or event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
            seen += 1
            if seen == event_number:
                os._exit(77)

    sys.addaudithook(hook)
    convert(conversion, workers=1)
    os._exit(0)


def run_crashing(event_number: int, conversion: Conversion) -> bool:
    """Whether a conversion got so far as to crash there."""
    process = multiprocessing.get_context("fork").Process(target=crash_at, args=(event_number, conversion))
    process.start()
    process.join()
    assert process.exitcode in (0, 77)
    return process.exitcode == 77


def test_a_crash_at_any_point_changes_nothing(make_conversion: Make, tmp_path: Path) -> None:
    """Before every single write, rename and removal: nothing is half published; going on gives the same."""
    for number in range(2):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", make_texts(12, seed=number))
    out = tmp_path / "out"
    conversion = make_conversion(tmp_path / "in", holdout=0.3, shard_bytes=700)
    assert len(convert(conversion, workers=1).manifests[0].shards) > 4
    expected = tree_hashes(out)
    shutil.rmtree(out)
    number, published = 1, 0
    while run_crashing(number, conversion):
        if (out / "c4").exists():
            published += 1
            assert {k: v for k, v in tree_hashes(out).items() if not k.startswith(".")} == expected
        run_crashing(2 * number, conversion)  # once more, elsewhere
        convert(conversion, workers=1)
        assert tree_hashes(out) == expected, number
        shutil.rmtree(out)
        number += 1
    assert number > 40
    assert published > 5


def test_finished_parts_are_kept(corpus_dir: Path, make_conversion: Make, tmp_path: Path) -> None:
    last = corpus_dir / "4.jsonl"
    good = last.read_text()
    last.write_text(good + "{broken\n")
    with pytest.raises(RecordError, match=r"4\.jsonl, line 21: not valid JSON"):
        convert(make_conversion(corpus_dir), workers=1)
    assert not (tmp_path / "out" / "c4").exists()
    last.write_text(good)
    report = convert(make_conversion(corpus_dir), workers=1)
    assert report.num_kept == 4
    assert report.text_bytes == sum(len(text.strip().encode()) for text in texts_of(corpus_dir)[4])
    again = convert(make_conversion(corpus_dir), workers=1)
    assert (again.num_kept, again.text_bytes) == (5, 0)
    assert again.manifests == report.manifests


CHANGES = [
    ({"seq_len": 16}, "seq_len is 32 there, 16 asked"),
    ({"holdout": 0.2}, "holdout is 0.1 there, 0.2 asked"),
    ({"holdout": 0.0}, "holdout is 0.1 there, 0.0 asked"),
    ({"template": "dclm"}, "template is c4 there, dclm asked"),
    ({"shard_bytes": 5000}, "shard_bytes is 4096 there, 5000 asked"),
]


@pytest.mark.parametrize("finished", [True, False])
def test_another_conversion_is_refused_and_touches_nothing(
    corpus_dir: Path, make_conversion: Make, tmp_path: Path, odd_tokenizer_dir: Path, finished: bool
) -> None:
    if finished:
        convert(make_conversion(corpus_dir), workers=1)
    else:
        stop_before_the_end(corpus_dir, make_conversion)
    before = tree_hashes(tmp_path)
    changes = [*CHANGES, ({"tokenizer": str(odd_tokenizer_dir)}, "tokenizer_sha256 is ")]
    for change, message in changes:
        with pytest.raises(MismatchError) as caught:
            convert(make_conversion(corpus_dir, **change), workers=1)
        assert message in str(caught.value)
        assert str(tmp_path / "out") in str(caught.value)
    for inputs, message in [
        ([corpus_dir / "0.jsonl"], "5 .* there, 1"),
        ([corpus_dir / f"{n}.jsonl" for n in (1, 0, 2, 3, 4)], "inputs? "),
    ]:
        with pytest.raises(MismatchError, match=message):
            convert(make_conversion(*inputs), workers=1)
    assert tree_hashes(tmp_path) == before


def stop_before_the_end(corpus_dir: Path, make_conversion: Make) -> None:
    """Leave a work folder in which four of five parts are finished."""
    last = corpus_dir / "4.jsonl"
    good = last.read_bytes()
    last.write_bytes(b"{broken\n")
    with pytest.raises(RecordError):
        convert(make_conversion(corpus_dir), workers=1)
    last.write_bytes(good)


@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_input_is_refused(corpus_dir: Path, make_conversion: Make, finished: bool) -> None:
    if finished:
        convert(make_conversion(corpus_dir), workers=1)
    else:
        stop_before_the_end(corpus_dir, make_conversion)
    first = corpus_dir / "0.jsonl"
    good = first.read_bytes()
    first.write_bytes(good.replace(b"document", b"Document", 1))
    with pytest.raises(MismatchError, match=r"input .*0\.jsonl"):
        convert(make_conversion(corpus_dir), workers=1)
    first.write_bytes(good)  # another time stamp, the same bytes
    assert convert(make_conversion(corpus_dir), workers=1).num_kept == (5 if finished else 4)


def test_nothing_is_left_when_no_part_is_finished(corpus_dir: Path, make_conversion: Make, tmp_path: Path) -> None:
    (corpus_dir / "0.jsonl").write_text('{"body": "a"}\n')
    with pytest.raises(RecordError, match=r"0\.jsonl, line 1: template 'c4' wants the fields text; found: body"):
        convert(make_conversion(corpus_dir), workers=1)
    assert not (tmp_path / "out").exists()


def test_an_error_in_a_worker_arrives_whole(corpus_dir: Path, make_conversion: Make, tmp_path: Path) -> None:
    (corpus_dir / "3.jsonl").write_text('{"text": "a"}\n{"text": ["b"]}\n')
    with pytest.raises(RecordError, match=r"3\.jsonl, line 2: .* found: text \(list\)") as caught:
        convert(make_conversion(corpus_dir), workers=2)
    assert caught.value.number == 2
    assert caught.value.path == str(corpus_dir / "3.jsonl")
    assert not (tmp_path / "out" / "c4").exists()


def test_two_at_once_is_refused(corpus_dir: Path, make_conversion: Make, tmp_path: Path) -> None:
    work = tmp_path / "out" / ".c4.work"
    work.mkdir(parents=True)
    with (work / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(MismatchError, match="another conversion is at work"):
            convert(make_conversion(corpus_dir), workers=1)
    convert(make_conversion(corpus_dir), workers=1)


def test_too_little_text_is_refused(make_conversion: Make, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", ["short", "  "])
    with pytest.raises(SourceError, match="fewer than one row of 2048; give more input"):
        convert(make_conversion(path, seq_len=2048, shard_bytes=1 << 20), workers=1)
    assert not (tmp_path / "out").exists()


def test_an_empty_holdout_is_said(make_conversion: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", ["some words that fill a row " * 9, "", " \n"])
    with caplog.at_level(logging.WARNING):
        train, holdout = convert(make_conversion(path, holdout=1e-9), workers=1).manifests
    assert "holdout is empty" in caplog.text
    assert (train.documents, train.empty_records, holdout.samples) == (1, 2, 0)
    assert all_rows(tmp_path / "out" / "c4" / "holdout").shape == (0, 32)


def test_a_corpus_without_index_is_to_be_converted_anew(
    corpus_dir: Path, make_conversion: Make, tmp_path: Path
) -> None:
    convert(make_conversion(corpus_dir), workers=1)
    for split in SPLITS:
        forget_index(tmp_path / "out" / "c4" / split)
    with pytest.raises(MismatchError, match="format is 1 there, 4 asked; choose another --out, or delete"):
        convert(make_conversion(corpus_dir), workers=1)


def test_large_ids_are_uint32(make_conversion: Make, tmp_path: Path, tokenizer_dir: Path) -> None:
    loaded = tokenizers.Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    loaded.add_tokens([f"<extra{n}>" for n in range(66_000)])
    big = tmp_path / "big"
    big.mkdir()
    loaded.save(str(big / "tokenizer.json"))
    path = write_jsonl(tmp_path / "in" / "a.jsonl", ["a <extra65999> b"] * 20)
    (train,) = convert(make_conversion(path, tokenizer=str(big), holdout=0, seq_len=4), workers=1).manifests
    assert train.row_format.dtype == "uint32"
    assert all_rows(tmp_path / "out" / "c4" / "train").max() == loaded.token_to_id("<extra65999>") > 65_536


def test_calls_that_cannot_be(corpus_dir: Path, make_conversion: Make) -> None:
    for change, message in [
        ({"corpus": "../c4"}, "--corpus '../c4'"),
        ({"corpus": ""}, "--corpus ''"),
        ({"holdout": 1.0}, "--holdout 1.0"),
        ({"holdout": -0.1}, "--holdout -0.1"),
        ({"seq_len": 0}, "--seq-len"),
        ({"template": "nope"}, "unknown template"),
        ({"tokenizer": "/nope"}, "no tokenizer at"),
    ]:
        with pytest.raises(CallError) as caught:
            convert(make_conversion(corpus_dir, **change))
        assert message in str(caught.value)
    with pytest.raises(CallError, match="--workers must be at least 1, not 0"):
        convert(make_conversion(corpus_dir), workers=0)


def test_every_sample_corpus_converts(sample_data: Path, make_conversion: Make, tmp_path: Path) -> None:
    """Each with its own template, and the counts of records that the samples' own table states."""
    tokenizer = str(sample_data / "tokenizers" / "gpt-neox-20b")
    records = {"c4": 3300, "math": 11_185, "flan": 26_250, "knowledgeqa": 20_837, "dclm": 775, "sciq": 850}
    records |= {"pycode": 704, "lima": 882, "apps": 140, "gsm8k": 8792, "starcoder": 4203, "extra": 10}
    for corpus, num_records in records.items():
        inputs = [sample_data / corpus]
        if corpus == "starcoder":
            inputs = [sample_data / "starcoder" / "train-00000-of-00001.parquet", sample_data / "code"]
        conversion = make_conversion(*inputs, corpus=corpus, tokenizer=tokenizer, seq_len=512, shard_bytes=1 << 20)
        train, holdout = convert(conversion, workers=1).manifests
        assert train.records == num_records, corpus
        assert train.documents + holdout.documents + train.empty_records == num_records, corpus
        assert train.empty_records == (7 if corpus == "dclm" else 0), corpus
