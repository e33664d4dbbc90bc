"""From files to shards: a tokenizer where none is at hand, and the conversion of every corpus."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from demo.corpora import Inputs
from shards import Conversion, Manifest, convert
from shards.sources import find_sources, read_blocks, whole_source
from shards.templates import find_template
from shards.tokenizer import DEFAULT_EOS

VOCAB_SIZE = 8192
DOCUMENTS_A_CORPUS = 1500  # that the tokenizer is trained on
BYTES_A_DOCUMENT = 4000


@dataclass(frozen=True, kw_only=True)
class Converted:
    """One corpus as MDS shards: `folder` holds `train` and `holdout`."""

    name: str
    folder: Path
    train: Manifest
    holdout: Manifest
    text_bytes: int
    seconds: float


def train_tokenizer(inputs: Inputs, folder: Path) -> int:
    """Train a byte-level BPE on the beginnings of every corpus, write it to `folder`; returns its number of ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[DEFAULT_EOS],  # the first one gets the id 0
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_documents(inputs), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())


def convert_all(
    inputs: Inputs, tokenizer: Path, out: Path, *, seq_len: int, on_done: Callable[[Converted], Any]
) -> dict[str, Converted]:
    """Convert every corpus to `out`/NAME; calls `on_done` after each. Raises ShardsError."""
    found = {}
    for name, paths in {**inputs.trained, **inputs.evaluated}.items():
        conversion = Conversion(
            inputs=paths,
            corpus=name,
            tokenizer=str(tokenizer),
            out=str(out),
            seq_len=seq_len,
            holdout=0.03 if name in inputs.trained else 0.5,
            shard_bytes=1 << 18,  # small, so that there are several to shuffle
        )
        report = convert(conversion, workers=1)  # a second process would cost more than it gains on files this small
        train, holdout = report.manifests
        found[name] = Converted(
            name=name,
            folder=report.folder,
            train=train,
            holdout=holdout,
            text_bytes=report.text_bytes,
            seconds=report.seconds,
        )
        on_done(found[name])
    return found


def _documents(inputs: Inputs) -> Iterator[str]:
    for name, paths in inputs.trained.items():
        template = find_template(None, name)
        yield from islice(_rendered(paths, template), DOCUMENTS_A_CORPUS)


def _rendered(paths: list[str], template: Any) -> Iterator[str]:
    for path in find_sources(paths):
        for block in read_blocks(whole_source(path), template.fields):
            for record in block.records:
                yield template.render(record)[:BYTES_A_DOCUMENT]
