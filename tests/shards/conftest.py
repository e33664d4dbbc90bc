"""A small tokenizer of the GPT-NeoX kind, made here, and corpora of made-up documents."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from shards.conversion import Conversion
from shards.manifest import read_manifest
from shards.mds import read_rows, shard_name

WORDS = (
    *(
        "the",
        "model",
        "reads",
        "a",
        "corpus",
        "of",
        "text",
        "and",
        "code",
        "while",
        "weights",
        "mixture",
        "change",
    ),
    *(
        "def",
        "return",
        "import",
        "class",
        "for",
        "in",
        "=",
        "+",
        "(",
        ")",
        "{",
        "}",
        ";",
        ",",
        ".",
        "!",
        "x1",
        "z333",
    ),
    *("Füße", "naïve", "café", "данные", "календарь", "漢字", "かな", "👩‍👩‍👧", "\t", "\n", "\n\n", ""),
)


def make_texts(num_texts: int, seed: int, *, longest: int = 120) -> list[str]:
    """Documents of 1 to `longest` words, all different, some with white space around them."""
    rng = random.Random(seed)
    texts = []
    for number in range(num_texts):
        words = rng.choices(WORDS, k=rng.randint(1, longest))
        texts.append(f"{rng.choice(['', ' ', chr(10)])}document {seed}.{number} {' '.join(words)}  ")
    return texts


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tokenizer.json: byte-level BPE, NFC, `<|endoftext|>` is 0, added white-space tokens."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(make_texts(60, seed=0), trainer)
    tokenizer.add_tokens([AddedToken(" " * width, normalized=True) for width in range(8, 1, -1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    return folder


@pytest.fixture(scope="session")
def odd_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that gigatoken cannot load: word-level, split on white space by a pattern."""
    folder = tmp_path_factory.mktemp("odd")
    words = sorted({word for text in make_texts(60, seed=0) for word in text.split()})
    vocabulary = {word: number for number, word in enumerate(["<|endoftext|>", "[UNK]", *words])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def reference(tokenizer_dir: Path) -> tokenizers.Tokenizer:
    """The tokenizer of `tokenizer_dir` as Hugging Face loads it."""
    return tokenizers.Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))


def write_jsonl(path: Path, texts: Sequence[str]) -> Path:
    """A file of records with the fields of C4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text, "url": f"https://x/{n}"}) for n, text in enumerate(texts)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def corpus_dir(tmp_path: Path) -> Path:
    """Five files of different sizes, one of them with texts that are in another."""
    folder = tmp_path / "in"
    for number, num_texts in enumerate((40, 3, 120, 1)):
        write_jsonl(folder / f"{number}.jsonl", make_texts(num_texts, seed=number + 1))
    write_jsonl(folder / "4.jsonl", make_texts(40, seed=1)[10:30])
    return folder


@pytest.fixture
def make_conversion(tokenizer_dir: Path, tmp_path: Path) -> Callable[..., Conversion]:
    """Conversions of small rows and shards into `tmp_path / out`, with what is given changed."""

    def make(*inputs: Path | str, **changes: object) -> Conversion:
        values: dict[str, object] = {
            "inputs": [str(path) for path in inputs],
            "corpus": "c4",
            "tokenizer": str(tokenizer_dir),
            "out": str(tmp_path / "out"),
            "seq_len": 32,
            "holdout": 0.1,
            "shard_bytes": 4096,
        }
        return Conversion(**{**values, **changes})  # type: ignore[arg-type]

    return make


def all_rows(folder: Path) -> np.ndarray:
    """All rows of a split in order, `[samples, row_size]`."""
    manifest = read_manifest(folder)
    rows = [read_rows(folder / shard_name(n), manifest.row_format) for n in range(len(manifest.shards))]
    return np.concatenate([np.empty((0, manifest.row_format.row_size), manifest.row_format.dtype), *rows])


def forget_index(folder: Path) -> None:
    """Make of a split what format 1 was: the same without a document index, and without a hash of the manifest."""
    (folder / "documents.bin").unlink()
    manifest = json.loads((folder / "corpus.json").read_bytes())
    manifest["parameters"]["format"] = 1
    del manifest["documents_sha256"], manifest["manifest_sha256"]
    (folder / "corpus.json").write_text(json.dumps(manifest))


def tree_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, hidden ones too, and an entry for every folder."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }
