"""The sections `model` and `fsdp`: what is refused, in its place, before anything is read."""

from typing import Any

import pytest

from tests.trainer.test_loading import GOOD
from trainer.config import Config
from trainer.models.settings import problems


def config_of(**changes: Any) -> Config:
    return Config.model_validate({**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": {"name": "tiny", "n_heads": 3}}, "must divide d_model (64), found 3 @ $.model.n_heads"),
        ({"model": {"name": "tiny", "pretrained": True}}, "there are no weights of this model"),
        ({"model": {"name": "pythia-70m", "pretrained": True, "n_layers": 5}},
         "the weights are of 6, found 5 @ $.model.n_layers"),
        ({"model": {"name": "./folder", "n_layers": 5}}, "give overrides @ $.model.n_layers"),
        ({"model": {"name": "a/b", "pretrained": True, "overrides": {"x": 1}}}, "@ $.model.overrides"),
        ({"model": {"name": "tiny", "overrides": {"x": 1}}}, "@ $.model.overrides"),
        ({"model": {"name": "tiny", "attention": "flash_attention_2"}, "precision": "amp_bf16"},
         "needs the package flash-attn, which is not installed"),
        ({"fsdp": {}, "device": "cpu"}, "over GPUs only (device: gpu) @ $.fsdp"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_place(changes: dict[str, Any], expected: str) -> None:
    (problem,) = problems(config_of(**changes))
    assert expected in problem


@pytest.mark.parametrize("model", ["pythia-1b", {"name": "pythia-70m", "pretrained": True}, "owner/name", "./folder"])
def test_what_fits(model: Any) -> None:
    assert list(problems(config_of(model=model, fsdp={"sharding": "hybrid"}, device="gpu", precision="amp_bf16"))) == []


def test_composer_is_told_how_to_shard() -> None:
    config = config_of(fsdp={"sharding": "grad_op", "mixed_precision": "pure", "state": "sharded"})
    assert config.fsdp.for_composer()["fsdp"] == {
        "sharding_strategy": "SHARD_GRAD_OP",
        "mixed_precision": "PURE",
        "state_dict_type": "sharded",
        "activation_checkpointing": False,
    }
