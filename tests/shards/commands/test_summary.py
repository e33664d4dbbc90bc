"""The summary of a conversion, for people and for scripts, and recipes on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shards.cli import main
from shards.manifest import read_manifest
from tests.shards.conftest import make_texts, write_jsonl


@pytest.fixture
def words(tokenizer_dir: Path, tmp_path: Path) -> list[str]:
    options = {"--tokenizer": tokenizer_dir, "--out": tmp_path / "out", "--seq-len": 32, "--shard-bytes": 4096}
    return ["convert", *(str(word) for pair in options.items() for word in pair), "--workers", "1"]


def test_scripts_get_all_numbers(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*make_texts(40, seed=1), "", "  "])
    with path.open("a") as file:
        file.write("{\n[]\n")
    call = [*words, "--corpus", "c4", "--holdout", "0.2", "--on-error", "skip", "--json", str(path)]
    assert main(call) == 0
    found = json.loads(capsys.readouterr().out)
    splits = {name: read_manifest(tmp_path / "out" / "c4" / name) for name in ("train", "holdout")}
    for name, manifest in splits.items():
        assert found["splits"][name] == {
            "documents": manifest.documents,
            "tokens": manifest.tokens,
            "samples": manifest.samples,
            "shards": len(manifest.shards),
            "dropped_tokens": manifest.dropped_tokens,
        }
    assert (found["records"], found["empty_records"]) == (44, 2)
    assert found["skipped"] == {"no object": 1, "not JSON": 1}
    assert found["mb_per_second"] > 0
    tokens = sum(manifest.tokens for manifest in splits.values())
    assert found["tokens_per_second"] == pytest.approx(tokens / found["seconds"], rel=0.05)
    assert found["peak_memory_bytes"] > 1 << 24
    call.remove("--json")
    assert main(call) == 0
    out = capsys.readouterr().out
    assert "all parts were converted already" in out
    assert "of 44 records: 2 without text; 1 skipped, no object; 1 skipped, not JSON" in out
    assert "train/skipped.jsonl" in out


def test_a_recipe_decides_and_flags_go_before_it(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", make_texts(40, seed=1))
    (tmp_path / "notes.yaml").write_text("inputs: [in]\ntemplate: '{text}'\nholdout: 0\nrows: examples\n")
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--recipe", "notes.yaml"]) == 0
    manifest = read_manifest(tmp_path / "out" / "notes" / "train")
    assert (manifest.documents, manifest.row_format.rows) == (40, "examples")
    assert main([*words, "--recipe", "notes.yaml", "--rows", "packed", "--corpus", "mine"]) == 0
    assert read_manifest(tmp_path / "out" / "mine" / "train").row_format.rows == "packed"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("", "name what to convert"),
        ("a.jsonl", "name what to convert"),
        ("--corpus c4", "name what to convert"),
        ("--recipe nowhere", "no recipe 'nowhere'"),
        ("--recipe bad.yaml", "bad.yaml"),
        ("--recipe knowledgeqa a.jsonl", "recipe knowledgeqa is of several corpora"),
        ("--recipe knowledgeqa --corpus x", "recipe knowledgeqa is of 4 corpora"),
        ("--corpus c4 a.jsonl --curation nowhere.yaml", "cannot read nowhere.yaml"),
        ("--corpus c4 a.jsonl --curation bad.yaml", "bad.yaml"),
        ("--corpus c4 a.jsonl --curation empty.yaml", "empty.yaml"),
        ("--corpus c4 a.jsonl --max-record-bytes 0", "--max-record-bytes"),
    ],
)
def test_wrong_calls(
    call: str,
    message: str,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", make_texts(40, seed=1))
    (tmp_path / "bad.yaml").write_text("[")
    (tmp_path / "empty.yaml").write_text("")
    assert main([*words, *call.split()]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
