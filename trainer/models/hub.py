"""Models of Hugging Face's kind that are no presets: their config.json and weights, in a folder or on the hub.

Code that lies beside a model is never run (`trust_remote_code` is off). Whatever is wrong is a ConfigError with its
place. Transformers is imported on first use alone.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer.errors import ConfigError
from trainer.models.settings import ModelConfig

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def hf_config(model: ModelConfig) -> Any:
    """The transformers configuration of `model`, with its overrides; ConfigError where it is no causal LM."""
    return _hf_config(model.source, json.dumps(model.overrides, sort_keys=True))


@lru_cache
def _hf_config(source: str, overrides: str) -> Any:
    from transformers import AutoConfig

    folder = Path(source).expanduser()
    if _is_folder(source) and not (folder / "config.json").is_file():
        raise ConfigError([f"the folder {folder} has no config.json @ $.model.name"])
    changes = json.loads(overrides)
    try:
        config, unknown = AutoConfig.from_pretrained(
            str(folder) if _is_folder(source) else source,
            trust_remote_code=False,
            return_unused_kwargs=True,
            **changes,
        )
    except Exception as error:  # of the hub's client and of transformers, whose kinds differ between versions
        raise ConfigError(
            [f"{source} is no model that transformers can load: {first_line(error)} @ $.model.name"]
        ) from None
    if unknown:
        raise ConfigError([f"{source} has no key {key!r} @ $.model.overrides.{key}" for key in unknown])
    _check_causal(source, config)
    return config


def _check_causal(source: str, config: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    wanted = CAUSAL.get(config.model_type)
    found = config.architectures or [wanted]
    if wanted is None or wanted not in found:
        what = ", ".join(config.architectures or [config.model_type])
        raise ConfigError([f"{source} is no causal language model but {what} @ $.model.name"])


def check(model: ModelConfig, *, seq_len: int) -> None:
    """Raises ConfigError where a model cannot be had as it is asked for; of a preset nothing is read."""
    if model.is_preset and not model.pretrained:
        return
    problems = []
    longest = getattr(hf_config(model), "max_position_embeddings", None)
    if longest is not None and seq_len > longest:
        problems.append(f"{model.source} was made for at most {longest} tokens, found {seq_len} @ $.seq_len")
    folder = Path(model.source).expanduser()
    if (
        model.pretrained
        and _is_folder(model.source)
        and not any(file for kind in WEIGHTS for file in folder.glob(kind))
    ):
        problems.append(
            f"the folder {folder} has no weights ({' or '.join(WEIGHTS)}); with pretrained: false they are random "
            "@ $.model.pretrained"
        )
    if problems:
        raise ConfigError(problems)


def _is_folder(source: str) -> bool:
    """A folder that is there, or a path that can be nothing else; else a hub name."""
    path = Path(source).expanduser()
    return path.is_dir() or source.startswith((".", "/", "~")) or source.count("/") != 1


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
