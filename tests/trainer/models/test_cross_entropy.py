"""The loss in parts against PyTorch's own, value and gradient."""

import pytest
import torch
import torch.nn.functional as F

from trainer.models import cross_entropy as module
from trainer.models.cross_entropy import cross_entropy


@pytest.mark.parametrize("part", [1, 300, 2**25], ids=["one row", "uneven parts", "one part"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_value_and_gradient_are_pytorch_s(monkeypatch: pytest.MonkeyPatch, part: int, dtype: torch.dtype) -> None:
    monkeypatch.setattr(module, "PART", part)
    generator = torch.Generator().manual_seed(1)
    logits = (10 * torch.randn(17, 100, generator=generator)).to(dtype)
    targets, weights = torch.randint(0, 100, (17,), generator=generator), torch.rand(17, generator=generator)
    weights[5] = 0.0
    ours, plain = (logits.clone().requires_grad_() for _ in range(2))
    losses = cross_entropy(ours, targets)
    expected = F.cross_entropy(plain.float(), targets, reduction="none")
    assert losses.dtype == torch.float32
    assert torch.allclose(losses, expected, rtol=1e-6, atol=1e-6)
    (losses * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad.dtype == dtype
    assert torch.allclose(ours.grad, plain.grad, rtol=1e-6 if dtype == torch.float32 else 1e-2, atol=1e-6)
    assert not ours.grad[5].any()


def test_logits_too_big_for_their_exponential() -> None:
    logits = torch.tensor([[1e4, 0.0], [-1e4, 0.0]], requires_grad=True)
    losses = cross_entropy(logits, torch.tensor([1, 1]))
    assert losses.tolist() == [1e4, 0.0]
    losses.sum().backward()
    assert logits.grad.tolist() == [[1.0, -1.0], [0.0, 0.0]]
