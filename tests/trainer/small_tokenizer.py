"""A small tokenizer in Hugging Face's form, whose ids fit the models of the tests."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = "the quick brown fox jumps over the lazy dog 0123456789 ? : . , + - = ABCDQA"


def write_tokenizer(folder: Path, *, num_ids: int = 200) -> Path:
    """Write `folder`: at most `num_ids` ids, `<|endoftext|>` the first."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=num_ids, special_tokens=["<|endoftext|>"]))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    return folder
