"""The sections `model` and `fsdp` of a configuration, and what can be wrong with them. No torch, no transformers."""

import importlib.util
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from trainer.section import Section

if TYPE_CHECKING:
    from trainer.config import Config

PRESETS: Mapping[str, Mapping[str, int]] = {
    "tiny": {"n_layers": 2, "d_model": 64, "n_heads": 4},
    "pythia-70m": {"n_layers": 6, "d_model": 512, "n_heads": 8},
    "pythia-160m": {"n_layers": 12, "d_model": 768, "n_heads": 12},
    "pythia-410m": {"n_layers": 24, "d_model": 1024, "n_heads": 16},
    "pythia-1b": {"n_layers": 16, "d_model": 2048, "n_heads": 8},
}
PYTHIA_VOCAB_SIZE = 50_304  # 50,277 ids of the GPT-NeoX tokenizer, padded to a multiple of 128
SIZES = ("n_layers", "d_model", "n_heads", "d_ff", "vocab_size")


class ModelConfig(Section):
    """A causal language model. Also written as just its name.

    `name`: a preset (GPT-NeoX, any of whose sizes can be replaced), or any causal LM of Hugging Face's kind: a folder
    with a config.json or a hub name, both with a slash in it; its own keys are replaced by `overrides`. With
    `pretrained` the weights are those of the folder or the hub (of a preset: EleutherAI's), else random.
    """

    name: str
    pretrained: bool = False
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    n_layers: PositiveInt | None = None
    d_model: PositiveInt | None = None
    n_heads: PositiveInt | None = None
    d_ff: PositiveInt | None = None
    vocab_size: Annotated[int, Field(gt=0, multiple_of=128)] | None = None
    overrides: dict[str, Any] = Field(default={})

    @property
    def is_preset(self) -> bool:
        return self.name in PRESETS

    @property
    def source(self) -> str:
        """The folder or the hub name that a configuration or weights are read from."""
        return f"EleutherAI/{self.name}" if self.is_preset else self.name

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PRESETS and "/" not in name:
            raise ValueError(f"must be one of {', '.join(PRESETS)}, a folder (./NAME) or a hub name (OWNER/NAME)")
        return name

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        given = {"name": data} if isinstance(data, str) else data
        if not isinstance(given, Mapping) or given.get("name") not in PRESETS:
            return given
        filled = {"vocab_size": PYTHIA_VOCAB_SIZE, **PRESETS[given["name"]], **given}
        if isinstance(filled["d_model"], int):
            filled.setdefault("d_ff", 4 * filled["d_model"])
        return filled


class FsdpConfig(Section):
    """Parameters, gradients and optimizer state are spread over GPUs, a decoder layer at a time.

    `sharding`: all three ("full"), all but the parameters between forward and backward ("grad_op"), all three within a
    machine and copied between machines ("hybrid"). `mixed_precision`, as Composer has it: "default" computes in the
    run's precision and adds gradients up in float32, "pure" adds them up in that precision, "full" is float32 for both.
    `state`: a checkpoint is one file ("full") or one of each rank ("sharded").
    """

    sharding: Literal["full", "grad_op", "hybrid"] = "full"
    mixed_precision: Literal["default", "pure", "full"] = "default"
    state: Literal["full", "sharded"] = "full"

    def for_composer(self) -> dict[str, Any]:
        """Composer's `parallelism_config`; layers are what `causal_lm.CausalLM` says they are."""
        strategy = {"full": "FULL_SHARD", "grad_op": "SHARD_GRAD_OP", "hybrid": "HYBRID_SHARD"}[self.sharding]
        return {
            "fsdp": {
                "sharding_strategy": strategy,
                "mixed_precision": self.mixed_precision.upper(),
                "state_dict_type": self.state,
                "activation_checkpointing": False,  # done by the model itself, inside what is sharded
            }
        }


def problems(config: "Config") -> Iterator[str]:
    """What single keys of `model` and `fsdp` cannot know, each with its place; reads no files."""
    model = config.model
    if model.is_preset:
        if model.d_model % model.n_heads:
            yield f"must divide d_model ({model.d_model}), found {model.n_heads} @ $.model.n_heads"
        if model.pretrained:
            yield from _preset_with_weights_problems(model)
    else:
        given = [size for size in SIZES if getattr(model, size) is not None]
        yield from (f"only presets have this key, of others give overrides @ $.model.{size}" for size in given)
    if model.overrides and (model.is_preset or model.pretrained):
        yield "overrides are for models of a folder or the hub that begin with random weights @ $.model.overrides"
    if model.attention == "flash_attention_2":
        yield from _flash_problems(config)
    if config.precision == "amp_bf16" and config.device == "cpu":
        yield "Composer computes in bf16 on GPUs only: take fp32 @ $.precision"
    if config.fsdp and config.device == "cpu":
        yield "Composer shards over GPUs only (device: gpu) @ $.fsdp"


def _preset_with_weights_problems(model: ModelConfig) -> Iterator[str]:
    if model.name == "tiny":
        yield "there are no weights of this model: leave it out @ $.model.pretrained"
    original = {"d_ff": 4 * PRESETS[model.name]["d_model"], "vocab_size": PYTHIA_VOCAB_SIZE, **PRESETS[model.name]}
    for size in SIZES:
        if getattr(model, size) != original[size]:
            yield f"the weights are of {original[size]}, found {getattr(model, size)} @ $.model.{size}"


def _flash_problems(config: "Config") -> Iterator[str]:
    place = "@ $.model.attention"
    if importlib.util.find_spec("flash_attn") is None:
        yield f"flash_attention_2 needs the package flash-attn, which is not installed: take sdpa {place}"
    if config.device == "cpu":
        yield f"flash_attention_2 needs a GPU: take sdpa {place}"
    if config.precision == "fp32":
        yield f"flash_attention_2 needs precision amp_bf16 {place}"
