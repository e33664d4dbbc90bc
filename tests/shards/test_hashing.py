"""The identity of files."""

from pathlib import Path

import pytest

from shards.errors import CorpusError
from shards.hashing import identify


def test_identity(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    found = identify(tmp_path / "a")
    assert found.bytes == 3
    assert found.sha256.startswith("ba7816bf")
    with pytest.raises(CorpusError, match="cannot read"):
        identify(tmp_path / "absent")
