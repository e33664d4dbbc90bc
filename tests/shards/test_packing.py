"""Packing loses nothing, adds only end-of-text tokens, and keeps the order."""

import numpy as np

from shards.packing import end_documents


def test_end_documents_by_hand() -> None:
    stream = end_documents(np.array([5, 6, 7], np.uint32), np.array([0, 2, 2, 3]), 9, "uint16")
    assert stream.tolist() == [5, 6, 9, 9, 7, 9]
    assert stream.dtype == np.uint16


def test_nothing_in_nothing_out() -> None:
    assert end_documents(np.empty(0, np.uint32), np.zeros(1, np.int64), 0, "uint16").size == 0
