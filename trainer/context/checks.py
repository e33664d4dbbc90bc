"""What must fit before a run begins: the lengths of rows, and the token that ends documents. No torch."""

from collections.abc import Iterator, Mapping

from mixer import Schedule
from mixer.storage import StoredCorpus
from trainer.config import Config


def length_problems(
    config: Config, train: Mapping[str, StoredCorpus], held_out: Mapping[str, StoredCorpus]
) -> Iterator[str]:
    """Corpora that a phase reads whose rows are not of its length, and held-out splits of another length."""
    for name, corpus in train.items():
        for wanted in _lengths_of(name, config.base_schedule()):
            if corpus.seq_len != wanted:
                yield (
                    f"the rows in {corpus.path} have {corpus.seq_len} tokens, seq_len is {wanted} where {name} is "
                    f"read: convert the corpus again with --seq-len {wanted}, or change seq_len, of the run or of the "
                    f"phase @ $.corpora.{name}.local"
                )
        other = held_out[name].seq_len if name in held_out else corpus.seq_len
        if other != corpus.seq_len:
            yield (
                f"the held-out rows in {held_out[name].path} have {other} tokens, those of the corpus "
                f"{corpus.seq_len}: convert both at once @ $.corpora.{name}.holdout"
            )


def document_end(config: Config, corpora: Mapping[str, StoredCorpus], problems: list[str]) -> int | None:
    """The id that ends documents, if attention is to end there; from the file or else from the manifests."""
    if config.attention_across_documents:
        return None
    if config.eos_token_id is not None:
        return config.eos_token_id
    found = sorted({corpus.eos_id for corpus in corpora.values() if corpus.eos_id is not None})
    if len(found) == 1:
        return found[0]
    told = f"the corpora say {' and '.join(map(str, found))}" if found else "no corpus has a manifest that says it"
    problems.append(
        f"attention within documents needs the id of the token that ends them, {told}: give it as eos_token_id "
        "@ $.attention_across_documents"
    )
    return None


def _lengths_of(name: str, schedule: Schedule) -> list[int]:
    """Lengths of the steps in which a corpus has a weight above 0, as the schedule is written."""
    read = (piece for piece in schedule.pieces() if piece.mixture.get(name))
    return sorted({c.seq_len for piece in read for _, _, c in schedule.contexts_in(piece.start, piece.end)})
