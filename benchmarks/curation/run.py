"""MB of text a second of each curation step, one process, CPU time; beside datatrove's step of the same kind.

    python benchmarks/curation/run.py [--text FILE...] [--against FILE] [--datatrove PYTHON]

Input: web pages (the C4 samples), 100 test questions planted in some of them, 100 near duplicates and 100 exact
ones of others. Every step gets the same documents in one batch after another of a megabyte; a figure is the best of
three. `--datatrove` names a Python that has datatrove (`datatrove_steps.py`, run once: it is slow). Removed documents
are counted on both sides.
"""

import argparse
import gzip
import json
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shards.curation.batch import BATCH_CHARACTERS, Batch
from shards.curation.duplicates import ExactDuplicates, NearDuplicates, find_exact, find_near, hash_texts
from shards.curation.parsing import Curation

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data"
PLANTED = 100
ROUNDS = 3


def read_pages(paths: list[Path]) -> list[str]:
    pages = []
    for path in paths:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            pages += [json.loads(line)["text"].strip() for line in file]
    return pages


def plant(pages: list[str], questions: list[str]) -> list[str]:
    """`pages`, a question in each of the first hundred; behind them copies of later ones, two words changed or none."""
    rng = random.Random(1)
    asked = [f"{page}\n{question}" for page, question in zip(pages, questions[:PLANTED], strict=False)]
    long = [page for page in pages[PLANTED:] if len(page.split()) >= 200]
    near = []
    for page in long[:PLANTED]:
        words = page.split(" ")
        start = rng.randrange(len(words) - 3)
        near.append(" ".join([*words[:start], "something", "else", *words[start + 2 :]]))
    return [*asked, *pages[PLANTED:], *near, *long[PLANTED : 2 * PLANTED]]


def batches(texts: list[str]) -> list[Batch]:
    made, current, characters = [], [], 0
    for text in texts:
        current.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            made.append(current)
            current, characters = [], 0
    return [Batch(some, np.arange(len(some))) for some in [*made, current] if some]


def best(function: Callable[[], int]) -> tuple[float, int]:
    """CPU seconds of the fastest of a few rounds, and what the function gave."""
    seconds, result = [], 0
    for _ in range(ROUNDS):
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def judging(texts: list[str], step: dict[str, object]) -> Callable[[], int]:
    (parsed,) = Curation.parse([step], "benchmark").steps
    judge = parsed.start()

    def run() -> int:
        removed = sum(int((judge.judge(batch) >= 0).sum()) for batch in batches(texts))
        judge.take_notes()
        judge.take_report()
        return removed

    return run


def exact(texts: list[str]) -> int:
    return int(find_exact(np.concatenate([hash_texts(batch.texts) for batch in batches(texts)])).sum())


def near(texts: list[str]) -> int:
    curation = Curation.parse(["near_duplicates"], "benchmark")
    assert isinstance(curation.near, NearDuplicates)
    signatures = np.concatenate([curation.near.sign(batch) for batch in batches(texts)])
    keys = curation.near.band_keys(signatures)
    return int(find_near(iter(keys), lambda rows: signatures[rows], len(texts), curation.near.threshold).sum())


def ours(texts: list[str], against: Path) -> dict[str, tuple[float, int]]:
    from shards.curation.fasttext_model import language_model

    model = language_model()
    rater = str(HERE / "rater.py") + ":score"
    steps: dict[str, Callable[[], int]] = {
        "length": judging(texts, {"length": {"min_characters": 200, "min_words": 50}}),
        "language": judging(texts, {"language": {"keep": ["en"]}}),
        "language, whole text": judging(texts, {"language": {"keep": ["en"], "characters": 1 << 30}}),
        "quality, gopher": judging(texts, {"quality": {"rules": "gopher"}}),
        "quality, c4 and fineweb": judging(texts, {"quality": {"rules": ["c4", "fineweb"]}}),
        "rater, fastText": judging(texts, {"rater": {"model": model, "label": "__label__en", "above": 0.5}}),
        "rater, callable": judging(texts, {"rater": {"callable": rater, "above": 0.0}}),
        "decontaminate": judging(texts, {"decontaminate": {"against": [{"path": str(against), "template": "gsm8k"}]}}),
        "exact duplicates": lambda: exact(texts),
        "near duplicates": lambda: near(texts),
    }
    return {name: best(run) for name, run in steps.items()}


def theirs(python: str, texts: list[str], questions: list[str]) -> dict[str, tuple[float, int]]:
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "input.json"
        given.write_text(json.dumps({"texts": texts, "questions": questions}))
        done = subprocess.run(
            [python, str(HERE / "datatrove_steps.py"), str(given)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"datatrove's steps failed: {done.stderr.strip().splitlines()[-1]}")
        return {name: (seconds, removed) for name, seconds, removed in json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", type=Path, default=sorted((DATA / "c4").glob("c4-train.*.json.gz")))
    parser.add_argument("--against", type=Path, default=DATA / "gsm8k" / "test.jsonl")
    parser.add_argument("--datatrove", metavar="PYTHON", help="interpreter that has datatrove")
    arguments = parser.parse_args()
    questions = [json.loads(line)["question"] for line in arguments.against.open()]
    texts = plant(read_pages(arguments.text), questions)
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts):,} documents, {size:.1f} MB")
    assert isinstance(Curation.parse(["exact_duplicates"], "benchmark").exact, ExactDuplicates)
    peers = theirs(arguments.datatrove, texts, questions) if arguments.datatrove else {}
    print(f"{'step':<26} {'MB/s':>8} {'removed':>8}   {'datatrove':>9} {'removed':>8} {'faster':>7}")
    for name, (seconds, removed) in ours(texts, arguments.against).items():
        row = f"{name:<26} {size / seconds:>8.1f} {removed:>8,}"
        if name in peers:
            other, count = peers[name]
            row += f"   {size / other:>9.2f} {count:>8,} {other / seconds:>6.1f}x"
        print(row)


if __name__ == "__main__":
    main()
