"""Attention as the kernels want it: causal, without a mask, also where torch.compile traces the model.

Transformers leaves the mask of a causal model out for SDPA, so that the flash kernel can run, but not while
torch.compile traces (it cannot look into positions there for the borders of packed rows): it makes one of [seq_len,
seq_len], and the kernel is a slower one. `sdpa_causal` is SDPA without a mask, but for sliding windows and for what is
given as `attention_mask`; borders within rows are told by a mask [n, 1, seq_len, seq_len] and never by positions.
"""

from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SDPA_CAUSAL = "sdpa_causal"


def _mask(*args: Any, **kwargs: Any) -> Any:
    """Nothing, where no mask was given and no window slides; otherwise transformers' own."""
    if kwargs.get("attention_mask") is None and kwargs.get("local_size") is None:
        return None
    return sdpa_mask(*args, **kwargs)


def register() -> None:
    """Make `sdpa_causal` known to transformers."""
    AttentionInterface.register(SDPA_CAUSAL, sdpa_attention_forward)
    AttentionMaskInterface.register(SDPA_CAUSAL, _mask)
