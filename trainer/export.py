"""A checkpoint as a model in Hugging Face's format, with where it comes from inside.

    python -m trainer.export runs/x/checkpoints/step-00061035.pt exported/x --tokenizer tokenizers/gpt-neox-20b

The folder holds safetensors, `config.json` (with a short `switchpoint` key), `generation_config.json`, tokenizer files
where one was given, and `switchpoint.json`, the whole provenance (`trainer.provenance`). It is complete or absent: all
is written under a temporary name beside it, forced to disk, and renamed.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixer.context import PLAIN, Context, parse_rope
from trainer.checkpoints.files import publish
from trainer.errors import ExportError, ResumeError, TrainerError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

PROVENANCE = "switchpoint.json"
WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")  # what wraps a part of a model


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and export; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        export(options.checkpoint, options.out, tokenizer=options.tokenizer, dtype=options.dtype)
    except TrainerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"{options.out} could not be written: {error.strerror or error}\n")
        return 1
    sys.stdout.write(f"{options.out}\n")
    return 0


def export(checkpoint: Path, out: Path, *, tokenizer: Path | None = None, dtype: str = "fp32") -> None:
    """Write `out`; raises ExportError where it exists and for what is no checkpoint, OSError for a full disk."""
    if out.exists() or out.is_symlink():
        raise ExportError(f"{out} exists already: give a folder that does not")
    weights, provenance = read_checkpoint(checkpoint)
    model = model_of(weights, provenance, dtype=dtype)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        model.save_pretrained(temporary)
        if tokenizer is not None:
            _save_tokenizer(tokenizer, temporary, num_ids=int(model.config.vocab_size))
        (temporary / PROVENANCE).write_text(
            json.dumps(provenance, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        temporary.chmod(0o755)  # mkdtemp's folders are the owner's alone
        if out.exists():
            raise ExportError(f"{out} was made by another program meanwhile")
        publish(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_checkpoint(path: Path) -> tuple[Mapping[str, "Tensor"], dict[str, Any]]:
    """The weights of the Hugging Face model by name, and the provenance. Raises ExportError.

    Nothing in it is run (`trainer.checkpoints.reading`).
    """
    from trainer.checkpoints.reading import read_state

    try:
        state = read_state(path)
    except ResumeError as error:
        raise ExportError(str(error)) from None
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror or error}") from None
    callbacks = dict(state.get("callbacks", {}))
    if "Provenance" not in callbacks:
        raise ExportError(f"{path} does not say where it comes from: it was made by an earlier version of the trainer")
    provenance = json.loads(callbacks["Provenance"]["json"])
    weights = {}
    for name, tensor in state["model"].items():
        for wrapper in WRAPPERS:
            name = name.replace(wrapper, "")
        weights[name.removeprefix("model.")] = tensor
    return weights, provenance


def model_of(
    weights: Mapping[str, "Tensor"], provenance: Mapping[str, Any], *, dtype: str = "fp32"
) -> "PreTrainedModel":
    """The Hugging Face model with these weights, and `config.switchpoint`; raises ExportError where they do not fit."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from trainer.context.rotary import Rotary

    settings = dict(provenance["model_config"])
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    model = AutoModelForCausalLM.from_config(config)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ExportError(f"the weights do not fit the model that they are said to be of: {error}") from None
    context = provenance["context"]
    rope = parse_rope(context["rope"], "$.context.rope", [])
    Rotary(model, seq_len=provenance["config"]["seq_len"]).set(Context(context["seq_len"], rope or PLAIN))
    model.config.switchpoint = {
        "run_name": provenance["run_name"],
        "step": provenance["step"],
        "ledger_hash": provenance["ledger"]["hash"],
    }
    return model.to({"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]).eval()


def _save_tokenizer(folder: Path, out: Path, *, num_ids: int) -> None:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ExportError(f"there is no tokenizer in {folder}: {str(error).splitlines()[0]}") from None
    if len(tokenizer) > num_ids:
        raise ExportError(f"the tokenizer in {folder} has {len(tokenizer)} ids, the model {num_ids}")
    tokenizer.save_pretrained(out)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m trainer.export",
        description="Write a checkpoint as a model in Hugging Face's format, with its provenance inside.",
        epilog="Example: python -m trainer.export runs/tiny/checkpoints/step-00000200.pt exported/tiny --dtype bf16",
    )
    found.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a file like step-00061035.pt, or a folder of parts"
    )
    found.add_argument("out", type=Path, metavar="OUT", help="the folder to write, which must not exist")
    found.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="a tokenizer to put beside the model")
    found.add_argument("--dtype", choices=["bf16", "fp32"], default="fp32", help="of the weights (default: fp32)")
    return found


if __name__ == "__main__":
    sys.exit(main())
