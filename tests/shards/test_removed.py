"""What curation removes is left out and counted by step, in the whole source's order, whatever the units."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import shards.curation
from mixer.documents import open_documents
from shards.conversion import Conversion, convert
from shards.errors import MismatchError
from tests.shards.conftest import all_rows, make_texts, write_jsonl

Make = Callable[..., Conversion]


@pytest.fixture
def curation(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """One that removes the second and the last record of every unit, and one that is no document."""
    asked: list[int] = []

    def read_removed(folder: Path, unit_number: int) -> SimpleNamespace:
        asked.append(unit_number)
        return SimpleNamespace(records=np.array([2, 5, 10**6]), steps=np.array([1, 0, 0], np.uint8))

    monkeypatch.setattr(shards.curation, "read_removed", read_removed)
    monkeypatch.setattr(shards.curation, "curate", lambda *args, **kwargs: asked.append(-1))
    monkeypatch.setattr(shards.curation, "copy_reports", lambda folder, target: None)
    return SimpleNamespace(step_names=("length", "copies"), parameters=lambda: {"steps": 2}, asked=asked)


def test_removed_records_are_left_out(make_conversion: Make, tmp_path: Path, curation: SimpleNamespace) -> None:
    texts = make_texts(40, seed=1)
    path = write_jsonl(tmp_path / "in" / "a.jsonl", texts)
    conversion = make_conversion(path, curation=curation, holdout=0)
    (train,) = convert(conversion, workers=1).manifests
    assert curation.asked == [-1, 0]
    assert train.removed == {"copies": 1, "length": 1}
    assert (train.records, train.documents, train.parameters["curation"]) == (40, 38, {"steps": 2})
    index = open_documents(tmp_path / "out" / "c4" / "train")
    assert [index.document(n).record for n in range(38)] == [n for n in range(1, 41) if n not in (2, 5)]
    kept = write_jsonl(tmp_path / "kept" / "a.jsonl", [text for n, text in enumerate(texts, 1) if n not in (2, 5)])
    convert(make_conversion(kept, holdout=0, out=str(tmp_path / "other")), workers=1)
    assert np.array_equal(all_rows(tmp_path / "out/c4/train"), all_rows(tmp_path / "other/c4/train"))
    with pytest.raises(MismatchError, match=r"curation is {'steps': 2} there, None asked"):
        convert(make_conversion(path, holdout=0), workers=1)


def test_records_are_those_of_the_unit(make_conversion: Make, tmp_path: Path, curation: SimpleNamespace) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", make_texts(60, seed=1))
    unit_bytes = path.stat().st_size // 3 + 1
    (train,) = convert(make_conversion(path, curation=curation, holdout=0, unit_bytes=unit_bytes), workers=1).manifests
    assert curation.asked == [-1, 0, 1, 2]
    assert train.removed == {"copies": 3, "length": 3}
    assert train.documents == 54
