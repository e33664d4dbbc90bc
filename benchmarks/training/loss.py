"""The loss in parts beside PyTorch's own function, forward and backward: time, and memory beside the logits.

    python benchmarks/training/loss.py                      # on a GPU: 16 rows of 2,048 tokens, 50,304 ids, bf16
    python benchmarks/training/loss.py --rows 1 --seq-len 64

On a CPU no memory is told.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainer.models.cross_entropy import cross_entropy

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "in parts": lambda logits, targets: cross_entropy(logits, targets).mean(),
    "PyTorch, float32": lambda logits, targets: F.cross_entropy(logits.float(), targets),
    "PyTorch, bf16": F.cross_entropy,
}


def main() -> None:
    options = _parser().parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = (options.rows * options.seq_len, options.vocab_size)
    logits = torch.randn(shape, device=device, dtype=torch.bfloat16).requires_grad_()
    targets = torch.randint(0, options.vocab_size, shape[:1], device=device)
    print(f"{logits.nbytes / 1e9:.2f} GB of logits, as much of their gradient\n")
    print("| loss | ms | peak memory beside both | value |\n|---|---|---|---|")
    for name, loss in LOSSES.items():
        print(_row(name, loss, logits, targets, repeats=options.repeats), flush=True)


def _row(name: str, loss: Loss, logits: Tensor, targets: Tensor, *, repeats: int) -> str:
    seconds, value = [], 0.0
    for _ in range(repeats + 1):  # the first one warms up
        logits.grad = None
        begin = time.perf_counter()
        result = loss(logits, targets)
        result.backward()
        value = result.item()  # waits for the GPU
        seconds.append(time.perf_counter() - begin)
        del result
    return f"| {name} | {min(seconds[1:]) * 1e3:.1f} | {_memory(loss, logits, targets)} | {value:.5f} |"


def _memory(loss: Loss, logits: Tensor, targets: Tensor) -> str:
    """At most at any time, without the logits and their gradient."""
    if logits.device.type == "cpu":
        return "–"
    logits.grad = None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss(logits, targets).backward()
    return f"{(torch.cuda.max_memory_allocated() - before - logits.nbytes) / 1e9:.2f} GB"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--vocab-size", type=int, default=50_304)
    parser.add_argument("--repeats", type=int, default=5)
    return parser


if __name__ == "__main__":
    main()
