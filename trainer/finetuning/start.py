"""Weights to start from: those of a checkpoint, without its optimizer, its step and its position in the data."""

import logging
from pathlib import Path

from torch import nn

from trainer.checkpoints.reading import read_state
from trainer.errors import ResumeError

log = logging.getLogger(__name__)


def load_weights(model: nn.Module, path: Path) -> None:
    """Give `model` the weights in `path`, such as step-00061035.pt; raises ResumeError where they are another model's.

    Tensors stay on disk until they are copied. Nothing in the file is run (`trainer.checkpoints.reading`).
    """
    try:
        state = read_state(path)["model"]
    except (OSError, KeyError, ResumeError) as error:
        raise ResumeError(f"load_weights_from must name a checkpoint like step-00001000.pt, found {path}") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ResumeError(f"{path} holds another model: {' '.join(str(error).split())[:300]}") from error
    log.info("weights from %s", path)
