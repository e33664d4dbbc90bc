"""Cross-entropy in float32 of logits in any type, without a float32 copy of all of them.

The logits of a microbatch are its largest tensor (16 x 2,048 tokens x 50,304 ids: 3.3 GB in bf16). PyTorch's own
function would hold them in float32 twice more. Here a part of the tokens is widened at a time, in the forward pass for
the log-softmax and once more in the backward pass for the softmax; nothing of their size is kept between them. On a GPU
memory bounds the loss, which is a good part of a small model's step, so passes over the logits are few.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PART = 2**25  # logits that are widened at a time: 128 MiB in float32


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(logits, targets)
        parts = _parts(logits, targets[:, None])
        found = [part.log_softmax(-1, dtype=torch.float32).gather(1, target) for part, target in parts]
        return -torch.cat(found).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """(softmax - one-hot) x grad, in the type of the logits."""
        logits, targets = ctx.saved_tensors
        result = torch.empty_like(logits)
        for part, target, weight, into in _parts(logits, targets[:, None], grad[:, None], result):
            softmax = part.softmax(-1, dtype=torch.float32)
            softmax.scatter_add_(1, target, -torch.ones_like(weight))
            torch.mul(softmax, weight, out=into)
        return result, None


def _parts(logits: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same tokens of each: [m, …], m x vocab_size at most `PART`, in order."""
    size = max(1, PART // logits.shape[1])
    return zip(*(tensor.split(size) for tensor in (logits, *others)), strict=True)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(logits)[targets], float32 [n], of logits [n, vocab_size] and targets [n] int64. Not twice
    differentiable.
    """
    return _CrossEntropy.apply(logits, targets)
