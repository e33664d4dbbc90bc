"""Exact and near duplicates, against brute force."""

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.curation.duplicates import WINDOW, NearDuplicates, find_exact, find_near, hash_texts
from shards.curation.settings import Section
from tests.shards.curation.conftest import VOCABULARY, make_batch, make_documents
from tests.shards.curation.oracles import components, jaccard

NEAR = NearDuplicates.parse(Section({}, "near"), "near_duplicates")


def near(signatures: np.ndarray, threshold: float = 0.8, step: NearDuplicates = NEAR) -> list[bool]:
    keys = step.band_keys(signatures)
    return find_near(iter(keys), lambda rows: signatures[rows], len(signatures), threshold).tolist()


def edited(text: str, share: float, rng: random.Random) -> str:
    """`text` with a run of about `share` of its words replaced."""
    words = text.split()
    count = round(len(words) * share)
    start = rng.randrange(len(words) - count + 1)
    return " ".join([*words[:start], *rng.choices(VOCABULARY, k=count), *words[start + count :]])


@given(st.lists(st.sampled_from(["a", "a ", " a\n", "A", "a b", "a  b", "a\tb", "a.b", "e\u0301", "é"]), max_size=20))
def test_exact_duplicates_are_those_of_a_dictionary(texts: list[str]) -> None:
    import unicodedata

    seen: set[str] = set()
    expected = []
    for text in texts:
        normal = " ".join(unicodedata.normalize("NFC", text).split())
        expected.append(normal in seen)
        seen.add(normal)
    assert find_exact(hash_texts(texts)).tolist() == expected


def test_rows_are_the_most_that_find_a_pair_at_the_threshold() -> None:
    assert (NEAR.rows, NEAR.bands) == (6, 21)
    for threshold in (0.5, 0.7, 0.9, 1.0):
        step = NearDuplicates.parse(Section({"threshold": threshold}, "near"), "near")
        chance = [1 - (1 - threshold**r) ** (128 // r) for r in range(1, 129)]
        assert chance[step.rows - 1] >= 0.99
        assert all(one < 0.99 for one in chance[step.rows :])


def test_signatures_estimate_the_similarity() -> None:
    rng = random.Random(0)
    texts = make_documents(30, seed=1, shortest=200, longest=300)
    for share in (0.02, 0.1, 0.3):
        others = [edited(text, share, rng) for text in texts]
        left, right = NEAR.sign(make_batch(texts)), NEAR.sign(make_batch(others))
        estimates = (left == right).mean(axis=1)
        truth = np.array([jaccard(a, b) for a, b in zip(texts, others, strict=True)])
        assert np.abs(estimates - truth).max() < 5 * 0.5 / 128**0.5
        assert abs((estimates - truth).mean()) < 0.03


def test_planted_near_duplicates_are_found_and_nothing_else() -> None:
    rng = random.Random(2)
    texts = make_documents(300, seed=3, shortest=150, longest=300)
    alike = [edited(text, 0.02, rng) for text in texts[:40]]
    apart = [edited(text, 0.5, rng) for text in texts[40:80]]
    assert min(jaccard(a, b) for a, b in zip(texts[:40], alike, strict=True)) > 0.88
    assert max(jaccard(a, b) for a, b in zip(texts[40:80], apart, strict=True)) < 0.6
    found = near(NEAR.sign(make_batch([*texts, *alike, *apart])))
    assert found == [False] * 300 + [True] * 40 + [False] * 40


def test_case_punctuation_and_space_do_not_count_and_short_texts_are_told_apart() -> None:
    texts = ["Hello, World", "hello world!", "hello", "!!!", "???", "!!!", "hello world again"]
    assert near(NEAR.sign(make_batch(texts))) == [False, True, False, False, False, True, False]


def clusters(seed: int, num: int, width: int = 128) -> np.ndarray:
    """Signatures in chains: each is one of those before with up to 30% of its numbers changed, or a new one."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, 1 << 32, width, dtype=np.uint32)]
    while len(rows) < num:
        row = rows[rng.integers(len(rows))].copy() if rng.random() < 0.7 else rng.integers(0, 1 << 32, width, np.uint32)
        changed = rng.choice(width, int(rng.integers(0, 0.3 * width)), replace=False)
        row[changed] = rng.integers(0, 1 << 32, len(changed), dtype=np.uint32)
        rows.append(row)
    return np.stack(rows)


@given(st.integers(0, 1 << 30), st.integers(1, 50))
def test_of_each_component_the_first_stays(seed: int, num: int) -> None:
    signatures = clusters(seed, num)
    keys = NEAR.band_keys(signatures)
    pairs = [
        (a, b)
        for a, b in combinations(range(num), 2)
        if (keys[:, a] == keys[:, b]).any() and (signatures[a] == signatures[b]).mean() >= 0.8
    ]
    group = components(num, pairs)
    assert near(signatures) == [group[i] != i for i in range(num)]


@given(st.integers(0, 1 << 30), st.integers(1, 40), st.data())
def test_one_more_document_of_its_own_changes_nothing_else(seed: int, num: int, data: st.DataObject) -> None:
    signatures = clusters(seed, num)
    before = near(signatures)
    place = data.draw(st.integers(0, num))
    new = np.random.default_rng(seed + 1).integers(0, 1 << 32, (1, 128), dtype=np.uint32)
    after = near(np.concatenate([signatures[:place], new, signatures[place:]]))
    assert after[place] is False
    assert after[:place] + after[place + 1 :] == before


def test_the_order_of_bands_changes_nothing() -> None:
    signatures = clusters(5, 60)
    keys = NEAR.band_keys(signatures)
    assert find_near(iter(keys[::-1]), lambda rows: signatures[rows], 60, 0.8).tolist() == near(signatures)


def test_a_crowd_of_equal_documents_is_one_component() -> None:
    signatures = np.repeat(clusters(6, 1), 5 * WINDOW, axis=0)
    asked = 0

    def fetch(rows: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(rows)
        return signatures[rows]

    found = find_near(iter(NEAR.band_keys(signatures)), fetch, len(signatures), 0.8)
    assert found.tolist() == [False] + [True] * (len(signatures) - 1)
    assert asked <= 2 * len(signatures)  # once joined, a pair is not looked at again


def test_the_threshold_decides() -> None:
    signatures = np.tile(np.arange(128, dtype=np.uint32), (3, 1))
    signatures[1, :25] += 1000  # 103 of 128 agree with row 0: 0.805
    signatures[2, -27:] += 2000  # 101 with row 0: 0.789; 76 with row 1
    assert near(signatures) == [False, True, False]
    assert near(signatures, 0.78) == [False, True, True]


def test_c4_has_no_duplicates_but_those_planted(sample_data) -> None:  # type: ignore[no-untyped-def]
    from tests.shards.curation.conftest import read_texts

    rng = random.Random(4)
    texts = read_texts(sample_data / "c4" / "c4-train.00000-of-00003.json.gz", "text")
    long = [text for text in texts if len(text.split()) > 200]
    planted = [edited(text, 0.01, rng) for text in long[:100]]
    assert min(jaccard(a, b) for a, b in zip(long, planted, strict=False)) > 0.85
    found = near(NEAR.sign(make_batch([*texts, *planted])))
    assert found == [False] * len(texts) + [True] * len(planted)


def test_no_document_at_all() -> None:
    assert find_exact(np.empty((0, 2), np.uint64)).tolist() == []
    assert find_near(iter([]), lambda rows: np.empty((0, 128), np.uint32), 0, 0.8).tolist() == []


@pytest.mark.parametrize("threshold", [0, 1.5, "high"])
def test_a_threshold_out_of_range_is_refused(threshold: object) -> None:
    from shards.errors import CallError

    with pytest.raises(CallError, match=r"near\.threshold must be a number"):
        NearDuplicates.parse(Section({"threshold": threshold}, "near"), "near")
