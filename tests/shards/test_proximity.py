"""Proximity against the formulas written out in plain Python, and against cases known by hand."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.conversion import Conversion, convert
from shards.errors import CallError, CorpusError
from shards.manifest import read_manifest
from shards.proximity import advantage, compare, distribution, measure
from tests.shards.conftest import all_rows, make_texts, write_jsonl

COUNTS = st.lists(st.integers(0, 50), min_size=6, max_size=6).filter(any)


def plainly(p: list[float], q: list[float]) -> tuple[float, float, float]:
    """Cosine, Jaccard and JS similarity, term by term."""
    dot = sum(a * b for a, b in zip(p, q, strict=True))
    cosine = dot / math.sqrt(sum(a * a for a in p)) / math.sqrt(sum(b * b for b in q))
    first, second = {i for i, a in enumerate(p) if a}, {i for i, b in enumerate(q) if b}
    divergence = 0.0
    for a, b in zip(p, q, strict=True):
        m = (a + b) / 2
        divergence += 0.5 * a * math.log(a / m) if a else 0
        divergence += 0.5 * b * math.log(b / m) if b else 0
    return cosine, len(first & second) / len(first | second), 1 / (1 + divergence)


@given(COUNTS, COUNTS)
def test_compare_is_the_formulas(first: list[int], second: list[int]) -> None:
    p, q = ([count / sum(counts) for count in counts] for counts in (first, second))
    cosine, jaccard, js = plainly(p, q)
    found = compare(distribution(np.array(first)), distribution(np.array(second)))
    assert found.cosine == pytest.approx(cosine)
    assert found.jaccard == jaccard
    assert found.js == pytest.approx(js)
    assert found.combined == pytest.approx(0.4 * cosine + 0.3 * jaccard + 0.3 * js)
    assert found.distance == pytest.approx(1 - found.combined)


def test_same_and_disjoint() -> None:
    p, q = distribution(np.array([1, 3, 0, 0])), distribution(np.array([0, 0, 2, 2]))
    same, apart = compare(p, p), compare(p, q)
    assert (same.cosine, same.jaccard, same.js) == pytest.approx((1, 1, 1))
    assert (apart.cosine, apart.jaccard) == (0, 0)
    assert apart.js == pytest.approx(1 / (1 + math.log(2)))


def test_only_the_most_frequent_are_kept() -> None:
    assert distribution(np.array([5, 1, 9, 5]), kept=2).tolist() == [5 / 14, 0, 9 / 14, 0]


def test_a_mix_is_by_share() -> None:
    base, new, target = (distribution(np.array(c)) for c in ([1, 0, 1], [0, 1, 0], [1, 2, 1]))
    found = advantage(base, new, target, share=0.5)
    assert found.mix_target.combined == pytest.approx(1)
    assert found.advantage == pytest.approx(compare(base, target).distance)
    assert advantage(base, new, target, share=0).advantage == 0
    for share in (-0.1, 1.1):
        with pytest.raises(CallError, match="--share"):
            advantage(base, new, target, share=share)


def test_measure_reads_converted_corpora(make_conversion: Callable[..., Conversion], tmp_path: Path) -> None:
    folders = {}
    for number, name in enumerate(("base", "new", "target")):
        path = write_jsonl(tmp_path / name / "a.jsonl", make_texts(30, seed=number))
        convert(make_conversion(path, corpus=name, holdout=0), workers=1)
        folders[name] = tmp_path / "out" / name / "train"
    found = measure(folders["base"], folders["new"], folders["target"], share=0.25)
    shares = []
    for folder in folders.values():
        tokens = all_rows(folder).ravel()
        counts = np.bincount(tokens[tokens != 0], minlength=read_manifest(folder).parameters["vocab_size"])
        shares.append((counts / counts.sum()).tolist())
    base, new, target = shares
    mix = [0.25 * b + 0.75 * a for a, b in zip(base, new, strict=True)]
    cosine, jaccard, js = plainly(mix, target)
    assert (found.mix_target.cosine, found.mix_target.jaccard, found.mix_target.js) == pytest.approx(
        (cosine, jaccard, js)
    )
    assert found.base_target.cosine == pytest.approx(plainly(base, target)[0])


def test_different_tokenizers_are_refused(
    make_conversion: Callable[..., Conversion], tmp_path: Path, odd_tokenizer_dir: Path
) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", make_texts(30, seed=1))
    convert(make_conversion(path, corpus="a", holdout=0), workers=1)
    convert(make_conversion(path, corpus="b", holdout=0, tokenizer=str(odd_tokenizer_dir)), workers=1)
    a, b = tmp_path / "out" / "a" / "train", tmp_path / "out" / "b" / "train"
    with pytest.raises(CorpusError, match="different tokenizers"):
        measure(a, a, b, share=0.2)
    with pytest.raises(CorpusError, match="is no corpus"):
        measure(a, a, tmp_path, share=0.2)


def test_an_empty_corpus_is_refused(make_conversion: Callable[..., Conversion], tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", make_texts(30, seed=1))
    convert(replace(make_conversion(path), holdout=1e-12), workers=1)
    corpus = tmp_path / "out" / "c4"
    with pytest.raises(CorpusError, match="holds no tokens"):
        measure(corpus / "train", corpus / "holdout", corpus / "train", share=0.2)
