"""datatrove's steps on the same documents; run by `run.py` with a Python that has datatrove. Prints JSON."""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.pipeline.filters.c4_filters import C4QualityFilter
from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter


def filtering(texts, filters):
    """Documents that one of the filters removes."""
    return sum(any(one.filter(Document(text=text, id="")) is not True for one in filters) for text in texts)


def near(texts):
    """Signatures, then documents that share a bucket with an earlier one, which datatrove's later stages join."""
    # 128 hashes in 16 buckets of 8, as many hashes as ours
    config = MinhashConfig(n_grams=5, num_buckets=16, hashes_per_bucket=8)
    step = MinhashDedupSignature(tempfile.mkdtemp(), config=config)
    group, first = list(range(len(texts))), {}
    for number, text in enumerate(texts):
        shingles = step.get_shingles(text)
        if not shingles.size:
            continue
        for bucket, signature in enumerate(step.get_signature(shingles)):
            earlier = first.setdefault((bucket, tuple(signature)), number)
            if earlier != number:
                low, high = sorted((group[earlier], group[number]))
                group = [low if one == high else one for one in group] if low != high else group
    return sum(one != number for number, one in enumerate(group))


def decontaminator(questions):
    NGramsDecontIndexer._requires_dependencies = []  # its own tasks are not used
    config = NGramsDecontConfig(n_grams=13)
    folder = tempfile.mkdtemp()
    indexer = NGramsDecontIndexer(folder, config=config)
    hashes = sorted({one for question in questions for one in indexer.compute_hashes(question)})
    np.array(hashes, dtype=config.hash_config.np_descr).tofile(Path(folder) / "gsm8k.index.hashes")
    return NGramsDecontFilter(folder, config=config)


def timed(function, *arguments):
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def main():
    given = json.loads(Path(sys.argv[1]).read_text())
    texts = given["texts"]
    steps = {
        "quality, gopher": (filtering, [GopherRepetitionFilter(), GopherQualityFilter()]),
        "quality, c4 and fineweb": (
            filtering,
            [C4QualityFilter(filter_no_terminal_punct=False), FineWebQualityFilter()],
        ),
        "decontaminate": (filtering, [decontaminator(given["questions"])]),
        "near duplicates": (near,),
    }
    results = []
    for name, (function, *arguments) in steps.items():
        try:
            filtering(texts[:2], *arguments) if arguments else near(texts[:2])  # what is loaded on first use
            seconds, removed = timed(function, texts, *arguments)
            results.append([name, seconds, removed])
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
