"""Words and n-grams as numbers, against the same letter by letter."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.curation import words as module
from shards.curation.words import hash_rows, read_words, spell
from tests.shards.curation.oracles import ngrams_of, words_of

TEXTS = st.lists(
    st.text(
        st.one_of(st.sampled_from("aB c\n.,-9ß漢字かなกŽz̆ﬁ½'\u00ad😀"), st.characters(exclude_categories=["Cs"])),
        max_size=60,
    ),
    max_size=8,
)


@given(TEXTS)
def test_words_are_those_found_letter_by_letter(texts: list[str]) -> None:
    words = read_words(texts)
    expected = [words_of(text) for text in texts]
    assert [spell(text) for text in texts] == expected
    assert words.counts.tolist() == [len(one) for one in expected]
    flat = [word for one in expected for word in one]
    assert words.lengths.tolist() == [len(word) for word in flat]
    for (a, x), (b, y) in pairwise(zip(flat, words.hashes, strict=True)):
        assert (a == b) == (x == y)
    assert len(set(flat)) == len(np.unique(words.hashes))


@given(TEXTS, st.integers(1, 4))
def test_ngrams_are_those_of_each_text_alone(texts: list[str], n: int) -> None:
    words = read_words(texts)
    hashes, starts = words.ngrams(n)
    expected = [gram for text in texts for gram in ngrams_of(text, n)]
    assert len(hashes) == len(expected)
    assert len(np.unique(hashes)) == len(set(expected))
    counts = [len(ngrams_of(text, n)) for text in texts]
    firsts = words.offsets[:-1].tolist()
    places = [first + i for first, count in zip(firsts, counts, strict=True) for i in range(count)]
    assert starts.tolist() == places
    alone = [read_words([text]).ngrams(n)[0] for text in texts]
    assert hashes.tolist() == [value for one in alone for value in one.tolist()]


@given(TEXTS, st.data())
def test_keeping_some_texts_is_reading_them_only(texts: list[str], data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), np.bool_)
    kept = read_words(texts).keep(mask)
    read = read_words([text for text, keep in zip(texts, mask, strict=True) if keep])
    assert kept.hashes.tolist() == read.hashes.tolist()
    assert kept.lengths.tolist() == read.lengths.tolist()
    assert kept.offsets.tolist() == read.offsets.tolist()


@given(st.lists(st.text("ab \n漢é", max_size=200), max_size=6))
def test_pieces_change_nothing(texts: list[str]) -> None:
    texts = [" ".join(piece[:12] for piece in text.split(" ")) for text in texts]
    whole = read_words(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PIECE", 32)
        cut = read_words(texts)
        grams = cut.ngrams(3)[0]
        assert [spell(text) for text in texts] == [words_of(text) for text in texts]
    assert cut.hashes.tolist() == whole.hashes.tolist()
    assert cut.offsets.tolist() == whole.offsets.tolist()
    assert grams.tolist() == whole.ngrams(3)[0].tolist()


def test_a_short_text_is_one_ngram_when_asked_for_whole() -> None:
    words = read_words(["one two", "", "one two three", "two"])
    hashes, starts = words.ngrams(3, whole=True)
    assert starts.tolist() == [0, 2, 5]
    assert hashes[0] == read_words(["One, two!"]).ngrams(2)[0][0]
    assert hashes[2] == words.ngrams(1)[0][1]


def test_what_normalisation_makes_equal() -> None:
    same = ["Café “Größe” ﬁne x²", "cafe\u0301 größe FINE x2", "CAFÉ—größe… fine   (x2)"]
    assert len({tuple(read_words([text]).hashes.tolist()) for text in same}) == 1


def test_a_run_without_end_is_cut_and_told_apart_by_its_first_characters() -> None:
    first, second = read_words(["a" * 255 + "b" * 10]), read_words(["a" * 255 + "c" * 10])
    assert first.hashes.tolist() == second.hashes.tolist()
    assert first.hashes.tolist() != read_words(["a" * 254 + "b"]).hashes.tolist()


def test_rows_are_told_apart() -> None:
    rows = np.array([[0, 0], [0, 1], [1, 0], [0, 1]], np.uint32)
    hashes = hash_rows(rows)
    assert hashes[1] == hashes[3]
    assert len(np.unique(hashes)) == 3
