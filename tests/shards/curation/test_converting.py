"""A corpus that is converted with a curation: what goes is in no sample, and is counted by name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shards.conversion import Conversion, convert
from shards.curation import REPORT, read_summary
from shards.errors import MismatchError
from tests.shards.conftest import tree_hashes
from tests.shards.curation.corpus import make_curation, write_corpus

MakeConversion = Callable[..., Conversion]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_goes_is_counted_by_name_and_reported(
    make_conversion: MakeConversion, tmp_path: Path, workers: int
) -> None:
    write_corpus(tmp_path / "sources")
    curation = make_curation(tmp_path)
    settings = {"holdout": 0, "unit_bytes": 20_000}
    convert(make_conversion(tmp_path / "sources", curation=curation, **settings), workers=workers)
    (manifest,) = convert(make_conversion(tmp_path / "sources", curation=curation, **settings)).manifests
    assert manifest.removed == {
        "length": 2,
        "quality.hash_ratio": 0,
        "quality.top_2_gram": 0,
        "decontaminate": 5,
        "exact_duplicates": 12,
        "near_duplicates": 10,
    }
    assert manifest.documents == 210
    folder = tmp_path / "out" / manifest.name
    assert read_summary(folder)["removed"] == manifest.removed
    assert len((folder / REPORT).read_text().splitlines()) == 5
    before = tree_hashes(folder)
    with pytest.raises(MismatchError):
        convert(make_conversion(tmp_path / "sources", **settings))
    assert tree_hashes(folder) == before
