"""Bad input, kind by kind, through the real command: one line with place and remedy, or counted and passed over.

Nothing is ever published by a call that fails, and nothing is left behind that was not there before.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.cli import main
from shards.conversion import Conversion, convert
from shards.errors import SourceError
from shards.manifest import read_manifest
from shards.verification import verify
from tests.conftest import ROOT
from tests.shards.bad_input import KINDS, Bad, prepare
from tests.shards.conftest import make_texts, tree_hashes, write_jsonl

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def words(tokenizer_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A convert command without its inputs, called in a folder of its own."""
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    options = {"--corpus": "c4", "--tokenizer": tokenizer_dir, "--out": tmp_path / "out", "--seq-len": 16}
    options |= {"--shard-bytes": 4096, "--holdout": 0, "--workers": 1}
    return ["convert", *(str(word) for pair in options.items() for word in pair)]


def check_refused(code: int, out: str, err: str, *names: str, expected: int = 2) -> None:
    assert code == expected, err
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for name in names:
        assert name in err


def everything(folder: Path) -> dict[str, str]:
    """All files, and the kind of what is none."""
    return {str(path.relative_to(folder)): path.lstat().st_mode for path in folder.rglob("*")} | tree_hashes(folder)


def test_there_are_enough_kinds() -> None:
    assert len({bad.id for bad in KINDS}) == len(KINDS) >= 70


@pytest.mark.parametrize("bad", KINDS, ids=lambda bad: bad.id)
def test_it_stops_and_leaves_nothing(
    bad: Bad, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(bad, tmp_path / "in")
    before = everything(tmp_path)
    code = main([*words, "good.jsonl", *bad.inputs])
    check_refused(code, *capsys.readouterr(), *bad.names)
    after = everything(tmp_path)
    kept = {name for name in after if name.startswith("out")}
    assert "out/c4" not in kept
    assert {name: after[name] for name in after.keys() - kept} == before


@pytest.mark.parametrize("bad", KINDS, ids=lambda bad: bad.id)
def test_it_is_skipped_and_counted(
    bad: Bad, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(bad, tmp_path / "in")
    code = main([*words, "--on-error", "skip", "good.jsonl", *bad.inputs])
    out, err = capsys.readouterr()
    if bad.skipped is None:
        check_refused(code, out, err, *bad.names)
        assert not (tmp_path / "out" / "c4").exists()
        return
    assert code == 0, err
    train = tmp_path / "out" / "c4" / "train"
    manifest = read_manifest(train)
    report = [json.loads(one) for one in (train / "skipped.jsonl").read_bytes().splitlines()]
    assert sum(manifest.skipped.values()) == len(report) > 0
    if bad.skipped:
        assert manifest.skipped == bad.skipped
    if bad.kept is not None:
        assert manifest.documents == 30 + bad.kept
    assert {one["source"] for one in report} == {bad.inputs[0]}
    for kind in manifest.skipped:
        assert kind in out
    assert verify(train) == []


# What is asked for is wrong


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("--seq-len 0", "--seq-len must be at least 1, not 0"),
        ("--seq-len -5", "--seq-len must be at least 1"),
        ("--seq-len 99999 --rows examples", "--seq-len must be at most 65535"),
        ("--holdout 1", "--holdout 1.0: a share from 0 to below 1"),
        ("--holdout -0.1", "--holdout"),
        ("--holdout nan", "--holdout nan"),
        ("--workers 0", "--workers must be at least 1"),
        ("--shard-bytes 10", "--shard-bytes 10 must hold a row"),
        ("--shard-bytes 5000000000", "below 4 GiB"),
        ("--corpus a/b", "--corpus 'a/b'"),
        ("--corpus ..", "--corpus '..'"),
        ("--template nope", "unknown template 'nope'; known:"),
        ("--tokenizer nowhere/at/all", "no tokenizer at nowhere/at/all"),
        ("--seq-len 99999 --shard-bytes 999999", "fewer than one row of 99999"),
    ],
)
def test_wrong_values_are_refused(
    options: str, name: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "in" / "good.jsonl", make_texts(5, seed=4))
    code = main([*words, *options.split(), "good.jsonl"])
    check_refused(code, *capsys.readouterr(), name)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "options", ["--seq-len many", "--holdout half", "--workers 1.5", "--rows some", "--engine slurm", "--on-error pass"]
)
def test_values_of_another_type_are_refused(options: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*words, *options.split(), "good.jsonl"])
    assert end.value.code == 2
    flag, value = options.split()
    assert f"argument {flag}: invalid" in (err := capsys.readouterr().err)
    assert value in err


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({}, "no tokenizer at"),
        ({"tokenizer.json": "{"}, "tokenizer.json is no tokenizer.json"),
        ({"tokenizer.json": "{}"}, "tokenizer.json is no tokenizer.json"),
        ({"tokenizer.json": "\udcff"}, "tokenizer.json is no tokenizer.json"),
        ({"tokenizer_config.json": "{"}, "cannot read"),
        ({"tokenizer_config.json": "[]"}, "cannot read"),
        ({"tokenizer_config.json": '{"eos_token": "<nowhere>"}'}, "has no token '<nowhere>'"),
    ],
    ids=["none", "no JSON", "empty", "no UTF-8", "config is no JSON", "config is a list", "no such end"],
)
def test_bad_tokenizers(
    files: dict[str, str],
    name: str,
    words: list[str],
    tmp_path: Path,
    tokenizer_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_jsonl(tmp_path / "in" / "good.jsonl", make_texts(5, seed=4))
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    if files:
        (folder / "tokenizer.json").write_bytes((tokenizer_dir / "tokenizer.json").read_bytes())
    for file, text in files.items():
        (folder / file).write_bytes(text.encode(errors="surrogateescape"))
    code = main([*words, "--tokenizer", str(folder), "good.jsonl"])
    check_refused(code, *capsys.readouterr(), name)


# Where it should go


def test_the_output_is_a_file(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "in" / "good.jsonl", make_texts(30, seed=4))
    (tmp_path / "out").write_text("mine")
    check_refused(main([*words, "good.jsonl"]), *capsys.readouterr(), "cannot write", expected=1)
    assert (tmp_path / "out").read_text() == "mine"


def test_the_corpus_is_a_folder_of_something_else(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "in" / "good.jsonl", make_texts(30, seed=4))
    (tmp_path / "out" / "c4").mkdir(parents=True)
    (tmp_path / "out" / "c4" / "notes").write_text("mine")
    check_refused(main([*words, "good.jsonl"]), *capsys.readouterr(), "exists and is no corpus", "another --out")
    assert (tmp_path / "out" / "c4" / "notes").read_text() == "mine"


AS_NOBODY = """
import contextlib, os, sys
from shards.cli import main
with contextlib.redirect_stdout(None):  # so that all is imported that this user may read and that one may not
    main([*sys.argv[1:-1], "--out", "first", "good.jsonl"])
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("shut", ["shut/a.jsonl", "shut", "out"], ids=["file", "folder", "output"])
def test_without_permission(shut: str, words: list[str], tokenizer_dir: Path) -> None:
    """As a user who may not read the file, or not enter the folder, or not write where the result goes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(tokenizer_dir, folder / "tokenizer")
        write_jsonl(folder / "good.jsonl", make_texts(30, seed=4))
        write_jsonl(folder / "shut" / "a.jsonl", make_texts(30, seed=5))
        (folder / "out").mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o644)
        (folder / shut).chmod(0o555 if shut == "out" else 0)
        given = "good.jsonl" if shut == "out" else "shut/a.jsonl"
        call = [*words, "--tokenizer", "tokenizer", "--out", "out", given]
        result = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *call],
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert list((folder / "out").iterdir()) == []
        (folder / "shut").chmod(0o777)
    names = ("cannot write out", "Permission denied") if shut == "out" else ("shut/a.jsonl", "ermi")
    check_refused(result.returncode, result.stdout, result.stderr, *names, expected=1 if shut == "out" else 2)


def test_a_full_disk_leaves_a_conversion_that_goes_on(words: list[str], tmp_path: Path) -> None:
    for number in range(4):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", make_texts(60, seed=number))

    def call(limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "shards", *words, "."]
        fill = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # noqa: E731
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, preexec_fn=fill)

    for limit in (100, 3000):
        result = call(limit)
        check_refused(result.returncode, result.stdout, result.stderr, "cannot write", "File too large", expected=1)
        assert not (tmp_path / "out" / "c4").exists()
    assert call(1 << 30).returncode == 0
    assert verify(tmp_path / "out" / "c4" / "train") == []


def test_a_source_that_changes_while_it_is_read(make_conversion: Callable[..., Conversion], tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", make_texts(30, seed=4))

    def change(*counts: int) -> None:
        os.utime(path, ns=(1, 1))

    with pytest.raises(SourceError, match=r"a\.jsonl changed while it was read"):
        convert(make_conversion(path), workers=1, on_progress=change)
    assert not (tmp_path / "out" / "c4").exists()


# What looks odd and is right


@pytest.mark.parametrize(
    ("data", "documents"),
    [
        (b'{"text": "one"}\r\n{"text": "two"}\r\n' * 9, 18),
        (b'\n\n{"text": "one"}\n \t \n{"text": "two"}' * 9, 18),
        (b'{"text": 17}\n{"text": 1.5}\n{"text": true}\n' * 9, 27),
        (b'{"text": "first", "text": "last"}\n' * 9, 9),
        (b'{"text": ""}\n{"text": null}\n{"text": " \\n\\t "}\n{"text": "one"}\n' * 9, 9),
        ('{"text": "Füße 漢字 \\ud83d\\ude00 \\u0000"}\n'.encode() * 9, 9),
    ],
    ids=["CRLF", "blank lines", "numbers", "a key twice", "empty texts", "characters of all planes"],
)
def test_what_is_right(data: bytes, documents: int, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "in" / "a.jsonl").write_bytes(data)
    assert main([*words, "--seq-len", "8", "a.jsonl"]) == 0
    train = tmp_path / "out" / "c4" / "train"
    assert read_manifest(train).documents == documents
    assert verify(train) == []
