"""The model: a causal language model of Hugging Face's kind, as a ComposerModel.

A batch is {"tokens": [n, seq_len] token ids in any integer type (shards hold uint16 or uint32)}; they are widened on
the device. Optional: "loss_mask", bool [n, seq_len], True where a token is a target (absent: all are). Each sample is
one packed sequence, and attention is not reset at document borders, so there is no attention mask.
The loss is the mean over targets of their cross-entropy in nats; the first token of a row is never a target.
"""

from typing import Any

import torch
import torch.nn.functional as F
from composer.models import ComposerModel
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from trainer.models.settings import ModelConfig


class CausalLM(ComposerModel):
    """Wraps `model`, a Hugging Face causal LM, for Composer (`.model.save_pretrained(folder)` exports it)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.row_losses = torch.empty(0)  # [n]: of each row of the last microbatch, the mean over its targets

    def forward(self, batch: Any) -> Tensor:
        """Logits [n, seq_len, vocab_size] of a batch."""
        return self.model(input_ids=tokens_of(batch).long(), use_cache=False).logits

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """Mean cross-entropy over the targets of the batch (n x (seq_len - 1) without a mask), in nats."""
        losses, targets = _losses(outputs, batch), targets_of(batch)
        self.row_losses = (losses.detach().sum(1) / targets.sum(1).clamp(min=1)).float()
        return losses.sum() / targets.sum().clamp(min=1)


def tokens_of(batch: Any) -> Tensor:
    """The token ids [n, seq_len] of a batch."""
    return batch["tokens"]


def targets_of(batch: Any) -> Tensor:
    """Which tokens after the first of each row count in the loss, bool [n, seq_len - 1]."""
    mask = batch.get("loss_mask")
    return torch.ones_like(tokens_of(batch)[:, 1:], dtype=torch.bool) if mask is None else mask[:, 1:].bool()


def token_losses(logits: Tensor, batch: Any) -> Tensor:
    """Cross-entropy of each target, float32 [number of targets], row by row; tokens that are none are left out."""
    return _losses(logits, batch)[targets_of(batch)]


def _losses(logits: Tensor, batch: Any) -> Tensor:
    """Cross-entropy of each token after the first, float32 [n, seq_len - 1]; zero where it is no target."""
    following = tokens_of(batch)[:, 1:].long()
    losses = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), following.flatten(), reduction="none")
    return losses.view(following.shape) * targets_of(batch)


def build_model(config: ModelConfig, *, seq_len: int, seed: int) -> CausalLM:
    """A freshly initialised model: the same weights for the same `seed` on every rank."""
    torch.manual_seed(seed)
    return CausalLM(GPTNeoXForCausalLM(neox_config(config, seq_len=seq_len)))


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
