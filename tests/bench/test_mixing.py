"""benchmarks/mixing: what it measures is right, and what it must show of ours holds; no other system is needed."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "mixing"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    """Loads a module of the benchmark, which is a folder of scripts and no package."""
    monkeypatch.syspath_prepend(FOLDER.parent)
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER.parent)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    """What the command prints, and its results: ours, and independent draws."""
    results = tmp_path_factory.mktemp("mixing") / "results.json"
    command = [sys.executable, str(FOLDER / "run.py"), "--quick", "--systems", "ours,draws", "--json", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(results.read_text())


def test_ours_is_exact_where_independent_draws_are_not(quick: tuple[str, dict]) -> None:
    ours, draws = (quick[1][name]["exactness"] for name in ("ours", "draws"))
    for mixture in ("eight", "two"):
        assert ours[mixture]["steps"] <= 2
        assert draws[mixture]["steps"] > 20
    assert ours["batch"] <= 4 < draws["batch"]
    assert ours["missing"] == 0 < draws["missing"]
    for rare in ("two_thousandths", "ten_thousandth", "millionth"):
        assert abs(ours[rare]["drawn"] - ours[rare]["wanted"]) <= 2


def test_no_split_of_slots_among_ranks_shows_another_mixture(quick: tuple[str, dict]) -> None:
    ranks = quick[1]["ours"]["ranks"]
    assert not ranks["identical"]
    assert ranks["batch"] <= 4
    assert ranks["missing"] == 0
    # 16 steps give each of 32 ranks 512 samples, of which chance leaves some 7 points at most
    assert max(ranks[f"{split}_{n}"] for split in ("own", "strided", "contiguous") for n in (8, 32)) < 10


def test_a_switch_is_on_time_and_loses_no_place(quick: tuple[str, dict]) -> None:
    ours = quick[1]["ours"]
    assert (ours["switch"]["late"], ours["switch"]["twice"], ours["late_switch"]["jump"]) == (0, 0, 0)
    assert ours["switch"]["worst"] <= 2
    assert ours["epochs"]["twice"] == 0
    assert ours["epochs"]["gap"] >= 0.5
    assert ours["epochs"]["moved"] > 0.1


def test_every_row_is_in_the_table_and_every_lost_one_has_its_reason(
    quick: tuple[str, dict], module: type[ModuleType]
) -> None:
    rows = module("rows").rows(module("measure").SIZES[True], module("measure").RESUMES[True])
    for row in rows:
        assert f"\n| {row.label} | " in quick[0]
    assert "failed" not in quick[0]
    assert "no reason is written down" not in quick[0]


def test_deviation_is_that_of_orders_made_by_hand(module: type[ModuleType]) -> None:
    measure, systems = module("measure"), module("systems")
    halves = np.tile([0, 1], systems.BATCH)
    assert measure.worst_deviation(halves.reshape(2, -1), (0.5, 0.5)) == {"steps": 0, "samples": 0.5}
    blocks = np.repeat([0, 1], systems.BATCH)
    assert measure.worst_deviation(blocks.reshape(2, -1), (0.5, 0.5)) == {"steps": 512, "samples": 512}


def test_slots_go_to_ranks_in_turns_of_a_micro_batch(module: type[ModuleType]) -> None:
    rank_slots = module("systems").rank_slots
    order = np.arange(8).reshape(1, 8)
    assert rank_slots(order, 2, 1).tolist() == [[[0, 2, 4, 6], [1, 3, 5, 7]]]
    assert rank_slots(order, 2, 2).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]]]
    assert rank_slots(order, 2, 4).tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]


def test_a_strided_rank_sees_another_mixture_where_an_order_has_a_period(module: type[ModuleType]) -> None:
    measure, rank_slots = module("measure"), module("systems").rank_slots
    order = np.tile([0, 0, 1, 2], 256).reshape(1, -1)
    weights = (0.5, 0.25, 0.25)
    assert measure.worst_share(rank_slots(order, 4, 1), weights) == 75
    assert measure.worst_share(rank_slots(order, 4, 256), weights) == 0


def _busy(folder: Path) -> dict:
    while True:
        pass


def test_a_task_ends_at_its_limits_and_takes_nothing_with_it(module: type[ModuleType]) -> None:
    in_fork, limits = module("measure").in_fork, {"seconds": 0.1, "gib": 1}
    assert in_fork(_busy, limits) == {"limit": "0.1 s"}
    assert in_fork(lambda folder: {"zeros": np.ones(1 << 30).size}, limits) == {"limit": "1 GiB"}
    assert in_fork(lambda folder: {}["gone"], limits) == {"error": "KeyError: 'gone'"}
    assert in_fork(lambda folder: {"number": np.int64(3)}, limits) == {"number": 3}


@pytest.mark.parametrize(
    ("ours", "peers", "expected"),
    [
        (1.0, [2.0, 3.0], "ahead"),
        (2.0, [2.0, 3.0], "equal"),
        (2.1, [2.0, 3.0], "equal"),
        (2.3, [2.0, 3.0], "lost"),
        (0.0, [0.0], "equal"),
        (9.0, ["limit"], "ahead"),
        (9.0, [], ""),
    ],
)
def test_where_ours_stands(module: type[ModuleType], ours: float, peers: list, expected: str) -> None:
    table = module("table")
    row = table.Row(label="x", task="x", value=lambda r: r["x"], slack=lambda best: 0.1 * best, why="because")
    results = {"ours": {"x": {"x": ours}}, "draws": {"x": {"x": -1.0}}}
    for i, peer in enumerate(peers):
        results[f"peer{i}"] = {"x": {"limit": "60 s"} if peer == "limit" else {"x": peer}}
    assert table.verdict(row, results) == expected
    text = table.render([row], results, {name: name for name in [*results, "absent"]})
    assert ("1. x, to peer0: because" in text) == (expected == "lost")
    assert "not installed here" in text


def test_a_system_without_an_environment_is_left_out(module: type[ModuleType], tmp_path: Path, monkeypatch) -> None:
    environments = module("environments")
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    with pytest.raises(environments.NotInstalled, match="none was to be made"):
        environments.python_for("grain", install=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(environments.NotInstalled, match="uv is not installed"):
        environments.python_for("grain", install=True)
