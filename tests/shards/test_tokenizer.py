"""Tokenizers: ids are exactly Hugging Face's, whichever engine; what cannot be used is refused."""

import gzip
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, models, pre_tokenizers, trainers

from shards.errors import TokenizerError
from shards.tokenizer import CHECK_DOCUMENTS, Encoder, choose_engine, decode, find_tokenizer
from tests.conftest import ROOT
from tests.shards.conftest import make_texts
from tests.shards.hub import hub_server

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
NASTY = st.lists(
    st.sampled_from(
        [
            "  ",
            "\n",
            "e\u0301",
            "<|endoftext|>",
            "'s",
            "ﬁ",
            "\u00a0",
            "👩‍👩‍👧",
            "漢字",
            "12345",
            "\r\n",
            "_x",
            " a",
        ]
    ),
    max_size=12,
).map("".join)


def split(ids: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [ids[start:end].tolist() for start, end in pairwise(offsets)]


@given(st.lists(ANY_TEXT | NASTY, min_size=1, max_size=8))
def test_gigatoken_is_hugging_face(tokenizer_dir: Path, reference: tokenizers.Tokenizer, texts: list[str]) -> None:
    fast = Encoder(replace(find_tokenizer(str(tokenizer_dir)), engine="gigatoken"))
    assert split(*fast.encode([text.encode() for text in texts])) == [reference.encode(text).ids for text in texts]


@pytest.mark.parametrize("engine", ["gigatoken", "tokenizers"])
def test_engines_by_document(tokenizer_dir: Path, reference: tokenizers.Tokenizer, engine: str) -> None:
    texts = [*make_texts(50, seed=9), *CHECK_DOCUMENTS, "", "a"]
    encoder = Encoder(replace(find_tokenizer(str(tokenizer_dir)), engine=engine))
    for _ in range(2):  # the second time from the warm cache
        ids, offsets = encoder.encode([text.encode() for text in texts])
        assert ids.dtype == np.uint32
        assert split(ids, offsets) == [reference.encode(text).ids for text in texts]


def test_real_tokenizer_on_real_documents(sample_data: Path) -> None:
    folder = sample_data / "tokenizers" / "gpt-neox-20b"
    texts = list(CHECK_DOCUMENTS)
    for path in [*sorted((sample_data / "c4").glob("*.gz")), sample_data / "extra" / "wikipedia_bg.jsonl.gz"]:
        with gzip.open(path, "rt") as lines:
            texts += [json.loads(line)["text"] for line in lines][::10]
    tokenizer = find_tokenizer(str(folder))
    assert (tokenizer.eos_id, tokenizer.vocab_size, tokenizer.dtype) == (0, 50_277, "uint16")
    loaded = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = [encoding.ids for encoding in loaded.encode_batch(texts, add_special_tokens=False)]
    fast = Encoder(replace(tokenizer, engine="gigatoken"))
    assert split(*fast.encode([text.encode() for text in texts])) == expected


def test_find_reads_the_folder(tokenizer_dir: Path) -> None:
    tokenizer = find_tokenizer(str(tokenizer_dir))
    assert (tokenizer.eos, tokenizer.eos_id, tokenizer.dtype) == ("<|endoftext|>", 0, "uint16")
    assert replace(tokenizer, vocab_size=65_536).dtype == "uint16"
    assert replace(tokenizer, vocab_size=65_537).dtype == "uint32"
    assert find_tokenizer(str(tokenizer_dir / "tokenizer.json")).sha256 == tokenizer.sha256


def test_eos_comes_from_the_config(tokenizer_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tokenizer_dir, tmp_path / "t"))
    for config, eos_id in [({"eos_token": {"content": "<|padding|>"}}, 1), ({"eos_token": None}, 0), ({}, 0)]:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        assert find_tokenizer(str(folder)).eos_id == eos_id
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    with pytest.raises(TokenizerError, match="has no token '</s>'"):
        find_tokenizer(str(folder))


def test_truncation_and_padding_of_the_file_are_ignored(tokenizer_dir: Path, tmp_path: Path) -> None:
    loaded = tokenizers.Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    plain = loaded.encode("a " * 100).ids
    loaded.enable_truncation(5)
    loaded.enable_padding(length=200)
    loaded.save(str(tmp_path / "tokenizer.json"))
    tokenizer = choose_engine(find_tokenizer(str(tmp_path)), [])
    ids, _ = Encoder(tokenizer).encode([b"a " * 100])
    assert ids.tolist() == plain


def test_engine_is_gigatoken_where_it_agrees(tokenizer_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_engine(find_tokenizer(str(tokenizer_dir)), [b"x"]).engine == "gigatoken"
    assert not caplog.records


def save(tokenizer: tokenizers.Tokenizer, folder: Path) -> str:
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def wordpiece() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "<|endoftext|>"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    made.train_from_iterator(make_texts(30, seed=0), trainer)
    return made


def unigram() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<|endoftext|>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(make_texts(30, seed=0), trainer)
    return made


@pytest.mark.parametrize("make", [wordpiece, unigram])
def test_what_gigatoken_cannot_load_is_done_by_tokenizers(
    make: Callable[[], tokenizers.Tokenizer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = make_texts(40, seed=3)
    made = make()
    with caplog.at_level(logging.WARNING):
        chosen = choose_engine(find_tokenizer(save(made, tmp_path)), [text.encode() for text in texts])
    assert chosen.engine == "tokenizers"
    (record,) = caplog.records
    assert re.search(
        r'gigatoken cannot load it \(Unsupported model type "(WordPiece|Unigram)".*\); using tokenizers for .*, '
        r"[\d.e+]+ MB/s on a check sample here; where it can, it is 10 times as fast",
        record.getMessage(),
    )
    assert "\n" not in record.getMessage()
    ids, offsets = Encoder(chosen).encode([text.encode() for text in texts])
    assert split(ids, offsets) == [made.encode(text, add_special_tokens=False).ids for text in texts]


def test_where_gigatoken_gives_other_ids_tokenizers_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # merges go over spaces
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(make_texts(60, seed=0), trainer)
    tokenizer = find_tokenizer(save(made, tmp_path))
    texts = [text.encode() for text in make_texts(40, seed=3)]
    other = Encoder(replace(tokenizer, engine="gigatoken")).encode(texts)[0]
    assert other.tolist() != Encoder(tokenizer).encode(texts)[0].tolist(), "gigatoken has learned it: take another"
    with caplog.at_level(logging.WARNING):
        assert choose_engine(tokenizer, texts).engine == "tokenizers"
    (record,) = caplog.records
    assert re.search(
        r"gives other ids for \d+ of \d+ documents; using tokenizers for .*, [\d.e+]+ MB/s .* gigatoken did "
        r"[\d.e+]+ MB/s \([\d.]+ times as fast\)",
        record.getMessage(),
    )


def test_added_tokens_are_checked_though_no_document_has_them(
    tokenizer_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = tokenizers.Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    made.add_tokens([AddedToken("quux", single_word=True)])  # which gigatoken finds within words too
    tokenizer = find_tokenizer(save(made, tmp_path))
    with caplog.at_level(logging.WARNING):
        assert choose_engine(tokenizer, [b"nothing of the kind"]).engine == "tokenizers"
    assert "gives other ids for 1 of" in caplog.text


def test_a_disagreement_in_one_document_of_the_corpus_decides(
    tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encode = Encoder.encode

    def encode_differently(self: Encoder, documents: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        ids, offsets = encode(self, documents)
        if self._gigatoken is not None and documents[-1] == b"the odd one":
            ids = np.concatenate([ids[:-1], ids[-1:] + 1])
        return ids, offsets

    monkeypatch.setattr(Encoder, "encode", encode_differently)
    tokenizer = find_tokenizer(str(tokenizer_dir))
    with caplog.at_level(logging.WARNING):
        assert choose_engine(tokenizer, [b"one", b"two"]).engine == "gigatoken"
        assert choose_engine(tokenizer, [b"one", b"the odd one"]).engine == "tokenizers"
    assert "gives other ids for 1 of" in caplog.text


def test_a_name_on_the_hub(tokenizer_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tokenizer_dir, tmp_path / "hub" / "own" / "tok")
    code = (
        "from shards.tokenizer import *; t = find_tokenizer('own/tok'); ids, _ = Encoder(t).encode([b'the model'])\n"
        "print(t.sha256, t.eos_id, len(ids) > 0)\n"
        "find_tokenizer('own/none')"
    )
    with hub_server(tmp_path / "hub") as hub:
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert found.stdout.split() == [find_tokenizer(str(tokenizer_dir)).sha256, "0", "True"], found.stderr
    assert "TokenizerError: no tokenizer 'own/none': neither a folder or file here nor to be had from the hub (404" in (
        found.stderr
    )
    assert "GET /own/tok/resolve/main/tokenizer.json" in hub.requests


def test_a_worker_elsewhere_finds_the_tokenizer_by_its_name(tokenizer_dir: Path) -> None:
    tokenizer = replace(find_tokenizer(str(tokenizer_dir)), path="/only/on/the/other/machine/tokenizer.json")
    assert len(Encoder(tokenizer).encode([b"the model"])[0])


def test_what_is_no_tokenizer(tmp_path: Path, tokenizer_dir: Path) -> None:
    with pytest.raises(TokenizerError, match="no tokenizer at /no/such/folder"):
        find_tokenizer("/no/such/folder")
    with pytest.raises(TokenizerError, match="expected a folder with tokenizer"):
        find_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"is no tokenizer\.json"):
        find_tokenizer(str(tmp_path))


def test_a_tokenizer_that_changes_is_refused(tokenizer_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tokenizer_dir, tmp_path / "t"))
    tokenizer = find_tokenizer(str(folder))
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    with pytest.raises(TokenizerError, match="has changed since"):
        Encoder(tokenizer)


def test_decode_is_the_inverse(tokenizer_dir: Path) -> None:
    tokenizer = find_tokenizer(str(tokenizer_dir))
    ids, _ = Encoder(tokenizer).encode(["naïve 漢字\n  x<|endoftext|>".encode()])
    assert decode(tokenizer, ids.tolist()) == "naïve 漢字\n  x<|endoftext|>"
