"""The demo's corpora as files: the real samples where they are at hand, or six stand-ins made on the spot.

Stand-ins have the file formats and record schemas of the real corpora, so the same templates apply. They come from
what every Python brings along (see `stdlib_text`) and from generators; equal seeds and equal Pythons give equal
bytes.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from demo.problems import make_problem
from demo.stdlib_text import Module, read_modules, reference_pages
from demo.tasks import make_instruction, make_question

NAMES = ("c4", "dclm", "flan", "knowledgeqa", "math", "starcoder")
SEED = 17
CODE_BYTES = 5_000_000
NUM_PROBLEMS, NUM_INSTRUCTIONS, NUM_QUESTIONS = 8_000, 9_000, 16_000

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What to convert: `trained` corpora, and `evaluated` ones that no schedule names, each with its input paths."""

    trained: Mapping[str, list[str]]
    evaluated: Mapping[str, list[str]]
    tokenizer: Path | None
    described: str


def find_samples(folder: Path) -> Inputs:
    """The real samples in `folder`, laid out one folder a corpus; with the GPT-NeoX tokenizer."""
    trained = {name: [str(folder / name)] for name in NAMES}
    trained["starcoder"] = [str(folder / "starcoder" / "*.parquet"), *_code(folder / "code")]
    # not gsm8k/test: the math samples hold rewritten questions of it
    return Inputs(
        trained=trained,
        evaluated={"gsm8k": [str(folder / "gsm8k" / "train.jsonl")], "pycode": [str(folder / "pycode")]},
        tokenizer=folder / "tokenizers" / "gpt-neox-20b",
        described="real samples of the six corpora",
    )


def _code(folder: Path) -> list[str]:
    return [str(folder)] if folder.is_dir() else []


def write_stand_ins(folder: Path, *, workers: int) -> Inputs:
    """Make the six stand-ins in `folder`; the tokenizer remains to be trained."""
    modules = read_modules(workers=workers)
    summaries = [pair for module in modules for pair in module.summaries]
    sentences = [sentence for _, sentence in summaries]
    pages = [(module.name, page) for module in modules for page in module.pages]
    c4 = [*((name, page) for name, page in pages if _bucket(name) < 8), *reference_pages()]
    dclm = [(name, page) for name, page in pages if _bucket(name) >= 8]

    records = [_page(name, page, "pages.example") for name, page in _shuffled("c4", c4)]
    for number in (0, 1):
        write_records(folder / "c4" / f"c4-train.{number:05}-of-00002.json.gz", records[number::2])
    write_records(folder / "dclm" / "part_00.jsonl.zst", (_dclm(*page) for page in _shuffled("dclm", dclm)))
    write_records(folder / "starcoder" / "train-00000-of-00001.parquet", _code_records(modules))
    write_records(folder / "math" / "MathInstruct.jsonl", _math())
    write_records(folder / "flan" / "stdlib_train.jsonl.gz", _flan(sentences))
    write_records(folder / "knowledgeqa" / "facts.jsonl", _knowledgeqa(summaries))
    return Inputs(
        trained={name: [str(folder / name)] for name in NAMES},
        evaluated={},
        tokenizer=None,
        described="six stand-ins made from Python's standard library",
    )


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write `path` in the format that its ending names: .jsonl or .json, also .gz or .zst, or .parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([dict(record) for record in records]), path, compression="zstd")
        return
    data = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
    if path.suffix == ".gz":
        data = gzip.compress(data, 6, mtime=0)
    elif path.suffix == ".zst":
        data = zstandard.compress(data, 3)
    path.write_bytes(data)


def _page(name: str, text: str, host: str) -> Record:
    """A web page in C4's form."""
    return {"text": text, "timestamp": "2019-04-25T12:57:54Z", "url": f"https://{host}/{name}"}


def _dclm(name: str, text: str) -> Record:
    page = _page(name, text, "web.example")
    return {"text": text, "url": page["url"], "warcinfo": "", "metadata": {"WARC-Date": page["timestamp"]}}


def _code_records(modules: list[Module]) -> Iterable[Record]:
    """Whole files, from the modules whose documentation is not in c4 first."""
    num_bytes = 0
    for module in sorted(_shuffled("starcoder", modules), key=lambda module: _bucket(module.name), reverse=True):
        if num_bytes > CODE_BYTES:
            return
        num_bytes += len(module.source)
        yield {
            "max_stars_repo_path": f"Lib/{module.path}",
            "max_stars_repo_name": "python/cpython",
            "max_stars_count": None,
            "id": hashlib.sha256(module.path.encode()).hexdigest()[:12],
            "content": module.source,
        }


def _math() -> Iterable[Record]:
    random = Random(f"{SEED} math")
    for _ in range(NUM_PROBLEMS):
        problem, solution = make_problem(random)
        yield {"source": "generated", "instruction": problem, "output": solution}


def _flan(sentences: list[str]) -> Iterable[Record]:
    random = Random(f"{SEED} flan")
    for _ in range(NUM_INSTRUCTIONS):
        asked, answer = make_instruction(random, sentences)
        yield {"inputs": asked, "targets": answer, "task": "generated"}


def _knowledgeqa(summaries: list[tuple[str, str]]) -> Iterable[Record]:
    random = Random(f"{SEED} knowledgeqa")
    for _ in range(NUM_QUESTIONS):
        asked, answer = make_question(random, summaries)
        yield {"instruction": asked, "output": answer}


def _shuffled(name: str, items: list[Any]) -> list[Any]:
    return Random(f"{SEED} {name}").sample(items, len(items))


def _bucket(name: str) -> int:
    """0 to 9 by module, stable over runs and machines."""
    return hashlib.sha256(name.encode()).digest()[0] % 10
