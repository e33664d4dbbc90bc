"""The demo's stand-in corpora: the same bytes each time, in the schemas and file formats of the real ones."""

import gzip
import json
import re
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from demo.corpora import NAMES, Inputs, write_records, write_stand_ins
from demo.problems import KINDS
from demo.stdlib_text import read_modules
from demo.tasks import INSTRUCTIONS, QUESTIONS
from shards.sources import find_sources, read_blocks, whole_source
from shards.templates import find_template

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Inputs]:
    folder = tmp_path_factory.mktemp("stand-ins")
    return folder, write_stand_ins(folder, workers=2)


def test_the_same_bytes_again(stand_ins: tuple[Path, Inputs], tmp_path: Path) -> None:
    folder, _ = stand_ins
    write_stand_ins(tmp_path, workers=1)
    made = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert made == again


def test_every_corpus_goes_through_its_own_template(stand_ins: tuple[Path, Inputs]) -> None:
    _, inputs = stand_ins
    assert sorted(inputs.trained) == sorted(NAMES)
    least = {"c4": 2 * MEGABYTE, "starcoder": 3 * MEGABYTE, "dclm": MEGABYTE / 4}
    for name, paths in inputs.trained.items():
        template = find_template(None, name)
        assert template.name == name
        sources = find_sources(paths)
        records = [
            record
            for path in sources
            for block in read_blocks(whole_source(path), template.fields)
            for record in block.records
        ]
        size = sum(len(template.render(record).strip()) for record in records)
        assert size > least.get(name, MEGABYTE), name


def test_all_file_formats_are_used(stand_ins: tuple[Path, Inputs]) -> None:
    folder, _ = stand_ins
    endings = {"".join(path.suffixes[-2:]) for path in folder.rglob("*") if path.is_file()}
    assert {".json.gz", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"} <= endings


def test_code_is_only_the_standard_library(stand_ins: tuple[Path, Inputs]) -> None:
    folder, _ = stand_ins
    table = pq.read_table(folder / "starcoder" / "train-00000-of-00001.parquet")
    paths = table.column("max_stars_repo_path").to_pylist()
    assert not [path for path in paths if "site-packages" in path or "/test/" in path]


def test_a_file_that_cannot_be_decoded_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.py").write_text('"""A module with some documentation in it."""\n')
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "other.py").write_text("x = 1\n")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert [module.path for module in read_modules(workers=1)] == ["good.py"]


@pytest.mark.parametrize("kind", KINDS)
def test_problems_end_in_the_answer_and_compute_right(kind: object) -> None:
    random = Random(1)
    for _ in range(50):
        problem, solution = kind(random)  # type: ignore[operator]
        assert problem
        assert re.search(r"The answer is [^\n]+\.$", solution)
        for left, right in re.findall(r"(?<![\w/^×+-] )\b(\d+ [-+×] \d+) = (\d+)\b", solution):
            assert eval(left.replace("×", "*")) == int(right), solution


def test_instructions_and_questions_have_answers() -> None:
    random = Random(1)
    for make in INSTRUCTIONS:
        assert all(make(random, "Return the sum of two large numbers."))
    for ask in QUESTIONS:
        assert all(ask(random))


def test_gzip_holds_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    write_records(path, [{"text": "é"}])
    assert path.read_bytes()[4:8] == b"\0\0\0\0"
    assert json.loads(gzip.decompress(path.read_bytes())) == {"text": "é"}
