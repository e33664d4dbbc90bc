"""The `model` section of a configuration. Imports neither torch nor transformers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from trainer.section import Section

PRESETS: Mapping[str, Mapping[str, int]] = {
    "tiny": {"n_layers": 2, "d_model": 64, "n_heads": 4},
    "pythia-70m": {"n_layers": 6, "d_model": 512, "n_heads": 8},
    "pythia-160m": {"n_layers": 12, "d_model": 768, "n_heads": 12},
    "pythia-410m": {"n_layers": 24, "d_model": 1024, "n_heads": 16},
    "pythia-1b": {"n_layers": 16, "d_model": 2048, "n_heads": 8},
}
PYTHIA_VOCAB_SIZE = 50_304  # 50,277 ids of the GPT-CausalLM tokenizer, padded to a multiple of 128


class ModelConfig(Section):
    """A GPT-CausalLM: a preset by `name`, any of whose sizes can be replaced. Also written as just the name."""

    name: Literal["tiny", "pythia-70m", "pythia-160m", "pythia-410m", "pythia-1b"]
    n_layers: PositiveInt
    d_model: PositiveInt
    n_heads: PositiveInt
    d_ff: PositiveInt
    vocab_size: Annotated[int, Field(gt=0, multiple_of=128)] = PYTHIA_VOCAB_SIZE

    @property
    def num_parameters(self) -> int:
        """Parameters of the model, by arithmetic: two embeddings, the layers and the last norm."""
        attention = 4 * self.d_model**2 + 4 * self.d_model
        feed_forward = 2 * self.d_model * self.d_ff + self.d_ff + self.d_model
        layer = attention + feed_forward + 4 * self.d_model
        return 2 * self.vocab_size * self.d_model + self.n_layers * layer + 2 * self.d_model

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        given = {"name": data} if isinstance(data, str) else data
        if not isinstance(given, Mapping):
            return given
        filled = {**PRESETS.get(str(given.get("name")), PRESETS["tiny"]), **given}
        if isinstance(filled["d_model"], int):
            filled.setdefault("d_ff", 4 * filled["d_model"])
        return filled
