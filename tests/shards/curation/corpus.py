"""A small corpus with all that curation looks for planted in it, and a program that is killed while it curates it.

    python -m tests.shards.curation.corpus FOLDER

tries every moment at which something has just been made durable: a process that curates FOLDER/sources is killed
there, another goes on, and what they leave is compared with the result of a process that nobody disturbed. It
prints the number of moments tried.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import sys
from hashlib import sha256
from pathlib import Path

from shards.curation import Curation, curate
from shards.curation.words import read_words
from shards.sources.storage import stat_source
from shards.sources.units import Unit, cut_into_units
from shards.templates import find_template
from tests.shards.curation.conftest import make_documents

UNIT_BYTES = 20_000
QUESTIONS = make_documents(5, seed=100, shortest=20, longest=30)


def write_corpus(folder: Path) -> dict[str, dict[str, list[int]]]:
    """Write three sources; returns by source and step name the lines (from 1) that are to go."""
    folder.mkdir(parents=True)
    documents = make_documents(200, seed=101, shortest=40, longest=80)
    rng = random.Random(102)
    long = make_documents(10, seed=103, shortest=200, longest=300)
    near = [" ".join(text.split()[4:]) for text in long]
    short = ["too short a text", "this one too"]
    asked = [f"{text[:100]} {question} {text[100:]}" for text, question in zip(documents[:5], QUESTIONS, strict=True)]
    first = [*documents[:60], *long, *short]
    second = [*near[:5], *documents[60:120], *(text.replace(" ", "\n  ") for text in documents[:7]), *asked]
    third = [*documents[120:], *near[5:], *documents[60:65]]
    expected: dict[str, dict[str, list[int]]] = {}
    for name, texts in (("a.jsonl", first), ("b.jsonl", second), ("c.jsonl.gz", third)):
        order = list(range(len(texts)))
        if name != "a.jsonl":  # what stays is in the first source, or before its duplicates
            rng.shuffle(order)
        lines = [json.dumps({"text": texts[i]}) + "\n\n" * (i % 7 == 0) + "\n" * (i % 7 != 0) for i in order]
        data = "".join(lines).encode()
        (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith("gz") else data)
        numbers, number = {}, 1
        for i in order:
            numbers[i] = number
            number += 2 if i % 7 == 0 else 1
        exact = {"b.jsonl": range(65, 72), "c.jsonl.gz": range(85, 90)}.get(name, range(0))
        alike = {"b.jsonl": range(5), "c.jsonl.gz": range(80, 85)}.get(name, range(0))
        held = {"b.jsonl": range(72, 77)}.get(name, range(0))
        brief = {"a.jsonl": range(70, 72)}.get(name, range(0))
        plan = {"length": brief, "decontaminate": held, "exact_duplicates": exact, "near_duplicates": alike}
        expected[name] = {step: sorted(numbers[i] for i in places) for step, places in plan.items()}
    (folder.parent / "eval.jsonl").write_text("".join(json.dumps({"question": q}) + "\n" for q in QUESTIONS))
    return expected


def make_curation(folder: Path) -> Curation:
    against = [{"path": str(folder / "eval.jsonl"), "template": "{question}"}]
    return Curation.parse(
        [
            {"length": {"min_words": 10}},
            {"quality": {"rules": ["hash_ratio", "top_2_gram"]}},
            {"decontaminate": {"against": against}},
            "exact_duplicates",
            "near_duplicates",
        ],
        "c",
    )


def units_of(folder: Path, unit_bytes: int = UNIT_BYTES) -> list[Unit]:
    names = sorted(map(str, (folder / "sources").iterdir()))
    return cut_into_units([(name, stat_source(name)) for name in names], unit_bytes)


def run(folder: Path, out: Path, *, workers: int = 1, unit_bytes: int = UNIT_BYTES) -> None:
    curate(
        make_curation(folder),
        units_of(folder, unit_bytes),
        find_template(None, "text"),
        out,
        engine="local",
        workers=workers,
        on_progress=lambda num_bytes, _: None,
    )


def hashes(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in out.rglob("*")
    }


def _run_and_die(folder: Path, out: Path, moment: int) -> bool:
    """Curate in a process that kills itself after the fsync number `moment`; whether it got that far."""
    pid = os.fork()
    if pid == 0:
        count, fsync = 0, os.fsync

        def counted(handle: int) -> None:
            nonlocal count
            fsync(handle)
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = counted
        run(folder, out)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


def main(folder: Path) -> int:
    import pyarrow  # all of them once here, not in every process
    import rapidfuzz.distance
    import rensa

    read_words(["once"])
    assert rapidfuzz.distance
    assert rensa
    assert pyarrow
    out, moment = folder / "out", 0
    _run_and_die(folder, folder / "whole", 0)
    expected = hashes(folder / "whole")
    assert expected
    while True:
        moment += 1
        died = _run_and_die(folder, out, moment)
        _run_and_die(folder, out, 0)
        assert hashes(out) == expected, moment
        shutil.rmtree(out)
        if not died:
            return moment - 1


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
