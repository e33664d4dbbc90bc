"""Pythia: GPT-NeoX with a parallel residual, rotary positions on a quarter of each head, untied embeddings.

Initialised as the Pythia suite was (arXiv 2304.01373; EleutherAI/pythia, models/*/pythia-*.yml: `init_method:
small_init`, `output_layer_init_method: wang_init`; EleutherAI/gpt-neox, megatron/model/init_functions.py): matrices and
both embeddings from a normal distribution of standard deviation sqrt(2 / (5 d_model)); those that write to the residual
stream (attention's output, the second of the feed-forward) of 2 / (n_layers sqrt(d_model)); biases 0, norms 1.
"""

import math

from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from trainer.models.settings import ModelConfig

WRITES_TO_RESIDUAL = ("attention.dense", "mlp.dense_4h_to_h")


def pythia_config(model: ModelConfig, *, seq_len: int) -> GPTNeoXConfig:
    """What transformers must know of a preset."""
    return GPTNeoXConfig(
        vocab_size=model.vocab_size,
        num_hidden_layers=model.n_layers,
        hidden_size=model.d_model,
        num_attention_heads=model.n_heads,
        intermediate_size=model.d_ff,
        max_position_embeddings=seq_len,
        rotary_pct=0.25,
        use_parallel_residual=True,
        tie_word_embeddings=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )


def initialise(network: GPTNeoXForCausalLM) -> None:
    """Draw all weights anew, from torch's global generator."""
    d_model, n_layers = network.config.hidden_size, network.config.num_hidden_layers
    small, wang = math.sqrt(2 / (5 * d_model)), 2 / (n_layers * math.sqrt(d_model))
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=wang if name.endswith(WRITES_TO_RESIDUAL) else small)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
