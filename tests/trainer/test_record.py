"""The metrics file and its digests."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from trainer.record import MetricsFile, digest_rows, shares


def test_the_digest_is_what_the_contract_says() -> None:
    rows = np.array([[1, 2, 65_535], [7, 0, 3]], np.uint16)
    each = b"".join(hashlib.blake2b(np.array(row, "<u4").tobytes(), digest_size=8).digest() for row in rows.tolist())
    assert digest_rows(rows) == hashlib.blake2b(each, digest_size=16).hexdigest()


def test_the_digest_sees_order_and_content_but_not_the_integer_type() -> None:
    rows = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert digest_rows(rows) == digest_rows(rows.astype(np.int64))
    assert digest_rows(rows) != digest_rows(rows[::-1])
    changed = rows.copy()
    changed[2, 3] += 1
    assert digest_rows(rows) != digest_rows(changed)


def test_lines_are_appended_and_a_torn_one_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "metrics.jsonl"
    MetricsFile(path).write({"step": 0})
    with path.open("a") as file:
        file.write('{"step": 1, "lo')
    MetricsFile(path).write({"step": 1})
    assert path.read_text().split("\n") == ['{"step": 0}', '{"step": 1, "lo', '{"step": 1}', ""]
    MetricsFile(path).write({"step": 2})
    assert json.loads(path.read_text().splitlines()[-1]) == {"step": 2}


def test_no_file_is_no_error() -> None:
    MetricsFile(None).write({"step": 0})


def test_shares_of_nothing_are_zero() -> None:
    assert shares({"c4": 3, "code": 1}) == {"c4": 0.75, "code": 0.25}
    assert shares({"c4": 0}) == {"c4": 0.0}
    assert sum(shares({"a": 1, "b": 1, "c": 1}).values()) == pytest.approx(1)
