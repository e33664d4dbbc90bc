"""Held-out losses of a model that is there already: a checkpoint of a run, or any Hugging Face folder.

    python -m trainer.evaluate runs/x/checkpoints/step-00061035.pt cfg.yaml eval.num_samples=all
    composer -n 8 -m trainer.evaluate exported/x cfg.yaml --json

The corpora, how many of their held-out rows, batch size, precision and device are those of the configuration; its
schedule plays no part. The same code as while training measures, in inference mode.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixer import MixerError
from trainer.config import Config
from trainer.errors import ConfigError, TrainerError
from trainer.export import model_of, read_checkpoint
from trainer.loading import load
from trainer.sources import Sources, open_sources

if TYPE_CHECKING:
    from trainer.evaluation.measuring import HeldOutLoss
    from trainer.models.causal_lm import CausalLM


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, evaluate, print; returns the exit code."""
    options = parser().parse_intermixed_args(arguments)
    logging.basicConfig(format="%(message)s")
    try:
        config = load(options.config, options.overrides)
        if config.eval is None:
            raise ConfigError(["what to evaluate is said by this section, which is missing @ $.eval"])
        found = evaluate(options.model, config, open_sources(config))
    except (TrainerError, MixerError) as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code if isinstance(error, TrainerError) else 2
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write((as_json(found) if options.json else as_table(found)) + "\n")
    return 0


def evaluate(model: Path, config: Config, sources: Sources) -> dict[str, "HeldOutLoss"]:
    """The loss on each corpus' held-out split, over all ranks; raises TrainerError for what is no model."""
    from composer.utils import dist, get_device

    from trainer.device import device_of
    from trainer.evaluation.callback import rows_of_rank
    from trainer.evaluation.measuring import measure

    assert config.eval is not None
    name = device_of(config)
    dist.initialize_dist(name)
    device = get_device(name)
    loaded = device.module_to_device(open_model(model))
    rows = rows_of_rank(sources, config.eval, rank=dist.get_global_rank(), num_ranks=dist.get_world_size())
    return {
        corpus: measure(loaded, part, device=device, precision=config.precision, alone=True)
        for corpus, part in rows.items()
    }


def open_model(path: Path) -> "CausalLM":
    """What can be evaluated: a checkpoint, or a folder in Hugging Face's format. Raises TrainerError."""
    from transformers import AutoModelForCausalLM

    from trainer.models.causal_lm import CausalLM

    if not (path / "config.json").is_file():
        return CausalLM(model_of(*read_checkpoint(path), dtype="fp32"))
    try:
        return CausalLM(AutoModelForCausalLM.from_pretrained(path, local_files_only=True))
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path} holds no causal language model: {str(error).splitlines()[0]}"]) from None


def as_json(found: Mapping[str, "HeldOutLoss"]) -> str:
    """Corpus to its losses in nats, as one JSON object."""
    return json.dumps({name: _values(loss) for name, loss in found.items()}, indent=1)


def as_table(found: Mapping[str, "HeldOutLoss"]) -> str:
    """One line a corpus."""
    width = max(len(name) for name in (*found, "corpus"))
    lines = [f"{'corpus':<{width}}  {'loss':>8}  {'perplexity':>10}  {'mean of batch means':>19}  {'tokens':>13}"]
    for name, loss in found.items():
        means = f"{loss.token_mean:>8.4f}  {loss.perplexity:>10.4g}  {loss.batch_mean:>19.4f}"
        lines.append(f"{name:<{width}}  {means}  {loss.num_tokens:>13,}")
    return "\n".join(lines)


def _values(loss: "HeldOutLoss") -> dict[str, Any]:
    values = {"loss": loss.token_mean, "perplexity": loss.perplexity, "loss_batch_mean": loss.batch_mean}
    return {**values, "num_tokens": loss.num_tokens}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m trainer.evaluate",
        description="Held-out losses of a checkpoint or an exported model.",
        epilog="Example: python -m trainer.evaluate exported/tiny trainer/configs/tiny.yaml eval.num_samples=all",
    )
    found.add_argument("model", type=Path, metavar="MODEL", help="a checkpoint, or a folder in Hugging Face's format")
    found.add_argument("config", type=Path, metavar="cfg.yaml", help="the run, whose corpora and section eval count")
    found.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key; or a file, laid over")
    found.add_argument("--json", action="store_true", help="print one JSON object")
    return found


if __name__ == "__main__":
    sys.exit(main())
