"""The section `eval` of a configuration, and what it must fit. Imports no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from trainer.section import Duration, Section

if TYPE_CHECKING:
    from trainer.config import Config

LARGEST_BATCH = 16  # samples, where neither eval.batch_size nor device_train_microbatch_size says how many


class HeldOutConfig(Section):
    """A split that is only evaluated: `local`, a folder of MDS shards, or of what is fetched from `remote`."""

    local: Path
    remote: str | None = None
    mask_prompt: bool = False


class EvalConfig(Section):
    """Held-out loss of every corpus: every `interval`, at each switchpoint and at the end.

    `num_samples` are the first of each held-out split, "all" its full size. `reference`: the corpus whose loss shows
    what is forgotten; by default the one with the largest weight at the start. `batch_size`: samples of a forward pass
    on each rank, of which the mean of batch means is made; the default does not depend on the number of ranks.
    `corpora`: splits of others, by name, such as the C4 that finetuning may make a model forget; with `before_training`
    all is measured before the first step too, and forgetting counts from there.
    """

    interval: Duration = "1000ba"
    num_samples: PositiveInt | Literal["all"] = 512
    reference: str | None = None
    batch_size: PositiveInt | None = None
    corpora: dict[str, HeldOutConfig] = Field(default={})
    before_training: bool = False


def reference_of(config: "Config") -> str:
    """The corpus that forgetting is measured on: as given, or that of the largest weight in step 0, ties by name."""
    if config.eval and config.eval.reference is not None:
        return config.eval.reference
    weights = config.base_schedule().weights(0)
    return min(weights, key=lambda name: (-weights[name], name))


def batch_size_of(config: "Config") -> int:
    """Samples of one forward pass of an evaluation on each rank: the same whatever the number of ranks."""
    given = config.eval.batch_size if config.eval else None
    return given or config.device_train_microbatch_size or min(config.global_batch_size, LARGEST_BATCH)


def lines(config: "Config") -> Iterator[str]:
    """What is printed of it before training."""
    if given := config.eval:
        samples = "all" if given.num_samples == "all" else f"{given.num_samples:,}"
        yield (
            f"evaluation      every {config.steps(given.interval):,} steps, {samples} samples a corpus in batches of "
            f"{batch_size_of(config)}; forgetting on {reference_of(config)}"
        )


def problems(config: "Config") -> list[str]:
    """A reference that is no corpus of this configuration, and splits that have the name of one."""
    if config.eval is None:
        return []
    found = [
        f"{name!r} is one of the corpora, which are evaluated anyhow: choose another name @ $.eval.corpora.{name}"
        for name in config.eval.corpora
        if name in config.corpora
    ]
    known, reference = {*config.corpora, *config.eval.corpora}, config.eval.reference
    if reference is not None and reference not in known:
        found.append(f"unknown corpus {reference!r}; the corpora are {', '.join(sorted(known))} @ $.eval.reference")
    return found
