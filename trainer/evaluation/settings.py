"""The section `eval` of a configuration, and what it must fit. Imports no torch."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from trainer.section import Duration, Section

if TYPE_CHECKING:
    from trainer.config import Config

LARGEST_BATCH = 16  # samples, where neither eval.batch_size nor device_train_microbatch_size says how many


class EvalConfig(Section):
    """Held-out loss of every corpus: every `interval`, at each switchpoint and at the end.

    `num_samples` are the first of each held-out split, "all" its full size. `reference`: the corpus whose loss shows
    what is forgotten; by default the one with the largest weight at the start. `batch_size`: samples of a forward pass
    on each rank, of which the mean of batch means is made; the default does not depend on the number of ranks.
    """

    interval: Duration = "1000ba"
    num_samples: PositiveInt | Literal["all"] = 512
    reference: str | None = None
    batch_size: PositiveInt | None = None


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
    """A reference that is no corpus of this configuration."""
    reference = config.eval.reference if config.eval else None
    if reference is None or reference in config.corpora:
        return []
    return [f"unknown corpus {reference!r}; the corpora are {', '.join(sorted(config.corpora))} @ $.eval.reference"]
