"""MB/s of text: this project's conversion, its tokenizer alone, and Hugging Face's tokenizers alone.

    python benchmarks/conversion/run.py [--tokenizer FOLDER] [--text FILE...] [--mb 300] [--workers 2]

Without arguments it takes the C4 samples and their tokenizer where they lie beside the project, else text of its own
and a tokenizer trained on that. Input is generated: the documents of --text (JSON lines, plain or gz, with a `text`
field) repeated with a suffix that differs each time, in eight JSON-lines files. `cold` is the first of its
process, `warm` the same documents again; a conversion starts cold and includes start-up, parsing, hashing,
writing and fsync. One process tree, one thing at a time.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer

from shards import Conversion, convert
from shards.tokenizer import Encoder, find_tokenizer

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data"
SYLLABLES = [consonant + vowel for consonant in "bdfghklmnprstv" for vowel in "aeiou"]


def read_texts(paths: list[Path]) -> list[str]:
    """Documents of `paths`; without any, 2,000 made-up ones of about 2 KB."""
    texts = []
    for path in paths:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            texts += [json.loads(line)["text"] for line in lines]
    rng = random.Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(30_000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    return texts or [" ".join(rng.choices(words, weights, k=330)) for _ in range(2000)]


def generate(texts: list[str], num_bytes: int) -> Iterator[str]:
    """`texts` over and over, each time with another suffix, until `num_bytes`."""
    copy = total = 0
    while True:
        for number, text in enumerate(texts):
            document = f"{text} copy {copy} of {number}"
            total += len(document.encode())
            if total > num_bytes:
                return
            yield document
        copy += 1


def train_tokenizer(texts: list[str], folder: Path) -> Path:
    """A small byte-level BPE, for where no tokenizer is at hand."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=8192, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def time_encoder(tokenizer: str, engine: str, documents: list[bytes]) -> tuple[float, float]:
    """MB/s of an encoder, cold and warm, in batches of 512."""
    encoder = Encoder(replace(find_tokenizer(tokenizer), engine=engine))
    speeds = []
    for _ in range(2):
        start = time.perf_counter()
        for first in range(0, len(documents), 512):
            encoder.encode(documents[first : first + 512])
        speeds.append(sum(map(len, documents)) / 1e6 / (time.perf_counter() - start))
    return speeds[0], speeds[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure conversion.", epilog=__doc__)
    parser.add_argument("--tokenizer", help="folder with tokenizer.json")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="JSON lines with real documents")
    parser.add_argument("--mb", type=float, default=300, help="MB of text")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    texts = read_texts(arguments.text or sorted(SAMPLES.glob("c4/c4-train*.json.gz")))
    packages = ", ".join(f"{name} {version(name)}" for name in ("gigatoken", "tokenizers", "orjson", "numpy"))
    machine = f"{os.cpu_count()} CPUs ({platform.machine()}), load {os.getloadavg()[0]:.1f} before"
    print(f"{machine}, Python {platform.python_version()}, {packages}")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = arguments.tokenizer or SAMPLES / "tokenizers" / "gpt-neox-20b"
        tokenizer = str(tokenizer if Path(tokenizer).exists() else train_tokenizer(texts, Path(folder)))
        documents = generate(texts, int(arguments.mb * 1e6))
        files = [Path(folder, "in", f"{number}.jsonl") for number in range(8)]
        files[0].parent.mkdir()
        share = int(arguments.mb * 1e6 / 8 / (sum(len(t.encode()) for t in texts) / len(texts)))
        for path in files:
            with path.open("w") as lines:
                lines.writelines(json.dumps({"text": document}) + "\n" for document in islice(documents, share))
        for workers in sorted({1, arguments.workers}):
            out = str(Path(folder, f"out{workers}"))
            conversion = Conversion(inputs=[folder + "/in"], corpus="c4", tokenizer=tokenizer, out=out)
            report = convert(conversion, workers=workers)
            mb = report.text_bytes / 1e6
            print(f"conversion, {workers} workers   {mb / report.seconds:8.1f} MB/s   ({mb:.0f} MB of text)")
        sample = [text.encode() for text in generate(texts, min(int(arguments.mb * 1e6), 20_000_000))]
        for engine in ("gigatoken", "tokenizers"):
            cold, warm = time_encoder(tokenizer, engine, sample)
            print(f"{engine + ' alone':<22} {cold:8.1f} MB/s cold, {warm:.1f} warm")


if __name__ == "__main__":
    main()
