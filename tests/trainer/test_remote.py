"""Training from object storage: the batches of local files, within a small cache, over ranks, workers and kills."""

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mds import write_manifest, write_shards
from tests.s3 import s3_server, upload
from tests.trainer.conftest import NUM_STEPS, run_config
from tests.trainer.corpora import NAMES, make_rows
from tests.trainer.launch import Run, last_of_each_step, steps_in

LIMIT = 26_000  # bytes: seventeen of the 60 shards; the run reads 30, and of every window for two steps only


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpora in many small shards, those of code compressed, c4 with a manifest."""
    root = tmp_path_factory.mktemp("small")
    for name in NAMES:
        compression = "zstd:3" if name == "code" else None
        for split, num_samples, seed in (("train", 300, 0), ("holdout", 21, 1)):
            rows = make_rows(name, num_samples=num_samples, seed=seed)
            write_shards(root / name / split, rows, rows_a_shard=15, compression=compression)
    write_manifest(root / "c4" / "train")
    return root


@pytest.fixture(scope="module")
def local(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """The lines of an undisturbed run on local files, by step."""
    out = tmp_path_factory.mktemp("local")
    run = Run([str(run_config(Path(shutil.copytree(small, out / "corpora")), out))], out)
    assert run.wait() == 0, run.output
    return last_of_each_step(out / "metrics.jsonl")


@pytest.fixture(scope="module")
def remote(small: Path) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """The environment of a server that has the corpora, and their addresses."""
    with s3_server() as environment:
        yield environment, {name: upload(environment, small / name, name) for name in NAMES}


def remote_config(addresses: dict[str, str], out: Path, **changes: Any) -> Path:
    local = {
        name: {"local": str(out / "cache" / name / "train"), "remote": f"{address}/train"}
        for name, address in addresses.items()
    }
    reading = {"cache_limit": LIMIT, "fetch_ahead": "4ba"}
    return run_config(out, out, corpora=local, **{"reading": reading, **changes})


def cached(out: Path) -> int:
    return sum(path.stat().st_size for path in (out / "cache").rglob("train/*.mds"))


@pytest.mark.parametrize(("num_ranks", "num_workers"), [(1, 0), (2, 2)])
def test_batches_from_object_storage_are_those_of_local_files(
    remote: tuple[dict[str, str], dict[str, str]],
    local: dict[int, dict[str, Any]],
    tmp_path: Path,
    num_ranks: int,
    num_workers: int,
) -> None:
    environment, addresses = remote
    config = remote_config(addresses, tmp_path, num_workers=num_workers, eval={"interval": "10ba", "num_samples": 20})
    run = Run([str(config)], tmp_path, num_ranks=num_ranks, environment=environment)
    assert run.wait() == 0, run.output
    found = last_of_each_step(tmp_path / "metrics.jsonl")
    assert list(found) == list(range(NUM_STEPS))
    for step in range(NUM_STEPS):
        assert found[step]["digest"] == local[step]["digest"]
        assert found[step]["loss"] == pytest.approx(local[step]["loss"], abs=1e-5)
    assert sum(line["data"]["bytes_fetched"] for line in found.values()) > LIMIT  # it held them one after the other
    assert 0 < cached(tmp_path) <= LIMIT
    assert not list((tmp_path / "cache").rglob(".fetch/*"))


def test_kills_on_the_way_change_nothing(
    remote: tuple[dict[str, str], dict[str, str]], local: dict[int, dict[str, Any]], tmp_path: Path
) -> None:
    """SIGKILL three times, each time going on with other ranks and workers and the same cache."""
    environment, addresses = remote
    chance = random.Random(5)
    metrics = tmp_path / "metrics.jsonl"
    for num_ranks, num_workers in ((2, 1), (1, 2), (4, 0)):
        config = remote_config(addresses, tmp_path, num_workers=num_workers, save_interval="3ba")
        run = Run([str(config)], tmp_path, num_ranks=num_ranks, environment=environment)
        lines = len(list(steps_in(metrics)))
        wanted, deadline = lines + chance.randint(1, 6), time.monotonic() + 120
        while len(list(steps_in(metrics))) < wanted and run.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        run.kill()
    config = remote_config(addresses, tmp_path, num_workers=1)
    run = Run([str(config)], tmp_path, num_ranks=2, environment=environment)
    assert run.wait() == 0, run.output
    assert all(line["digest"] == local[line["step"]]["digest"] for line in steps_in(metrics))
    assert max(line["step"] for line in steps_in(metrics)) == NUM_STEPS - 1
    assert cached(tmp_path) <= LIMIT


def test_a_limit_that_cannot_hold_what_is_in_use_ends_the_run_with_one_line(
    remote: tuple[dict[str, str], dict[str, str]], tmp_path: Path
) -> None:
    environment, addresses = remote
    config = remote_config(addresses, tmp_path, reading={"cache_limit": "3kb", "fetch_ahead": "4ba"})
    run = Run([str(config)], tmp_path, environment=environment)
    assert run.wait() == 2
    last = run.output.splitlines()[-1]
    assert "the cache limit of 3,000 bytes is too small" in last
    assert "raise the limit, or lower shuffle_window" in last
    assert "Traceback" not in run.output
