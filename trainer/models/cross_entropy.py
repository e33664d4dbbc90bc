"""Cross-entropy in float32 of logits in any type, without a float32 copy of all of them.

The logits of a microbatch are its largest tensor (16 x 2,048 tokens x 50,304 ids: 3.3 GB in bf16). PyTorch's own
function would hold them in float32 twice more. Here a part of the tokens is widened at a time, in the forward pass for
log-sum-exp and once more in the backward pass for the softmax; what is kept between them is one number a token.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PART = 2**25  # logits that are widened at a time: 128 MiB in float32


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        log_sums = torch.cat([part.float().logsumexp(-1) for part in _parts(logits)])
        ctx.save_for_backward(logits, targets, log_sums)
        return log_sums - logits.gather(1, targets[:, None]).squeeze(1).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """(softmax - one-hot) x grad, in the type of the logits."""
        logits, targets, log_sums = ctx.saved_tensors
        result = torch.empty_like(logits)
        parts = zip(*map(_parts, (result, logits)), strict=True)
        start = 0
        for into, part in parts:
            here = slice(start, start := start + len(part))
            softmax = part.float() - log_sums[here, None]
            softmax.exp_().scatter_add_(1, targets[here, None], -torch.ones_like(softmax[:, :1]))
            into.copy_(softmax.mul_(grad[here, None]))
        return result, None


def _parts(logits: Tensor) -> tuple[Tensor, ...]:
    return logits.split(max(1, PART // logits.shape[1]))


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(logits)[targets], float32 [n], of logits [n, vocab_size] and targets [n] int64. Not twice
    differentiable.
    """
    return _CrossEntropy.apply(logits, targets)
