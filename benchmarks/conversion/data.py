"""Input for the benchmark: real or made-up documents, repeated with suffixes that differ, in files of each form."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer

SYLLABLES = [consonant + vowel for consonant in "bdfghklmnprstv" for vowel in "aeiou"]
FORMS = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet")


def read_texts(paths: Sequence[Path]) -> list[str]:
    """Documents of `paths`; without any, 2,000 made-up ones of about 2 KB."""
    texts = []
    for path in paths:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            texts += [json.loads(line)["text"] for line in lines]
    rng = random.Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(30_000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    return texts or [" ".join(rng.choices(words, weights, k=330)) for _ in range(2000)]


def train_tokenizer(texts: list[str], folder: Path) -> Path:
    """A small byte-level BPE, for where no tokenizer is at hand."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=8192, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def generate(texts: Sequence[str], num_bytes: int) -> Iterator[str]:
    """`texts` over and over, stripped, each time with another suffix, until `num_bytes`."""
    copy = total = 0
    while True:
        for number, text in enumerate(texts):
            document = f"{text.strip()} copy {copy} of {number}"
            total += len(document.encode())
            if total > num_bytes:
                return
            yield document
        copy += 1


def write_files(texts: Sequence[str], folder: Path, *, num_bytes: int, num_files: int, forms: Sequence[str]) -> int:
    """Write `folder`/FORM/N.FORM; returns the bytes of text."""
    documents = list(generate(texts, num_bytes))
    for form in forms:
        (folder / form).mkdir(parents=True)
    share = -(-len(documents) // num_files)
    for number in range(num_files):
        part = documents[number * share : (number + 1) * share]
        for form in forms:
            _write(folder / form / f"{number:02}.{form}", form, part)
    return sum(len(document.encode()) for document in documents)


def _write(path: Path, form: str, documents: Sequence[str]) -> None:
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": documents}), path, compression="zstd", row_group_size=4096)
        return
    data = "".join(json.dumps({"text": document}) + "\n" for document in documents).encode()
    if form == "jsonl.gz":
        from isal import igzip

        data = igzip.compress(data, 2)
    elif form == "jsonl.zst":
        import zstandard

        data = zstandard.compress(data)
    path.write_bytes(data)
