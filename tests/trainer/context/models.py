"""Tiny models of several families, for tests of positions and attention."""

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    Olmo2Config,
    PretrainedConfig,
    Qwen2Config,
)

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "eos_token_id": 0,
    "bos_token_id": 0,
    "pad_token_id": None,
}
CONFIGS: dict[str, type[PretrainedConfig]] = {
    "neox": GPTNeoXConfig,
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "olmo2": Olmo2Config,
}


def tiny(family: str, *, attention: str = "sdpa", **others: Any) -> Any:
    """A model with random weights that are large enough for positions to matter."""
    torch.manual_seed(5)
    grouped = {"num_key_value_heads": 2} if family != "neox" else {}
    config = CONFIGS[family](**SIZES, **grouped, **others)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embed" not in name:
                weight.mul_(8)
    return model.eval()


def tokens_of(num_rows: int, length: int, *, seed: int = 0) -> torch.Tensor:
    """Random ids above 0 [num_rows, length]."""
    return torch.randint(1, 96, (num_rows, length), generator=torch.Generator().manual_seed(seed))
