"""The corpora of a run, opened: their shards, held-out splits and identities, and what follows from them.

`open_sources` reads indexes and manifests only, and refuses, all problems at once, what cannot be trained on: a
corpus that is not there, another sequence length than that of its phases, another tokenizer, ids beyond the model's
vocabulary, a mixture that would read a corpus more often than its cap allows. No torch, no composer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mixer import Corpus, CorpusError, Ledger, Plan
from mixer.groups import make_plan
from mixer.reader import RowReader
from mixer.reading import Reading
from mixer.storage import StoredCorpus, open_corpus
from mixer.storage.cache import Cache
from mixer.storage.remote import Remote
from trainer.config import Config
from trainer.context.checks import document_end, length_problems
from trainer.errors import ConfigError
from trainer.finetuning.examples import unpack
from trainer.models import hub
from trainer.models.size import vocab_size


@dataclass(frozen=True, kw_only=True)
class Sources:
    """`train` and `held_out` by corpus name; `held_out` is empty without evaluation."""

    config: Config
    train: Mapping[str, StoredCorpus]
    held_out: Mapping[str, StoredCorpus]

    @property
    def names(self) -> list[str]:
        """The corpora, sorted: the order of the batch's corpus indices."""
        return sorted(self.train)

    @property
    def has_examples(self) -> bool:
        """Whether rows are examples with their counts (`trainer.finetuning.examples`); of a run, all are or none."""
        return any(corpus.has_examples for corpus in self.train.values())

    @property
    def corpora(self) -> dict[str, Corpus]:
        """What the plan must know of each corpus."""
        return {
            name: Corpus(
                shard_sizes=self.train[name].shard_sizes,
                max_epochs=self.config.corpora[name].max_epochs,
                then=self.config.corpora[name].then,
                seq_len=self._other_length(name),
            )
            for name in self.names
        }

    @property
    def document_end(self) -> int | None:
        """The id that ends documents, where attention ends there too."""
        return document_end(self.config, self.train, [])

    def plan(self) -> Plan:
        """The plan of the schedule in the file; raises mixer's RepetitionError and others of its tree."""
        config = self.config
        return make_plan(
            config.base_schedule(),
            self.corpora,
            data_seed=config.data_seed,
            shuffle_window=config.shuffle_window,
            num_groups=config.num_groups,
        )

    def rows(self) -> RowReader:
        """All training rows, corpora in the order of `names`; their shards are fetched as they are needed."""
        corpora = [self.train[name] for name in self.names]
        return RowReader(corpora, Cache(corpora, limit=self.config.reading.cache_limit))

    def reading(self, rows: RowReader) -> Reading:
        """The state of a run that starts; with a schedule that may change, no step is frozen yet."""
        return Reading(
            Ledger(base=self.config.base_schedule()),
            self.corpora,
            fingerprints={name: self.train[name].fingerprint for name in self.names},
            fingerprint_of=lambda name, num_shards: self.train[name].fingerprint_of(num_shards),
            bases=dict(zip(self.names, rows.bases.tolist(), strict=True)),
            data_seed=self.config.data_seed,
            shuffle_window=self.config.shuffle_window,
            num_groups=self.config.num_groups,
            frontier=0 if self.config.service or self.config.dynamic else None,
        )

    def held_out_rows(self, name: str, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Rows of a held-out split by their numbers [n], as a batch: {"tokens": [n, seq_len]}, examples as trained."""
        corpus = self.held_out[name]
        rows = RowReader([corpus]).read(chosen)
        if not corpus.has_examples:
            return {"tokens": rows}
        given = self.config.corpora.get(name) or (self.config.eval and self.config.eval.corpora[name])
        examples = unpack(rows, bool(given and given.mask_prompt))
        return {"tokens": examples.tokens, "loss_mask": examples.loss_mask}

    def num_held_out(self, name: str, wanted: int | Literal["all"]) -> int:
        """How many rows of a held-out split are evaluated, over all ranks."""
        there = int(self.held_out[name].num_samples)
        return there if wanted == "all" else min(wanted, there)

    @property
    def definition(self) -> dict[str, Any]:
        """The run as the service wants it: the body of `POST /v1/runs`."""
        config = self.config
        corpora = {
            name: {
                "shard_sizes": corpus.shard_sizes.tolist(),
                "max_epochs": config.corpora[name].max_epochs,
                "then": config.corpora[name].then,
                "fingerprint": corpus.fingerprint,
                **({"seq_len": corpus.seq_len} if self._other_length(name) else {}),
            }
            for name, corpus in self.train.items()
        }
        return {
            "name": config.run_name,
            "data_seed": config.data_seed,
            "global_batch_size": config.global_batch_size,
            "seq_len": config.seq_len,
            "num_steps": config.num_steps,
            "shuffle_window": config.shuffle_window,
            "num_groups": config.num_groups,
            "corpora": corpora,
            "schedule": config.base_schedule().to_dict(),
        }

    def _other_length(self, name: str) -> int | None:
        """Tokens of the rows of a corpus, where they are not as many as the run's."""
        seq_len = self.train[name].seq_len
        return None if seq_len == self.config.seq_len else seq_len


def open_sources(config: Config) -> Sources:
    """Open every corpus of `config`; raises ConfigError with all problems, each with its place in the file."""
    hub.check(config.model, seq_len=config.seq_len)
    problems: list[str] = []
    train, held_out = {}, {}
    for name, corpus in config.corpora.items():
        place = f"$.corpora.{name}"
        train[name] = _open(corpus.local, corpus.remote, f"{place}.local", config, problems)
        if config.eval:
            source = corpus.holdout_source
            held_out[name] = _open(corpus.holdout_folder, source, f"{place}.holdout", config, problems)
    for name, given in (config.eval.corpora if config.eval else {}).items():
        held_out[name] = _open(given.local, given.remote, f"$.eval.corpora.{name}.local", config, problems)
    opened = {name: corpus for name, corpus in train.items() if corpus}
    only_evaluated = {name: corpus for name, corpus in held_out.items() if corpus and name not in train}
    problems += _tokenizer_problems(opened | only_evaluated, config) + _form_problems(opened)
    problems += length_problems(config, opened, {name: corpus for name, corpus in held_out.items() if corpus})
    document_end(config, opened, problems)
    if problems:
        raise ConfigError(problems)
    return Sources(
        config=config,
        train=opened,
        held_out={name: corpus for name, corpus in held_out.items() if corpus},
    )


def _open(folder: Path, remote: str | None, place: str, config: Config, problems: list[str]) -> StoredCorpus | None:
    reading = config.reading
    source = Remote(remote, attempts=reading.attempts, timeout_s=reading.timeout) if remote else None
    try:
        corpus = open_corpus(folder, source)
        corpus.dtype  # noqa: B018  (a property that raises, where rows are not of one size)
    except CorpusError as error:
        problems.append(f"{error} @ {place}")
        return None
    return corpus


def _form_problems(corpora: Mapping[str, StoredCorpus]) -> list[str]:
    """Packed text and examples in one run: a step would hold rows of two kinds."""
    forms: dict[bool, list[str]] = {}
    for name, corpus in corpora.items():
        forms.setdefault(corpus.has_examples, []).append(name)
    if len(forms) < 2:
        return []
    packed, examples = (", ".join(forms[form]) for form in (False, True))
    return [f"rows are packed in {packed}, examples in {examples}: train on one kind at a time @ $.corpora"]


def _tokenizer_problems(corpora: Mapping[str, StoredCorpus], config: Config) -> list[str]:
    """Corpora that were made with different tokenizers, or with one that has more ids than the model."""
    problems: list[str] = []
    of_tokenizer: dict[str, list[str]] = {}
    for name, corpus in corpora.items():
        if corpus.tokenizer:
            of_tokenizer.setdefault(corpus.tokenizer, []).append(name)
        if corpus.vocab_size and corpus.vocab_size > (known := vocab_size(config.model)):
            problems.append(
                f"the tokenizer of {name} has {corpus.vocab_size} ids, the model {known}: "
                "raise it to the next multiple of 128 @ $.model.vocab_size"
            )
    if len(of_tokenizer) > 1:
        groups = " and ".join(", ".join(names) for names in of_tokenizer.values())
        problems.append(f"corpora were made with different tokenizers ({groups}): convert them with one @ $.corpora")
    return problems
