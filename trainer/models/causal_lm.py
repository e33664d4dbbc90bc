"""The model: a causal language model of Hugging Face's kind, as a ComposerModel.

A batch is {"tokens": [n, seq_len] token ids in any integer type (shards hold uint16 or uint32)}; they are widened on
the device. Optional: "loss_mask", bool [n, seq_len], True where a token is a target (absent: all are). Each sample is
one packed sequence; attention is not reset at document borders, unless `document_end` says what ends a document.
The loss is the mean over targets of their cross-entropy in nats; the first token of a row is never a target.
"""

from typing import TYPE_CHECKING, Any

import torch
from composer.models import ComposerModel
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

from trainer.context.documents import logits_within_documents
from trainer.errors import ConfigError
from trainer.models import attention, hub
from trainer.models.cross_entropy import cross_entropy
from trainer.models.pythia import initialise, pythia_config
from trainer.models.settings import ModelConfig

if TYPE_CHECKING:
    from trainer.config import Config


class CausalLM(ComposerModel):
    """Wraps `model`, a Hugging Face causal LM, for Composer (`.model.save_pretrained(folder)` exports it)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        layer = type(layers_of(model)[0])
        model.fsdp_wrap_fn = lambda module: isinstance(module, layer)  # Composer asks; embeddings stay with the root
        self.document_end: int | None = None  # the id that ends a document, where attention is to end there too
        self.row_losses = torch.empty(0)  # [n]: of each row of the last microbatch, the mean over its targets

    def forward(self, batch: Any) -> Tensor:
        """Logits [n, seq_len, vocab_size] of a batch."""
        tokens = tokens_of(batch).long()
        if self.document_end is not None:
            return logits_within_documents(self.model, tokens, self.document_end)
        return self.model(input_ids=tokens, use_cache=False).logits

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """Mean cross-entropy over the targets of the batch (n x (seq_len - 1) without a mask), in nats."""
        losses, targets = _losses(outputs, batch), targets_of(batch)
        self.row_losses = (losses.detach().sum(1) / targets.sum(1).clamp(min=1)).float()
        return losses.sum() / targets.sum().clamp(min=1)

    def checkpoint_activations(self) -> None:
        """From now on each layer keeps its input alone, and computes the rest once more in the backward pass."""
        self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The decoder layers of a Hugging Face model: of its lists of modules the first, which holds all others."""
    return next(module for module in model.modules() if isinstance(module, nn.ModuleList))


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
    following = tokens_of(batch).long().roll(-1, dims=1)  # what stands last is compared with the first, and cut off
    losses = cross_entropy(logits.flatten(0, 1), following.flatten())
    return losses.view(following.shape)[:, :-1] * targets_of(batch)


def model_of_run(config: "Config", document_end: int | None) -> CausalLM:
    """The model as a run trains it; `document_end` is what ends a document, where attention is to end there too."""
    model = build_model(config.model, seq_len=config.seq_len, seed=config.seed)
    model.document_end = document_end
    if config.activation_checkpointing:
        model.checkpoint_activations()
    return model


def build_model(model: ModelConfig, *, seq_len: int, seed: int) -> CausalLM:
    """The model in float32, on the CPU: with its own weights, or random ones, the same for a `seed` on every rank.

    Raises ConfigError where it cannot be had.
    """
    hub.check(model, seq_len=seq_len)
    torch.manual_seed(seed)
    if model.is_preset and not model.pretrained:
        network = _from_config(model, pythia_config(model, seq_len=seq_len))
        initialise(network)
    elif model.pretrained:
        network = _with_weights(model, hub.hf_config(model))
    else:
        network = _from_config(model, hub.hf_config(model))
    return CausalLM(network.float())


def _from_config(model: ModelConfig, config: Any) -> nn.Module:
    implementation = _attention(model, config)
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation, trust_remote_code=False)


def _with_weights(model: ModelConfig, config: Any) -> nn.Module:
    try:
        network, report = AutoModelForCausalLM.from_pretrained(
            model.source,
            config=config,
            attn_implementation=_attention(model, config),
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # of safetensors, the hub's client, torch and transformers
        reason = hub.first_line(error)
        raise ConfigError([f"the weights of {model.source} cannot be loaded: {reason} @ $.model.pretrained"]) from None
    if missing := sorted(report["missing_keys"]):
        what = f"{len(missing)} of the model's, {missing[0]} first"
        raise ConfigError([f"the weights of {model.source} lack {what} @ $.model.pretrained"])
    return network


def _attention(model: ModelConfig, config: Any) -> str:
    """Transformers' name of the implementation: SDPA wherever the model knows it, unless another is asked for."""
    if model.attention == "flash_attention_2" and not torch.cuda.is_available():
        raise ConfigError(["flash_attention_2 needs a GPU, and there is none: take sdpa @ $.model.attention"])
    knows_sdpa = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._supports_sdpa
    if model.attention == "sdpa" or (model.attention == "auto" and knows_sdpa):
        attention.register()
        return attention.SDPA_CAUSAL
    return "eager" if model.attention == "auto" else model.attention
