"""Conversion to one example a row: whole texts, exact prompts, the same bytes always; verify and inspect."""

import json
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from streaming import StreamingDataset

from mixer.documents import open_documents
from mixer.reader import RowReader
from mixer.storage import open_corpus
from shards.conversion import Conversion, convert
from shards.errors import CallError
from shards.inspection import inspect
from shards.manifest import read_manifest, read_unigram
from shards.mds import read_rows, shard_name
from shards.verification import verify
from tests.shards.conftest import all_rows, make_texts, tree_hashes

SEQ_LEN = 48
Make = Callable[..., Conversion]


@pytest.fixture(scope="module")
def records() -> list[dict[str, str]]:
    """Questions and answers of many lengths, with letters of several bytes and white space at every border."""
    texts = make_texts(160, seed=3, longest=30)
    odd = [("Füße 漢字", "👩‍👩‍👧 ja"), ("e\u0301", "e\u0301"), ("\n\n q", "a \n"), ("q" * 500, "a")]
    return [{"question": q, "answer": a} for q, a in [*zip(texts[::2], texts[1::2], strict=True), *odd]]


@pytest.fixture
def sources(records: list[dict[str, str]], tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        lines = [json.dumps(record) for record in records[number::3]]
        (folder / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def make(make_conversion: Make, sources: Path) -> Make:
    def examples(**changes: object) -> Conversion:
        given = {"corpus": "gsm8k", "rows": "examples", "seq_len": SEQ_LEN, **changes}
        return make_conversion(sources, **given)

    return examples


def expected_rows(records: list[dict[str, str]], reference: tokenizers.Tokenizer) -> set[tuple[int, ...]]:
    """The plain way: the text's tokens, end-of-text, cut; of the prompt the tokens that end within it."""
    rows = set()
    for record in records:
        prompt, text = record["question"] + "\n\n", record["question"] + "\n\n" + record["answer"]
        stripped = len(text) - len(text.lstrip())
        encoding = reference.encode(text.strip(), add_special_tokens=False)
        tokens = [*encoding.ids, 0][:SEQ_LEN]
        border = max(len(prompt) - stripped, 0)
        num_prompt = 0
        while num_prompt < len(encoding.ids) and encoding.offsets[num_prompt][1] <= border:
            num_prompt += 1
        rows.add((min(num_prompt, len(tokens)), len(tokens), *tokens, *[0] * (SEQ_LEN - len(tokens))))
    return rows


def test_a_row_is_an_example_with_its_prompt(
    make: Make, records: list[dict[str, str]], reference: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    report = convert(make(), workers=1)
    found = {tuple(row) for split in ("train", "holdout") for row in all_rows(report.folder / split).tolist()}
    assert found == expected_rows(records, reference)
    assert {row[1] < SEQ_LEN for row in found} == {True, False}
    train, holdout = report.manifests
    assert (train.samples, holdout.samples) == (train.documents, holdout.documents)
    assert train.samples + holdout.samples == len(records)
    real = sum(row[1] for row in all_rows(report.folder / "train").tolist())
    assert train.tokens - train.dropped_tokens == real == read_unigram(report.folder / "train").sum()
    assert train.dropped_tokens > 0


def test_prompt_and_output_are_told_apart_to_the_letter(make: Make, tmp_path: Path) -> None:
    folder = convert(make(), workers=1).folder / "train"
    cut = 0
    for sample in inspect(folder, range(read_manifest(folder).samples)):
        path, _, line = sample.pieces[0].place.removesuffix(", prompt").removesuffix(", output").partition(", line ")
        record = json.loads(Path(path).read_text().split("\n")[int(line) - 1])
        whole = f"{record['question']}\n\n{record['answer']}".strip()
        whole, answer = (unicodedata.normalize("NFC", text) for text in (whole, record["answer"].strip()))
        pieces = [piece.text for piece in sample.pieces]
        assert len(pieces) == 1 or whole.startswith(pieces[0])
        if len(sample.tokens) == SEQ_LEN:
            cut += 1
        else:
            assert "".join(pieces) == whole
            assert pieces[-1].strip() == answer
    assert cut


def test_workers_kills_and_engines_give_the_same_bytes(make: Make, tmp_path: Path) -> None:
    once = convert(make(out=str(tmp_path / "a")), workers=1).folder
    again = make(out=str(tmp_path / "b"))
    (part,) = [path for path in Path(again.inputs[0]).iterdir() if path.name == "1.jsonl"]
    whole = part.read_text()
    part.write_text(whole + '{"question": 1}\n')
    with pytest.raises(CallError, match="wants the fields"):
        convert(again, workers=1)
    assert list((tmp_path / "b").rglob("part.json")), "a part was finished before it failed"
    part.write_text(whole)
    other = convert(again, workers=2).folder
    assert tree_hashes(once) == tree_hashes(other)
    assert convert(again).num_kept == 3


def test_other_programs_read_it(make: Make, tmp_path: Path) -> None:
    folder = convert(make(), workers=1).folder / "train"
    rows = all_rows(folder)
    corpus = open_corpus(folder)
    assert (corpus.has_examples, corpus.seq_len, corpus.row_size) == (True, SEQ_LEN, SEQ_LEN + 2)
    order = np.random.default_rng(0).permutation(len(rows))
    assert np.array_equal(RowReader([corpus]).read(order), rows[order])
    stock = StreamingDataset(local=str(folder), shuffle=False, batch_size=1)
    for number, row in enumerate(rows.tolist()):
        sample = stock[number]
        assert [sample["num_prompt_tokens"], sample["num_tokens"], *sample["tokens"].tolist()] == row
    index = open_documents(folder)
    assert [len(index.in_sample(number)) for number in range(len(rows))] == [1] * len(rows)
    without = tmp_path / "without"
    shutil.copytree(folder, without)
    (without / "corpus.json").unlink()
    assert (open_corpus(without).has_examples, open_corpus(without).row_size) == (True, SEQ_LEN + 2)


def test_verify_knows_examples(make: Make) -> None:
    folder = convert(make(), workers=1).folder / "train"
    assert verify(folder) == []
    manifest = read_manifest(folder)
    assert len(manifest.shards) > 1
    path = folder / shard_name(0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (fault,) = verify(folder)
    assert "its bytes have changed" in fault


@pytest.mark.parametrize("place", [0, 1, -1])
def test_verify_finds_counts_that_cannot_be(place: int, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a shard whose hash is right: as of a program that writes wrong rows."""
    folder = convert(make(), workers=1).folder / "train"

    def wrong(path: Path, form: object) -> np.ndarray:
        rows = np.array(read_rows(path, form))  # type: ignore[arg-type]
        rows[rows[:, 1] < SEQ_LEN, place] = SEQ_LEN + 1
        return rows

    monkeypatch.setattr("shards.verification.read_rows", wrong)
    assert any("are not those of an example" in fault for fault in verify(folder))


def test_packed_rows_are_what_they_were(make: Make) -> None:
    packed = convert(replace(make(), rows="packed"), workers=1)
    parameters = packed.manifests[0].parameters
    assert "rows" not in parameters
    assert parameters["alternatives"] == ["{question}\n\n{answer}"]
    with pytest.raises(CallError, match="rows is None there, examples asked"):
        convert(make(), workers=1)
