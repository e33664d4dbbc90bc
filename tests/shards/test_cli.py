"""The command as a user meets it: exit codes, one-line errors, and bytes that no kill changes."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.shards.conftest import make_texts, tree_hashes, write_jsonl

COMMAND = [sys.executable, "-m", "shards"]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1"}


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    words = [*COMMAND, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, check=False, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def call(tokenizer_dir: Path, tmp_path: Path) -> list[str]:
    """A convert command without its inputs."""
    options = {"--corpus": "c4", "--tokenizer": tokenizer_dir, "--out": tmp_path / "out", "--seq-len": 32}
    options |= {"--shard-bytes": 4096, "--holdout": 0.1}
    return ["convert", *(str(word) for pair in options.items() for word in pair)]


def check_one_line(result: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    assert result.returncode == code, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
    for part in parts:
        assert part in result.stderr


def test_the_whole_round(call: list[str], corpus_dir: Path, tmp_path: Path) -> None:
    result = run(*call, "--workers", 2, corpus_dir)
    assert (result.returncode, result.stderr) == (0, "")  # and no progress bar: this is no terminal
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path}/out/c4  ")
    assert lines[1].split() == ["split", "documents", "tokens", "samples", "shards", "dropped"]
    assert [line.split()[0] for line in lines[2:4]] == ["train", "holdout"]
    assert "MB/s" in lines[4]
    again = run(*call, corpus_dir)
    assert again.stdout.splitlines()[:4] == lines[:4]
    assert again.stdout.splitlines()[4] == "all parts were converted already"
    train = tmp_path / "out" / "c4" / "train"

    shown = run("inspect", train, "--sample", 1)
    assert "=== sample 1 of " in shown.stdout
    assert f"\n--- {corpus_dir}/0.jsonl, line 4; tokens " in shown.stdout
    assert re.search(r"\n  document index of \d+ bytes, \d+\.\d\d a document\n", shown.stdout)
    data = json.loads(run("inspect", train, "--json").stdout)
    assert data["manifest"]["fingerprint"].startswith(lines[0].split()[1])
    assert len(data["samples"][0]["tokens"]) == 32

    assert run("verify", tmp_path / "out" / "c4").stdout.count(": whole; ") == 2
    near = json.loads(
        run("proximity", "--base", train, "--mix", train, "--share", 0.2, "--target", train, "--json").stdout
    )
    assert near["advantage"] == 0
    assert near["mix_target"]["combined"] == pytest.approx(1)

    (train / "shard.00001.mds").write_bytes(b"")
    (train / "shard.00002.mds").unlink()
    broken = run("verify", tmp_path / "out" / "c4")
    assert (broken.returncode, broken.stderr) == (1, "")
    assert [line.split(":")[0].split("/")[-1] for line in broken.stdout.splitlines()] == [
        "shard.00001.mds",
        "shard.00002.mds",
        str(train.with_name("holdout")).split("/")[-1],
    ]


BAD_FILES: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("a.jsonl", b'{"text": "a"}\n{"text": }\n', ("a.jsonl, line 2: not valid JSON",)),
    ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', ("a.jsonl, line 2: not UTF-8",)),
    ("a.jsonl", b'{"body": "a"}\n', ("a.jsonl, line 1:", "wants the fields text; found: body (text)", "--template")),
    (
        "a.jsonl.gz",
        gzip.compress(b'{"text": "a"}\n' * 999, mtime=0)[:-9],
        ("a.jsonl.gz: damaged or truncated", "after line "),
    ),
    ("a.jsonl.zst", b"(\xb5/\xfd" + b"x" * 50, ("a.jsonl.zst: damaged or truncated",)),
    ("a.parquet", b"PAR1PAR1", ("a.parquet: damaged or no Parquet file",)),
    ("a.jsonl", b"", ("a.jsonl is empty",)),
    ("a.jsonl.gz", gzip.compress(b"", mtime=0), ("a.jsonl.gz holds no records",)),
    ("a.csv", b"text\n", ("a.csv has an unknown ending", ".jsonl.zst")),
]


@pytest.mark.parametrize(("name", "data", "parts"), BAD_FILES)
def test_bad_input_is_one_line_and_exit_2(
    name: str, data: bytes, parts: tuple[str, ...], call: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    check_one_line(run(*call, "--workers", 1, tmp_path / name), 2, *parts)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_bad_calls_are_one_line_and_exit_2(call: list[str], corpus_dir: Path, tmp_path: Path) -> None:
    check_one_line(run(*call, tmp_path / "absent.jsonl"), 2, "absent.jsonl does not exist")
    check_one_line(run(*call, "--template", "nope", corpus_dir), 2, "unknown template 'nope'; known: apps")
    check_one_line(run(*call, "--tokenizer", "/nope", corpus_dir), 2, "no tokenizer at /nope")
    check_one_line(run(*call, "--tokenizer", "no-such/name", corpus_dir), 2, "no tokenizer 'no-such/name'")
    check_one_line(run("verify", tmp_path), 2, "is no corpus")
    check_one_line(run("inspect", tmp_path / "absent"), 2, "is no directory")
    usage = run(*call, "--workers", "many", corpus_dir)
    assert (usage.returncode, "Traceback" in usage.stderr) == (2, False)
    assert run(*call, "--workers", 1, corpus_dir).returncode == 0
    before = tree_hashes(tmp_path)
    check_one_line(run(*call, "--seq-len", 64, corpus_dir), 2, "seq_len is 32 there, 64 asked")
    assert tree_hashes(tmp_path) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_and_exit_1(workers: int, call: list[str], corpus_dir: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    result = run(*call, "--workers", workers, corpus_dir, preexec_fn=limit)
    check_one_line(result, 1, "cannot write", "File too large", "run the same command again")
    assert not (tmp_path / "out" / "c4").exists()
    assert run(*call, "--workers", workers, corpus_dir).returncode == 0


def test_help_is_fast_and_has_an_example_of_each() -> None:
    start = time.monotonic()
    assert "example:" in run("--help").stdout
    assert time.monotonic() - start < 5  # a second on an idle machine; torch alone would take more than this
    for command in ("convert", "inspect", "verify", "proximity"):
        assert "example:" in run(command, "--help").stdout
    heavy = "{'torch', 'streaming', 'pyarrow', 'gigatoken'}"
    code = f"import sys, shards, shards.cli; print(*sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def run_and_kill(words: list[str], seconds: float) -> bool:
    """Whether the command was still at work after `seconds` and was killed; waits for its workers to end."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            workers = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            _, alive = psutil.wait_procs(workers, timeout=30)
            assert not alive, "workers outlive a killed conversion"
            return True
    assert process.returncode == 0
    return False


def campaign(kills: int, call: list[str], tmp_path: Path, seed: int) -> int:
    """Kill and rerun at random moments until done, over and over; every result must be the same tree."""
    rng = random.Random(seed)
    for number in range(6):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", make_texts(1500, seed=number, longest=60))
    words = [*COMMAND, *call, str(tmp_path / "in")]
    out = tmp_path / "out"
    start = time.monotonic()
    assert not run_and_kill([*words, "--workers", "1"], 300)
    longest = time.monotonic() - start
    expected = tree_hashes(out)
    done = 0
    while done < kills:
        shutil.rmtree(out)
        for _ in range(min(5, kills - done)):
            workers = str(rng.choice([1, 2, 3]))
            done += run_and_kill([*words, "--workers", workers], rng.uniform(0.2, 1) * longest)
            if (out / "c4").exists():
                assert {k: v for k, v in tree_hashes(out).items() if not k.startswith(".")} == expected
        assert not run_and_kill([*words, "--workers", "2"], 300)
        assert tree_hashes(out) == expected
    return done


def test_kills_change_nothing(call: list[str], tmp_path: Path) -> None:
    assert campaign(5, call, tmp_path, seed=11) >= 5


@pytest.mark.soak
def test_a_hundred_kills_change_nothing(call: list[str], tmp_path: Path) -> None:
    assert campaign(100, call, tmp_path, seed=12) >= 100


def test_ctrl_c_is_one_line(call: list[str], tmp_path: Path) -> None:
    for number in range(3):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", make_texts(4000, seed=number, longest=100))
    words = [*COMMAND, *call, "--workers", "2", str(tmp_path / "in")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True)
    plan = tmp_path / "out" / ".c4.work" / "plan.json"
    deadline = time.monotonic() + 60
    while not plan.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr.count("\n")) == (130, 1), stderr
    assert stderr.startswith("interrupted")
