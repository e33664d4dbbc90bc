"""benchmarks/reading: what it measures is right, what is left behind is found, and the table says what was measured."""

import importlib
import mmap
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reading"


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


@pytest.fixture
def source(module: Callable[[str], ModuleType], tmp_path: Path):
    """The corpora, of 16 rows a shard, as ours keeps them."""
    data, systems = module("data"), module("systems")
    found = systems.Source(folder=str(tmp_path), weights=data.WEIGHTS, shards=data.SHARDS, shard_rows=16)
    data.write_tokens(found)
    module("systems.ours").prepare(found)
    return found


@pytest.fixture
def bench(module: Callable[[str], ModuleType], source) -> Iterator:
    """Ours alone. In a folder with a short name: workers make sockets in it, and the paths of these are limited."""
    run, plan = module("run"), module("plan")
    with tempfile.TemporaryDirectory() as folder:
        found = run.Bench(Path(folder), plan.QUICK, {"ours": sys.executable})
        found.sources["six"] = source
        yield found


def test_every_row_that_ours_delivers_is_one_of_the_source(module: Callable[[str], ModuleType], source) -> None:
    case, ours, systems = module("case"), module("systems.ours"), module("systems")
    found = case.verify(ours, source, systems.Loading(batch=64, num_workers=0), num_batches=20)
    assert sum(found["found"]) == found["read"] == 20 * 64
    assert module("plan").shares_off(found["found"]) < 0.01


def test_a_row_that_is_not_of_the_source_is_missed(module: Callable[[str], ModuleType], source) -> None:
    class Liar:
        @staticmethod
        def open_loader(source, loading):
            rows = source.rows()[: loading.batch].copy()
            rows[0, -1] ^= 1
            yield rows

    found = module("case").verify(Liar, source, module("systems").Loading(batch=8, num_workers=0), num_batches=1)
    assert (sum(found["found"]), found["read"]) == (7, 8)


def test_ours_resumes_from_its_checkpoint(module: Callable[[str], ModuleType], source) -> None:
    ours, loading = module("systems.ours"), module("systems").Loading(batch=32, num_workers=0)
    replayed = [batch.numpy() for batch in islice(ours.open_loader(source, loading), 6)]
    state = ours.checkpoint(source, loading, 4)
    resumed = [batch.numpy() for batch in islice(ours.open_loader(source, loading, state), 2)]
    np.testing.assert_array_equal(resumed, replayed[4:])


def test_a_multiplied_corpus_reads_as_one_of_many_shards(module: Callable[[str], ModuleType], tmp_path: Path) -> None:
    systems, ours = module("systems"), module("systems.ours")
    one = systems.Source(folder=str(tmp_path), weights=(1.0,), shards=(1,), shard_rows=8)
    module("data").write_tokens(one)
    ours.prepare(one)
    ours.multiply(one, 50)
    corpus = module("mixer.storage").open_corpus(one.place("mds", "c0"))
    assert corpus.num_samples == 400
    batch = next(ours.open_loader(one, systems.Loading(batch=256, num_workers=0))).numpy()
    assert {row.tobytes() for row in batch} <= {row.tobytes() for row in one.rows()}


def test_first_batch_has_a_time_and_memory_and_can_be_asked_for_anew(
    module: Callable[[str], ModuleType], source
) -> None:
    case, ours, loading = module("case"), module("systems.ours"), module("systems").Loading(batch=32, num_workers=0)
    for anew in (False, True):
        found = case.first(ours, source, loading, state=None, anew=anew)
        assert found["seconds"] > 0
        assert found["peak_mib"] >= found["mib"]


def test_cpu_time_is_that_of_children_too(module: Callable[[str], ModuleType]) -> None:
    cpu_seconds = module("case").cpu_seconds
    before = cpu_seconds()
    busy = "import time; start = time.process_time()\nwhile time.process_time() < start + 0.3: pass"
    with subprocess.Popen([sys.executable, "-c", f"{busy}\nprint(flush=True); input()"], stdin=-1, stdout=-1) as child:
        child.stdout.readline()
        running = cpu_seconds() - before
        child.communicate(b"\n")
    assert running >= 0.25
    assert cpu_seconds() - before >= running


def test_segments_in_use_and_older_ones_are_not_left_behind(
    module: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftovers = module("leftovers")
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path)
    (tmp_path / "older").write_bytes(b"x")
    before = leftovers.segments()
    for name in ("left", "used"):
        (tmp_path / name).write_bytes(bytes(4096))
    with (tmp_path / "used").open("r+b") as file, mmap.mmap(file.fileno(), 0):
        stale = leftovers.stale(before)
    assert stale == [tmp_path / "left"]
    assert leftovers.num_bytes(stale) == 4096
    leftovers.remove(stale)
    assert {path.name for path in leftovers.segments()} == {"older", "used"}


def test_a_killed_run_of_ours_leaves_nothing(module: Callable[[str], ModuleType], source, bench) -> None:
    plan = module("plan")
    list(islice(module("systems.ours").open_loader(source, plan.BIG), 2))  # shards are verified by now
    found = bench.killed("ours", plan.kill())
    assert plan.left_behind(found) == "nothing", found


def test_a_process_that_breaks_off_or_takes_too_long_says_why(module: Callable[[str], ModuleType], bench) -> None:
    plan = module("plan")
    case = plan.Case(name="x", task="rate", source="six", loading=plan.BIG, request={"nonsense": 1}, systems=("ours",))
    bench.take_turns([case], 3)
    [result] = bench.results["ours"]["x"]
    assert result["failed"].startswith("broke off: TypeError")
    request = {"seconds": 60, "limits": {"seconds": 1e-6, "gib": 8}}
    slow = plan.Case(name="y", task="rate", source="six", loading=plan.BIG, request=request, systems=("ours",))
    bench.take_turns([slow], 1)
    assert bench.results["ours"]["y"] == [{"failed": "> 60 s"}]


def test_the_table_has_medians_ranges_reasons_and_ratios(module: Callable[[str], ModuleType]) -> None:
    table = module("table")
    rates = [{"rate": 4000.0}, {"rate": 5000.0}, {"rate": 1000.0}]
    results = {
        "ours": {"r": rates, "k": [{"names": 0}]},
        "streaming": {"r": [{"rate": 100.0}]},
        "litdata": {"r": [{"failed": "> 60 s"}]},
    }
    rows = [
        table.Row(label="samples/s", case="r", key="rate"),
        table.Row(label="left", case="k", text=lambda result: f"{result['names']} names"),
    ]
    headings = {"ours": "ours 1", "streaming": "theirs", "litdata": "LitData", "limit": "the limit"}
    text = table.render(rows, results, headings, {"limit": "not installed here: no uv"})
    assert "| samples/s | 4,000 (1,000 – 5,000) | 100 | > 60 s | – |" in text
    assert "| left | 0 names | – | – | – |" in text
    assert text.endswith("the limit is left out: not installed here: no uv")
    goals = {"streaming": (30, "40.0x (goal 30.0x: met)"), "litdata": (4, "not measured (goal 4.0x)")}
    for other, (goal, expected) in goals.items():
        assert table.Ratio(label="a / b", case="r", other=other, goal=goal).line(results) == f"- a / b: {expected}"
    half = table.Ratio(label="a / b", case="r", other="streaming", goal=50, unit="%")
    assert half.line(results) == "- a / b: 4000% (goal 5000%: **missed**)"


def test_every_case_has_its_rows(module: Callable[[str], ModuleType]) -> None:
    plan = module("plan")
    for sizes in (plan.FULL, plan.QUICK):
        cases = [*plan.rates(sizes), *plan.firsts(sizes), *plan.colds(sizes), plan.kill()]
        assert {row.case for row in plan.rows(sizes)} == {case.name for case in cases}
