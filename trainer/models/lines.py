"""What is told of the model before training: its size, what training costs, and the memory that it takes."""

from collections.abc import Iterator

from trainer.config import Config
from trainer.models.size import flops_per_token, memory, shape_of


def lines(config: Config, num_tokens: int) -> Iterator[str]:
    """The model, what training costs, and an estimate of the memory of one device (as if the run had one)."""
    model, shape = config.model, shape_of(config.model)
    yield (
        f"model           {model.name}: {shape.num_parameters:,} parameters ({shape.n_layers} layers, "
        f"d_model {shape.d_model}, {shape.n_heads} heads, vocabulary {shape.vocab_size:,})"
    )
    flops = flops_per_token(model, config.seq_len)
    yield f"FLOPs           {flops:.3g} a token, {flops * num_tokens:.3g} in the run"
    microbatch_size = config.device_train_microbatch_size or config.global_batch_size
    needed = memory(
        model,
        seq_len=config.seq_len,
        microbatch_size=microbatch_size,
        is_bf16=config.precision == "amp_bf16",
        activation_checkpointing=config.activation_checkpointing,
    )
    parts = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in needed.parts().items())
    yield f"memory          about {needed.total / 1e9:.2f} GB at {microbatch_size:,} samples at a time ({parts})"
