"""Tokenizers: ids are exactly Hugging Face's, whichever engine; what cannot be used is refused."""

import gzip
import json
import logging
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import TokenizerError
from shards.tokenizer import CHECK_DOCUMENTS, Encoder, choose_engine, decode, find_tokenizer
from tests.shards.conftest import make_texts

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


def test_engine_falls_back_with_a_warning(odd_tokenizer_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_engine(find_tokenizer(str(odd_tokenizer_dir)), [b"x"]).engine == "tokenizers"
    assert "gigatoken" in caplog.text
    assert "slower" in caplog.text


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
