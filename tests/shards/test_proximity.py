"""Proximity against the formulas written out in plain Python, against cases known by hand, and on real samples."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.cli import main
from shards.conversion import Conversion, convert
from shards.errors import CallError, CorpusError
from shards.manifest import read_manifest
from shards.proximity import advantage, compare, distribution, load, matrix, measure, mix, rank
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
        with pytest.raises(CallError, match="a share from 0 to 1 is allowed"):
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


NAMED = {
    name: distribution(np.array(counts))
    for name, counts in {
        "base": [8, 1, 1, 0],
        "code": [0, 1, 4, 5],
        "math": [1, 6, 3, 0],
        "target": [1, 0, 5, 4],
    }.items()
}


def test_a_mix_of_several_is_weighted_by_tokens() -> None:
    found = mix(NAMED, {"code": 0.15, "math": 0.05}, base="base")
    expected = 0.15 * NAMED["code"] + 0.05 * NAMED["math"] + 0.8 * NAMED["base"]
    assert found == pytest.approx(expected)
    assert found.sum() == pytest.approx(1)
    assert mix(NAMED, {"code": 0.7, "math": 0.3}, base="base") == pytest.approx(
        0.7 * NAMED["code"] + 0.3 * NAMED["math"]
    )


def test_the_matrix_is_every_pair() -> None:
    found = matrix(NAMED)
    names = list(NAMED)
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            assert found[i][j].combined == pytest.approx(compare(NAMED[first], NAMED[second]).combined)
    assert [found[i][i].combined for i in range(4)] == pytest.approx([1] * 4)


def test_candidates_are_ranked_by_their_advantage() -> None:
    candidates = {"none": {}, "math": {"math": 0.2}, "code": {"code": 0.2}, "both": {"code": 0.15, "math": 0.05}}
    ranked = rank(NAMED, candidates, base="base", target="target")
    assert [one.name for one in ranked] == ["code", "both", "math", "none"]
    before = compare(NAMED["base"], NAMED["target"]).distance
    for one in ranked:
        near = compare(mix(NAMED, candidates[one.name], base="base"), NAMED["target"])
        assert one.proximity == near
        assert one.advantage == pytest.approx(before - near.distance)
    assert ranked[-1].advantage == 0


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"code": 0.6, "math": 0.5}, "add up to more than 1"),
        ({"code": -0.1}, "from 0 to 1"),
        ({"code": math.nan}, "from 0 to 1"),
        ({"cod": 0.1}, "there is no corpus 'cod'; named are base, code"),
    ],
)
def test_wrong_candidates_are_named(shares: dict[str, float], message: str) -> None:
    with pytest.raises(CallError, match=f"candidate odd: .*{message}"):
        rank(NAMED, {"odd": shares}, base="base", target="target")


# The command


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """`OUT/base`, `OUT/new` and `OUT/target`, the latter two of few and the same words."""
    folder = tmp_path_factory.mktemp("corpora")
    texts = {
        "base": make_texts(60, seed=1),
        "new": ["while return {} ; z333 " * 40] * 20,
        "target": ["z333 ; return " * 60] * 9,
    }
    for name, documents in texts.items():
        path = write_jsonl(folder / f"{name}.jsonl", documents)
        options = {
            "corpus": name,
            "tokenizer": str(tokenizer_dir),
            "out": str(folder / "out"),
            "holdout": 0,
            "seq_len": 32,
        }
        convert(Conversion(inputs=[str(path)], shard_bytes=4096, **options), workers=1)
    return folder / "out"


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["proximity", *map(str, words)])
    return code, *capsys.readouterr()


def test_the_command_ranks(corpora: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mixes = tmp_path / "mixes.yaml"
    mixes.write_text("little: {new: 0.01}\nlot: {new: 0.9, base: 0.1}\n")
    words = [*sorted(corpora.iterdir()), "--base", "base", "--target", "target", "--candidates", mixes, "--share", 0.2]
    code, out, _ = call(capsys, *words, "--candidate", "half=new:0.5", "--json", "--plot", tmp_path / "x.svg")
    assert code == 0
    ranked = json.loads(out)["target"]
    assert [one["name"] for one in ranked] == ["lot", "half", "new", "little"]
    assert ranked[2]["shares"] == {"new": 0.2}
    assert [one["advantage"] for one in ranked] == sorted((one["advantage"] for one in ranked), reverse=True)
    assert b"<svg" in (tmp_path / "x.svg").read_bytes()
    _, out, _ = call(capsys, *words)
    assert out.splitlines()[0].startswith("for target, from base at distance 0.")
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["lot", "new", "little"]


def test_the_command_prints_the_matrix_with_mixes(corpora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = sorted(corpora.iterdir())
    code, out, _ = call(capsys, *folders, "--base", "base", "--candidate", "m=new:0.25")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["combined", "base", "new", "target", "m"]
    found = load({folder.name: folder / "train" for folder in folders})
    expected = compare(mix(found, {"new": 0.25}, base="base"), found["target"]).combined
    assert float(lines[3][4]) == float(lines[4][3]) == pytest.approx(expected, abs=1e-4)
    _, out, _ = call(capsys, *folders, "--measure", "jaccard", "--json")
    assert json.loads(out)["names"] == ["base", "new", "target"]


def test_the_first_form_of_the_command(corpora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, new, target = (corpora / name / "train" for name in ("base", "new", "target"))
    code, out, _ = call(capsys, "--base", base, "--mix", new, "--share", 0.2, "--target", target, "--json")
    assert code == 0
    assert json.loads(out)["advantage"] == measure(base, new, target, share=0.2).advantage > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--target target", "--target needs a --base"),
        ("--base base --target target", "nothing to rank"),
        ("--base base --target nowhere --share 0.1", "nowhere is neither a directory nor one of base, new, target"),
        ("--base base --target target --candidate new:0.1", "write NAME=CORPUS:SHARE"),
        ("--base base --target target --candidate x=new:much", "write NAME=CORPUS:SHARE"),
        ("--base base --target target --candidate x=new:0.1,new:0.1", "write NAME=CORPUS:SHARE"),
        ("--base base --target target --candidate x=new:1.5", "candidate x: share 1.5 of new"),
        ("--base base --target target --candidate x=new:.1 --candidate x=new:.2", "two candidates are called x"),
        ("--candidate x=new:0.1", "candidates need a --base"),
        ("--base base --candidate new=new:0.1", "both called new"),
        ("--base base --target target --candidates nowhere.yaml", "nowhere.yaml cannot be read: No such file"),
        ("--plot near.doc", "the ending must be one of .svg, .png, .pdf"),
        ("--plot nowhere/near.svg", "cannot write nowhere/near.svg"),
    ],
)
def test_wrong_calls_are_one_line(words: str, message: str, corpora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, *sorted(corpora.iterdir()), *words.split())
    assert code == (1 if "cannot write" in message else 2)
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["[new]", "x: [0.1]", "x: {new: much}", "x: {new: 0.1}\nx: {new: 0.2}", "{"])
def test_a_wrong_file_of_candidates(
    text: str, corpora: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mixes.yaml").write_text(text)
    words = [*sorted(corpora.iterdir()), "--base", "base", "--target", "target"]
    code, _, err = call(capsys, *words, "--candidates", tmp_path / "mixes.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert "mixes.yaml" in err


def test_two_corpora_of_one_name_want_names(corpora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, corpora / "new", corpora / "new" / "train")
    assert (code, "both called new; write NAME=" in err) == (2, True)
    assert call(capsys, corpora / "new", f"again={corpora / 'new' / 'train'}")[0] == 0


# Real samples

REAL = {
    "c4": ["c4"],
    "starcoder": ["starcoder/train-00000-of-00001.parquet", "code"],
    "math": ["math"],
    "pycode": ["pycode"],
    "gsm8k": ["gsm8k"],
}


def test_on_real_samples_code_is_nearest_to_code_and_math_to_math(sample_data: Path, tmp_path: Path) -> None:
    folders = {}
    for name, inputs in REAL.items():
        options = {"corpus": name, "tokenizer": str(sample_data / "tokenizers" / "gpt-neox-20b"), "out": str(tmp_path)}
        paths = [str(sample_data / path) for path in inputs]
        convert(Conversion(inputs=paths, seq_len=128, holdout=0, **options), workers=1)
        folders[name] = tmp_path / name / "train"
    found = load(folders)
    alone = compare(found["c4"], found["pycode"]).combined
    mixed = compare(mix(found, {"starcoder": 0.2}, base="c4"), found["pycode"]).combined
    assert alone < 0.5 < mixed  # the paper's 0.54 and 0.70, on a few files of each
    candidates = {
        "starcoder": {"starcoder": 0.2},
        "math": {"math": 0.12},
        "math more": {"math": 0.2},
        "code and math": {"starcoder": 0.15, "math": 0.05},
    }
    best = {target: rank(found, candidates, base="c4", target=target) for target in ("pycode", "gsm8k")}
    assert best["pycode"][0].name == "starcoder"
    assert best["gsm8k"][0].name == "math more"
    assert {one.name for one in best["gsm8k"][:2]} == {"math", "math more"}
