"""Packing loses nothing, adds only end-of-text tokens, and keeps the order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shards.packing import RowPacker, end_documents

DOCUMENTS = st.lists(st.lists(st.integers(1, 70_000), max_size=40), max_size=30)


@given(DOCUMENTS, st.integers(1, 9), st.integers(1, 5), st.data())
def test_blocks_and_rest_are_the_stream(
    documents: list[list[int]], seq_len: int, num_rows: int, data: st.DataObject
) -> None:
    """Whatever the batches in which documents come."""
    stream = [token for document in documents for token in [*document, 0]]
    packer = RowPacker(seq_len=seq_len, num_rows=num_rows, dtype="uint32")
    packed: list[int] = []
    while documents:
        size = data.draw(st.integers(1, len(documents)))
        batch, documents = documents[:size], documents[size:]
        ids = np.array([token for document in batch for token in document], np.uint32)
        offsets = np.cumsum([0, *map(len, batch)])
        for block in packer.add(end_documents(ids, offsets, 0, "uint32")):
            assert block.shape == (num_rows, seq_len)
            packed += block.ravel().tolist()
    rest = packer.finish().tolist()
    assert len(rest) < num_rows * seq_len
    assert packed + rest == stream


def test_end_documents_by_hand() -> None:
    stream = end_documents(np.array([5, 6, 7], np.uint32), np.array([0, 2, 2, 3]), 9, "uint16")
    assert stream.tolist() == [5, 6, 9, 9, 7, 9]
    assert stream.dtype == np.uint16


def test_nothing_in_nothing_out() -> None:
    assert end_documents(np.empty(0, np.uint32), np.zeros(1, np.int64), 0, "uint16").size == 0
