"""All randomness of the project's order: counter-based, keyed by the user's seed and a named domain.

A key is a BLAKE2b hash of (data seed, domain, names); random words are the raw 64-bit outputs of Philox4x64-10 (Salmon
et al., SC 2011) under that key, from a counter that the caller names. Nothing here has state, nothing is ever `seed +
epoch`, and no NumPy distribution or shuffle is used: their streams may change between releases, Philox's raw stream may
not.
"""

import json
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

DOMAINS = ("slots", "halves", "shards", "samples", "parts", "turns", "groups")


def derive_key(data_seed: int, domain: str, *names: str) -> int:
    """A 128-bit key for `domain`, one of `DOMAINS`, and the names within it."""
    assert domain in DOMAINS
    text = json.dumps([data_seed, domain, *names], ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(blake2b(text.encode(), digest_size=16, person=b"switchpoint").digest(), "little")


def random_words(key: int, counter: int, num_words: int) -> NDArray[np.uint64]:
    """`num_words` raw words under `key`; counters (≥ 0) name streams that never overlap (each 2^64 blocks long)."""
    words: NDArray[np.uint64] = np.random.Philox(key=key, counter=counter << 64).random_raw(num_words)
    return words
