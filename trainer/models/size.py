"""How big a model is and what training it costs, by arithmetic: parameters, FLOPs, memory; and what GPUs can do.

Presets need neither torch nor transformers. Of other models transformers' configuration is read, and parameters are
counted on the meta device: no memory is taken.
"""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache

from trainer.models import hub
from trainer.models.settings import SIZES, ModelConfig

# Dense bf16 FLOP/s by what the device's name holds; the first that fits counts. Source: NVIDIA's data sheets (tensor
# cores, without sparsity; half of what a sheet gives with it).
PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "GH200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H800": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A40": 150e12,
    "A6000": 155e12,
    "4090": 165e12,
    "3090": 71e12,
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the formulas need. `num_multiplied`: weights in matrices that every token is multiplied with."""

    num_parameters: int
    num_multiplied: int
    n_layers: int
    d_model: int
    n_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int


def num_parameters(model: ModelConfig) -> int:
    """Parameters, exactly; ConfigError where the model cannot be read (as of everything here)."""
    return shape_of(model).num_parameters


def vocab_size(model: ModelConfig) -> int:
    """The number of ids that the model knows."""
    return model.vocab_size or hub.hf_config(model).vocab_size


def flops_per_token(model: ModelConfig, seq_len: int) -> float:
    """FLOPs of forward and backward for each token of a row of `seq_len`: 6 N + 12 L H Q T (PaLM, arXiv 2204.02311,
    appendix B), with N the weights that are multiplied with (no embedding lookup, no norms, no biases). Attention
    counts in full, also where a kernel skips the half that is masked; recomputing activations does not count. Dense
    models: of a mixture of experts all would be counted.
    """
    shape = shape_of(model)
    return 6.0 * shape.num_multiplied + 12.0 * shape.n_layers * shape.n_heads * shape.head_dim * seq_len


def peak_flops(device_name: str) -> float | None:
    """FLOP/s of a GPU in bf16, dense, at best; None for one that is not in the table."""
    words = device_name.replace("-", " ").replace("_", " ").split()
    for name, flops in PEAK_FLOPS.items():
        if all(word in words for word in name.split()):
            return flops
    return None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    def parts(self) -> dict[str, int]:
        """Bytes by name."""
        return asdict(self)

    @property
    def total(self) -> int:
        return sum(self.parts().values())


def memory(
    model: ModelConfig,
    *,
    seq_len: int,
    microbatch_size: int,
    is_bf16: bool = False,
    activation_checkpointing: bool = False,
    num_shards: int = 1,
) -> Memory:
    """An estimate, of what is held at the end of a forward pass, and of the gradient of the logits.

    Parameters, gradients and Adam's two moments in float32 (16 bytes a parameter), over `num_shards`. Activations of a
    layer in bf16: tokens x (18 d_model + 4 d_ff), which is 34 s b h of Korthikanti et al. (arXiv 2205.05198, without
    the attention matrix, which SDPA never holds); eager attention adds 5 heads x seq_len to each token. Twice that in
    float32. With checkpointing each layer keeps its input, and one layer all. Logits and their gradient: each token x
    vocabulary.
    """
    shape, width = shape_of(model), 1 if is_bf16 else 2
    tokens = microbatch_size * seq_len
    weights = 4 * shape.num_parameters // num_shards
    layer = width * tokens * (18 * shape.d_model + 4 * shape.d_ff)
    if model.attention == "eager":
        layer += width * tokens * 5 * shape.n_heads * seq_len
    kept = 2 * width * tokens * shape.d_model * shape.n_layers + layer if activation_checkpointing else 0
    return Memory(
        parameters=weights,
        gradients=weights,
        optimizer=2 * weights,
        activations=kept or layer * shape.n_layers,
        logits=2 * 2 * width * tokens * shape.vocab_size,
    )


def identity(model: ModelConfig) -> dict[str, int | str | None]:
    """What the weights of a model depend on: two models whose answers are equal can load each other's checkpoints."""
    if model.is_preset:
        return {size: getattr(model, size) for size in SIZES}
    config = hub.hf_config(model)
    keys = ("model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
            "intermediate_size", "vocab_size", "tie_word_embeddings")  # fmt: skip
    return {key: getattr(config, key, None) for key in keys}


def shape_of(model: ModelConfig) -> Shape:
    """The sizes of `model`."""
    return _preset_shape(model) if model.is_preset else _hub_shape(model.model_dump_json())


def _preset_shape(model: ModelConfig) -> Shape:
    """GPT-NeoX: two embeddings, and in each layer four matrices for attention, two for the rest, and two norms."""
    matrices = 4 * model.d_model**2 + 2 * model.d_model * model.d_ff
    biases = 4 * model.d_model + model.d_ff + model.d_model
    embedding = model.vocab_size * model.d_model
    layer = matrices + biases + 4 * model.d_model
    return Shape(
        num_parameters=2 * embedding + model.n_layers * layer + 2 * model.d_model,
        num_multiplied=embedding + model.n_layers * matrices,
        n_layers=model.n_layers,
        d_model=model.d_model,
        n_heads=model.n_heads,
        head_dim=model.d_model // model.n_heads,
        d_ff=model.d_ff,
        vocab_size=model.vocab_size,
    )


@lru_cache
def _hub_shape(model: str) -> Shape:
    import torch
    from transformers import AutoModelForCausalLM

    config = hub.hf_config(ModelConfig.model_validate(json.loads(model)))
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    parameters = list(network.parameters())  # a tied matrix counts once
    is_tied = network.get_input_embeddings().weight is network.get_output_embeddings().weight
    tables = [m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Embedding)]  # tokens, positions
    lookups = sum(tables) - (network.get_input_embeddings().weight.numel() if is_tied else 0)
    d_model, n_heads = config.hidden_size, config.num_attention_heads
    return Shape(
        num_parameters=sum(p.numel() for p in parameters),
        num_multiplied=sum(p.numel() for p in parameters if p.ndim == 2) - lookups,
        n_layers=config.num_hidden_layers,
        d_model=d_model,
        n_heads=n_heads,
        head_dim=getattr(config, "head_dim", None) or d_model // n_heads,
        d_ff=getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * d_model,
        vocab_size=config.vocab_size,
    )
