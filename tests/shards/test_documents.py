"""Writing the document index: the same bytes however documents arrive. What they say: tests/mixer/test_documents.py."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.documents import BLOCK_DOCUMENTS, DocumentsWriter, open_index
from shards.errors import CorpusError

DOCUMENTS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 900)), max_size=30)


@given(DOCUMENTS, st.lists(st.integers(0, 30)), st.integers(1, 7))
def test_batches_leave_no_trace(documents: list[tuple[int, int]], cuts: list[int], block_documents: int) -> None:
    gaps, lengths = np.array(documents, np.int64).reshape(-1, 2).T
    whole, batched = DocumentsWriter(block_documents), DocumentsWriter(block_documents)
    whole.add(np.cumsum(gaps), lengths)
    cuts = sorted(cuts)
    batches = zip(np.split(np.cumsum(gaps), cuts), np.split(lengths, cuts), strict=True)
    for records, tokens in batches:
        batched.add(records.tolist(), tokens)
    assert whole.finish() == batched.finish()


def test_a_piece_is_its_table_and_its_blocks() -> None:
    writer = DocumentsWriter()
    writer.add(np.arange(1, BLOCK_DOCUMENTS + 2), np.full(BLOCK_DOCUMENTS + 1, 7))
    count, table, *blocks = writer.finish()
    assert np.frombuffer(count, "<i8").tolist() == [2]
    assert np.frombuffer(table, "<i8").reshape(-1, 5).tolist() == [
        [len(blocks[0]), 7 * BLOCK_DOCUMENTS, BLOCK_DOCUMENTS, BLOCK_DOCUMENTS, BLOCK_DOCUMENTS],
        [len(blocks[1]), 7, 1, 1, 1],
    ]
    assert DocumentsWriter().finish() == [bytes(8), b""]


def test_errors_are_those_of_this_package(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no corpus\.json"):
        open_index(tmp_path)
