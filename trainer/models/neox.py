"""The model: GPT-NeoX in Pythia's sizes, randomly initialised, as a ComposerModel.

A batch is a tensor [n, seq_len] of token ids in any integer type (shards hold uint16 or uint32); it is widened on
the device. Each sample is one packed sequence, and attention is not reset at document borders, so there is no mask.
The loss is the mean over tokens of the cross-entropy of the next token, in nats.
"""

from typing import Any

import torch
import torch.nn.functional as F
from composer.models import ComposerModel
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from trainer.models.settings import ModelConfig


class NeoX(ComposerModel):
    """GPT-NeoX for Composer; the Hugging Face model is `.model` (`.model.save_pretrained(folder)` exports it)."""

    def __init__(self, config: GPTNeoXConfig) -> None:
        super().__init__()
        self.model = GPTNeoXForCausalLM(config)
        self.row_losses = torch.empty(0)  # [n]: of each row of the last microbatch, the mean that `loss` is a mean of

    def forward(self, batch: Any) -> Tensor:
        """Logits [n, seq_len, vocab_size] of a batch [n, seq_len]."""
        return self.model(input_ids=tokens_of(batch).long(), use_cache=False).logits

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """Mean cross-entropy over the n x (seq_len - 1) predicted tokens, in nats."""
        losses = token_losses(outputs, batch)
        self.row_losses = losses.detach().view(len(outputs), -1).mean(1)
        return losses.mean()


def tokens_of(batch: Any) -> Tensor:
    """The token ids [n, seq_len] of a batch."""
    return batch["tokens"]


def token_losses(logits: Tensor, batch: Any) -> Tensor:
    """Cross-entropy of each predicted token, float32 [n x (seq_len - 1)]."""
    targets = tokens_of(batch)[:, 1:].long()
    return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), targets.flatten(), reduction="none")


def build_model(config: ModelConfig, *, seq_len: int, seed: int) -> NeoX:
    """A freshly initialised model: the same weights for the same `seed` on every rank."""
    torch.manual_seed(seed)
    return NeoX(neox_config(config, seq_len=seq_len))


def neox_config(config: ModelConfig, *, seq_len: int) -> GPTNeoXConfig:
    """Pythia's architecture: parallel residual, rotary on a quarter of each head, untied embeddings, no dropout."""
    return GPTNeoXConfig(
        vocab_size=config.vocab_size,
        num_hidden_layers=config.n_layers,
        hidden_size=config.d_model,
        num_attention_heads=config.n_heads,
        intermediate_size=config.d_ff,
        max_position_embeddings=seq_len,
        rotary_pct=0.25,
        use_parallel_residual=True,
        tie_word_embeddings=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
