"""Corpora as they are stored: MDS shards in a local folder, which may be a cache of a remote one.

    index.py      what a folder holds, by its index.json and corpus.json
    mapping.py    a shard's rows, mapped from its file
    integrity.py  whether a file is what it should be, and remembering that it is
    remote.py     one file from a remote folder
    locks.py      which process of a machine makes a shard ready; nothing stays locked when it dies
    cache.py      making shards ready: there, fetched if need be, and verified
    budget.py     room for what is fetched, within a limit of bytes
    upcoming.py   which shards the plan needs next
    ahead.py      making them ready before they are needed

What a reader is given is verified: it has the hash that the index says, or it is not given.
"""

from mixer.storage.index import StoredCorpus, open_corpus

__all__ = ["StoredCorpus", "open_corpus"]
