"""Tokenizers: from a name to exact token ids, fast.

Token ids are those of Hugging Face's `tokenizers` without special tokens added, always. They are computed
by gigatoken where it gives the same ids on a check sample, and by `tokenizers` otherwise, with a warning that says
what it costs. Which of the two is decided once a conversion, by `choose_engine`, and then part of the `Tokenizer` that
workers are given. The sample is documents of the corpus, texts that are hard for tokenizers, and the tokenizer's own
added tokens in odd company; so what it cannot notice is a rare text that no rule of the tokenizer names.

A tokenizer's identity is the SHA-256 of its `tokenizer.json`. The end-of-text token is the `eos_token` of
the `tokenizer_config.json` beside it, else `<|endoftext|>`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import TokenizerError

__all__ = ["CHECK_DOCUMENTS", "Encoder", "Tokenizer", "choose_engine", "decode", "find_tokenizer"]

DEFAULT_EOS = "<|endoftext|>"

#: What every tokenizer is checked on, besides documents of the corpus itself.
CHECK_DOCUMENTS = (
    "The quick brown fox can't jump over 13 dogs; it's 3.14 o'clock.\n\n\tdef f(x):\n        return x ** 2\n",
    "Füße, naïve café, e\u0301 decomposed, ﬁ ligature, Ａ wide, İstanbul, ǅ",
    "Григорианският календар 漢字かな交じり文 한국어 العربية हिन्दी ไทย",
    "👩‍👩‍👧‍👦 🏳️‍🌈 \u200b\u200d\ufeff\u00a0\u2028\u2029\x00\x1b[0m\r\n  \r\n   trailing   ",
    "<|endoftext|> <|padding|> inside   text" + " " * 40 + "\n" * 20 + "\t" * 7 + "aaaaaaaa" * 40 + "１２３",
)


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A tokenizer found and looked into, not yet loaded for work.

    Attributes:
        source: the name or folder that was asked for.
        path: the `tokenizer.json` on this machine.
        sha256: hash of that file.
        eos: end-of-text token, as text.
        eos_id: its id.
        vocab_size: one more than the largest id.
        engine: `gigatoken` or `tokenizers`; both give the same ids.
    """

    source: str
    path: str
    sha256: str
    eos: str
    eos_id: int
    vocab_size: int
    engine: str = "tokenizers"

    @property
    def dtype(self) -> str:
        """NumPy name of the smallest type that shards use for these ids."""
        return "uint16" if self.vocab_size <= 1 << 16 else "uint32"


def find_tokenizer(source: str) -> Tokenizer:
    """The tokenizer at `source`: a folder with `tokenizer.json`, that file, or a name on the hub.

    Raises:
        TokenizerError: there is none, it cannot be read, or it has no end-of-text token.
    """
    path, config = _locate(source)
    data = _read(path)
    loaded = _load_reference(data, path)
    eos = _eos(config) or DEFAULT_EOS
    eos_id = loaded.token_to_id(eos)
    if eos_id is None:
        raise TokenizerError(
            f"tokenizer {source} has no token {eos!r} to end documents with; name it as eos_token in the "
            "tokenizer_config.json beside tokenizer.json",
            path=str(path),
        )
    return Tokenizer(
        source=source,
        path=str(path),
        sha256=hashlib.sha256(data).hexdigest(),
        eos=eos,
        eos_id=eos_id,
        vocab_size=max(loaded.get_vocab(with_added_tokens=True).values()) + 1,
    )


def _locate(source: str) -> tuple[Path, Path | None]:
    """`tokenizer.json` and, if there is one, the `tokenizer_config.json` beside it."""
    path = Path(source)
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.is_file():
        config = path.with_name("tokenizer_config.json")
        return path.absolute(), config if config.is_file() else None
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or Path(source).exists():
        raise TokenizerError(f"no tokenizer at {source}: expected a folder with tokenizer.json, or that file")
    return _download(source)


def _download(name: str) -> tuple[Path, Path | None]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    endpoint = os.environ.get("HF_ENDPOINT")
    hub_log = logging.getLogger("huggingface_hub")  # its retries would bury the one line that matters
    level = hub_log.level
    hub_log.setLevel(logging.CRITICAL)
    try:
        path = Path(hf_hub_download(name, "tokenizer.json", endpoint=endpoint))
        try:
            return path, Path(hf_hub_download(name, "tokenizer_config.json", endpoint=endpoint))
        except EntryNotFoundError:
            return path, None
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TokenizerError(
            f"no tokenizer {name!r}: neither a folder or file here nor to be had from the hub ({reason})"
        ) from None
    finally:
        hub_log.setLevel(level)


def _path_here(tokenizer: Tokenizer) -> Path:
    """The file of `tokenizer` on this machine, which on a cluster may be another than the one it was found on."""
    path = Path(tokenizer.path)
    return path if path.exists() else _locate(tokenizer.source)[0]


def _eos(config: Path | None) -> str | None:
    if config is None:
        return None
    try:
        token = json.loads(config.read_bytes()).get("eos_token")
    except (OSError, ValueError, AttributeError) as error:
        raise TokenizerError(f"cannot read {config}: {error}", path=str(config)) from None
    return token.get("content") if isinstance(token, dict) else token


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read {path}: {error.strerror or error}", path=str(path)) from None


def _load_reference(data: bytes, path: Path) -> Any:
    """The `tokenizers.Tokenizer` of `data`, without truncation or padding."""
    import tokenizers

    try:
        loaded = tokenizers.Tokenizer.from_str(data.decode())
    except Exception as error:  # tokenizers raises plain Exception
        raise TokenizerError(f"{path} is no tokenizer.json: {error}", path=str(path)) from None
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


class Encoder:
    """Encodes batches of documents. One a process, kept over all its work: it gets faster as it goes.

    Raises:
        TokenizerError: the file is no longer the one that `tokenizer` was made from.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        data = _read(_path_here(tokenizer))
        if hashlib.sha256(data).hexdigest() != tokenizer.sha256:
            raise TokenizerError(f"{tokenizer.path} has changed since this conversion began", path=tokenizer.path)
        self._gigatoken: Any = None
        if tokenizer.engine == "gigatoken":
            import gigatoken

            self._gigatoken = gigatoken.Tokenizer.from_json(data)
        else:
            self._reference = _load_reference(data, Path(tokenizer.path))

    def encode(self, documents: Sequence[bytes]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Token ids of `documents` (UTF-8), end to end, and their borders.

        Returns:
            ids `[num_tokens]` and offsets `[len(documents) + 1]`; document i is ids[offsets[i]:offsets[i+1]].
        """
        if self._gigatoken is not None:
            layout = self._gigatoken.encode_batch(list(documents), parallel=False).layout
            return np.asarray(layout.content.data), np.asarray(layout.offsets.data)
        texts = [document.decode() for document in documents]
        rows = [encoding.ids for encoding in self._reference.encode_batch(texts, add_special_tokens=False)]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return np.array([token for row in rows for token in row], np.uint32), offsets

    def encode_examples(
        self, documents: Sequence[bytes], prompts: Sequence[int]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
        """What `encode` gives, and how many tokens of each document lie wholly in its prompt `[len(documents)]`.

        `prompts` are lengths in characters. For this the engine must be `tokenizers`, which knows where a token stands.
        """
        self._reference.post_processor = None  # it adds nothing here, but leaves white space out of where tokens stand
        ids, offsets = self.encode(documents)
        texts = [document.decode() for document in documents]
        encodings = self._reference.encode_batch(texts, add_special_tokens=False)
        counts = [
            next((number for number, (_, end) in enumerate(encoding.offsets) if end > prompt), len(encoding.ids))
            for encoding, prompt in zip(encodings, prompts, strict=True)
        ]
        return ids, offsets, np.array(counts, np.int64)


def choose_engine(tokenizer: Tokenizer, documents: Sequence[bytes]) -> Tokenizer:
    """`tokenizer` with the engine to use: gigatoken if it agrees with the reference on a check sample.

    The sample is `CHECK_DOCUMENTS`, the tokenizer's added tokens, and `documents` (UTF-8, some of the corpus). If it is
    not gigatoken, a warning says why and what it costs, measured on the sample.
    """
    sample = [text.encode() for text in (*CHECK_DOCUMENTS, *_added_tokens(tokenizer))] + list(documents)
    slow = replace(tokenizer, engine="tokenizers")
    expected, seconds = _timed(slow, sample)
    megabytes = sum(map(len, sample)) / 1e6
    cost = f"tokenizers for {tokenizer.source}, {megabytes / seconds:.2g} MB/s on a check sample here"
    try:
        found, fast_seconds = _timed(replace(tokenizer, engine="gigatoken"), sample)
    except (TokenizerError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        reason = " ".join(str(error).split("\nLocation:")[0].split())
        _warn(f"gigatoken cannot load it ({reason}); using {cost}; where it can, it is 10 times as fast and more")
        return slow
    num_other = sum(ours != theirs for ours, theirs in zip(found, expected, strict=True))
    if not num_other:
        return replace(tokenizer, engine="gigatoken")
    _warn(
        f"gigatoken gives other ids for {num_other} of {len(sample)} documents; using {cost}, where gigatoken did "
        f"{megabytes / fast_seconds:.2g} MB/s ({seconds / fast_seconds:.1f} times as fast)"
    )
    return slow


def _warn(text: str) -> None:
    logging.getLogger(__name__).warning(text)


def _timed(tokenizer: Tokenizer, sample: Sequence[bytes]) -> tuple[list[list[int]], float]:
    """Ids of each document of `sample` by the engine of `tokenizer`, and how many seconds that took once loaded."""
    encoder = Encoder(tokenizer)
    start = time.perf_counter()
    ids, offsets = encoder.encode(sample)
    seconds = time.perf_counter() - start
    return [ids[start:end].tolist() for start, end in pairwise(offsets.tolist())], max(seconds, 1e-6)


def _added_tokens(tokenizer: Tokenizer) -> list[str]:
    """A text for each added token in which it stands alone, within a word, at borders of white space, and twice."""
    loaded = _load_reference(_read(_path_here(tokenizer)), Path(tokenizer.path))
    added = sorted(token.content for token in loaded.get_added_tokens_decoder().values())
    return [f"{text} a{text}b {text}{text}\n{text} \n a {text} b {text.upper()} {text.lower()}" for text in added[:256]]


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of `ids`, special tokens included."""
    loaded = _load_reference(_read(_path_here(tokenizer)), Path(tokenizer.path))
    return str(loaded.decode(list(ids), skip_special_tokens=False))
