"""The systems that are compared, one module each: `VERSION`, `convert(request)` and `read_ids(request)`."""

from dataclasses import dataclass
from pathlib import Path

EOS = "<|endoftext|>"
SEQ_LEN = 2048


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to convert: files of one form, in order, the folder of the tokenizer, an empty folder for what comes out."""

    inputs: list[str]
    tokenizer: str
    out: str
    cores: int

    @property
    def out_files(self) -> list[Path]:
        return sorted(path for path in Path(self.out).rglob("*") if path.is_file())
