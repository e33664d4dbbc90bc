"""Where a run computes: on GPUs or on the CPU."""

import torch

from trainer.config import Config
from trainer.errors import ConfigError


def device_of(config: Config) -> str:
    """ "gpu" or "cpu", as Composer calls them; `auto` is a GPU where there is one. Raises ConfigError."""
    has_gpu = torch.cuda.is_available()
    if config.device == "gpu" and not has_gpu:
        raise ConfigError(["torch sees no GPU: take device=cpu, or look at nvidia-smi @ $.device"])
    device = config.device if config.device != "auto" else ("gpu" if has_gpu else "cpu")
    if device == "cpu" and config.precision == "amp_bf16":
        raise ConfigError(["Composer computes in bf16 on GPUs only: take precision=fp32 @ $.precision"])
    return device
