"""Opening corpora: what is refused, and what the service is told."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixer import RepetitionError
from tests.mds import write_manifest
from tests.trainer.conftest import run_config
from tests.trainer.corpora import NAMES, make_rows
from trainer.errors import ConfigError
from trainer.loading import load
from trainer.sources import Sources, open_sources


def sources_of(folder: Path, out: Path, /, **changes: Any) -> Sources:
    return open_sources(load(run_config(folder, out, **changes)))


def test_everything_that_is_wrong_is_told_at_once(corpora: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(corpora, tmp_path / "own"))
    shutil.rmtree(own / "code" / "train")
    shutil.rmtree(own / "math" / "holdout")
    for name, sha in (("c4", "one"), ("math", "two")):
        write_manifest(own / name / "train", tokenizer_sha256=sha, vocab_size=300)
    with pytest.raises(ConfigError) as caught:
        sources_of(own, tmp_path / "out", eval={"interval": 5})
    text = str(caught.value)
    assert "@ $.corpora.code.local" in text
    assert "@ $.corpora.math.holdout" in text
    assert "the tokenizer of c4 has 300 ids, the model 256: raise it to the next multiple of 128" in text
    assert "different tokenizers (c4 and math)" in text
    assert len(caught.value.problems) == 5


def test_another_sequence_length_is_refused(corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"have 32 tokens, seq_len is 64.* @ \$\.corpora\.c4\.local"):
        sources_of(corpora, tmp_path, seq_len=64)


def test_a_cap_that_would_be_passed_is_refused(corpora: Path, tmp_path: Path) -> None:
    capped = {name: {"local": str(corpora / name / "train"), "max_epochs": 1} for name in NAMES}
    with pytest.raises(RepetitionError):
        sources_of(corpora, tmp_path, corpora=capped, max_duration="100ba").plan()


def test_held_out_rows_are_the_first_of_each_split(corpora: Path, tmp_path: Path) -> None:
    sources = sources_of(corpora, tmp_path, eval={"interval": 5})
    for name in NAMES:
        rows = sources.held_out_rows(name, np.arange(5))["tokens"]
        assert np.array_equal(rows, make_rows(name, num_samples=21, seed=1)[:5])
    assert [sources.num_held_out("c4", wanted) for wanted in (5, 500, "all")] == [5, 21, 21]


def test_the_service_is_told_all_that_decides_the_order(corpora: Path, tmp_path: Path) -> None:
    definition = sources_of(corpora, tmp_path).definition
    assert sum(definition["corpora"]["c4"]["shard_sizes"]) == 300
    assert (definition["data_seed"], definition["shuffle_window"], definition["num_steps"]) == (17, 2, 24)
    assert definition["schedule"]["phases"][1] == {"start": "9ba", "mixture": {"c4": 0.7, "code": 0.3}}
    json.dumps(definition)


def test_a_remote_corpus_is_fetched_and_its_held_out_split_beside_it(corpora: Path, tmp_path: Path) -> None:
    remote = {
        name: {"local": str(tmp_path / "cache" / name / "train"), "remote": str(corpora / name / "train")}
        for name in NAMES
    }
    sources = sources_of(corpora, tmp_path / "out", corpora=remote, eval={"interval": 5})
    rows = sources.rows()
    first = int(rows.bases[sources.names.index("c4")])
    assert np.array_equal(rows.read(np.arange(first, first + 3)), make_rows("c4", num_samples=300, seed=0)[:3])
    assert np.array_equal(
        sources.held_out_rows("c4", np.arange(5))["tokens"], make_rows("c4", num_samples=21, seed=1)[:5]
    )
    assert (tmp_path / "cache" / "c4" / "holdout" / "shard.00000.mds").is_file()


def test_a_remote_corpus_that_cannot_be_had_is_named(corpora: Path, tmp_path: Path) -> None:
    remote = {"c4": {"local": str(tmp_path / "c4"), "remote": str(tmp_path / "nowhere")}}
    phases = {"phases": [{"start": 0, "mixture": {"c4": 1.0}}]}
    with pytest.raises(ConfigError, match=r"cannot fetch .*/nowhere/index\.json: .*No such file.* @ \$\.corpora\.c4"):
        sources_of(corpora, tmp_path, corpora=remote, schedule=phases)
