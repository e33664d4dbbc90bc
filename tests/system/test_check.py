"""The demo's check finds what is wrong: rows, counts, order, missing steps, other data."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from demo.check import Result, check, read_run, same_without_service
from demo.metrics import read_history
from mixer import Ledger, Plan, Schedule
from mixer.reader import RowReader, open_corpus
from tests.trainer.corpora import SEQ_LEN, write_corpus

NUM_STEPS, BATCH, SEED = 12, 8, 17
FIRST, REPEATED = 8, 6  # the first launch trains steps below 8, the second goes on at 6


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder as the demo leaves it: shards, the exported ledger with one revision, the metrics of two launches."""
    corpora = {name: tmp_path / "mds" / name / "train" for name in ("c4", "math")}
    for seed, (name, folder) in enumerate(corpora.items()):
        write_corpus(folder, name=name, num_samples=200, seed=seed)
    sizes = {"num_steps": NUM_STEPS, "global_batch_size": BATCH, "seq_len": SEQ_LEN}
    base = Schedule.from_dict({"phases": [{"start": "0ba", "mixture": {"c4": 1.0}}]}, **sizes)
    ledger = Ledger(base=base).propose(
        {"mixture": {"c4": 0.5, "math": 0.5}}, parent=0, effective_step=5, frontier=0, author="a", reason="r", time="t"
    )
    opened = {name: open_corpus(folder) for name, folder in corpora.items()}
    described = {
        name: {"shard_sizes": one.shard_sizes.tolist(), "fingerprint": one.fingerprint} for name, one in opened.items()
    }
    definition = {**sizes, "data_seed": SEED, "shuffle_window": 4, "corpora": described, "schedule": base.to_dict()}
    revisions = [{"revision": {**r.to_dict(), "superseded_time": None}} for r in ledger.revisions]
    write_lines(tmp_path / "ledger.jsonl", [{"definition": definition}, *revisions, {"end": {}}])
    plan = Plan(ledger.schedule, {n: d["shard_sizes"] for n, d in described.items()}, data_seed=SEED, shuffle_window=4)
    reader = RowReader([opened[name] for name in plan.names])
    write_lines(
        tmp_path / "metrics.jsonl", [line_of(plan, reader, s) for s in [*range(FIRST), *range(REPEATED, NUM_STEPS)]]
    )
    same = {"max_duration": f"{NUM_STEPS}ba", "global_batch_size": BATCH, "seq_len": SEQ_LEN}
    (tmp_path / "same.yaml").write_text(yaml.safe_dump({**same, "schedule": ledger.schedule.to_dict()}))
    return tmp_path


def line_of(plan: Plan, reader: RowReader, step: int) -> dict[str, Any]:
    """The line that the trainer writes: an oracle that reads one row at a time."""
    batch, each = plan.batch(step), b""
    for corpus, sample in zip(batch.corpus.tolist(), batch.sample_id.tolist(), strict=True):
        row = reader.read([int(reader.bases[corpus]) + sample])[0]
        each += hashlib.blake2b(np.array(row, "<u4").tobytes(), digest_size=8).digest()
    counts = {name: int((batch.corpus == index).sum()) for index, name in enumerate(plan.names)}
    return {"step": step, "counts": counts, "digest": hashlib.blake2b(each, digest_size=16).hexdigest()}


def write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def checked(folder: Path) -> Result:
    corpora = {name: folder / "mds" / name / "train" for name in ("c4", "math")}
    return check(read_run(folder / "ledger.jsonl"), corpora, read_history(folder / "metrics.jsonl"))


def test_a_run_as_planned_passes(run: Path) -> None:
    result = checked(run)
    assert result.passed, result.faults
    assert (result.num_as_planned, result.num_twice) == (NUM_STEPS, FIRST - REPEATED)
    assert result.largest_deviation <= 2


@pytest.mark.parametrize("place", [0, 3, FIRST - 1, FIRST, NUM_STEPS + 1])
def test_another_digest_is_found(run: Path, place: int) -> None:
    lines = read_lines(run / "metrics.jsonl")
    lines[place]["digest"] = lines[place - 1]["digest"]
    write_lines(run / "metrics.jsonl", lines)
    result = checked(run)
    assert not result.passed
    assert result.num_as_planned == NUM_STEPS - 1
    assert f"step {lines[place]['step']} " in result.faults[0]


def test_two_steps_that_changed_places_are_found(run: Path) -> None:
    lines = read_lines(run / "metrics.jsonl")
    lines[1]["digest"], lines[2]["digest"] = lines[2]["digest"], lines[1]["digest"]
    write_lines(run / "metrics.jsonl", lines)
    assert checked(run).num_as_planned == NUM_STEPS - 2


def test_a_step_that_was_left_out_is_found(run: Path) -> None:
    lines = read_lines(run / "metrics.jsonl")
    write_lines(run / "metrics.jsonl", [line for line in lines if line["step"] != 9])
    result = checked(run)
    assert not result.passed
    assert result.num_as_planned == NUM_STEPS - 1
    assert any("step 9 was never trained" in fault for fault in result.faults)


def test_a_run_that_ended_early_is_found(run: Path) -> None:
    write_lines(run / "metrics.jsonl", read_lines(run / "metrics.jsonl")[:-1])
    result = checked(run)
    assert not result.passed
    assert f"the run has {NUM_STEPS} steps, {NUM_STEPS - 1} were trained" in result.faults


def test_a_ledger_without_the_revision_is_found(run: Path) -> None:
    lines = read_lines(run / "ledger.jsonl")
    write_lines(run / "ledger.jsonl", [line for line in lines if "revision" not in line])
    assert checked(run).num_as_planned == 5


def test_rows_that_changed_on_disk_are_found(run: Path) -> None:
    for shard in (run / "mds" / "c4" / "train").glob("*.mds"):
        data = bytearray(shard.read_bytes())
        data[-5 * 2 * SEQ_LEN :] = bytes(5 * 2 * SEQ_LEN)  # the last five rows
        shard.write_bytes(data)
    result = checked(run)
    assert not result.passed
    assert result.num_as_planned < NUM_STEPS
    assert any("its bytes have changed" in fault for fault in result.faults)


def test_shards_other_than_those_of_the_run_are_found(run: Path) -> None:
    lines = read_lines(run / "ledger.jsonl")
    lines[0]["definition"]["corpora"]["math"]["fingerprint"] = "0" * 64
    write_lines(run / "ledger.jsonl", lines)
    result = checked(run)
    assert result.num_as_planned == NUM_STEPS  # the rows are the same, but nobody vouches for them
    assert any("shards of math" in fault for fault in result.faults)
    assert not result.passed


def test_a_run_that_began_later_is_found(run: Path) -> None:
    lines = read_lines(run / "metrics.jsonl")
    write_lines(run / "metrics.jsonl", lines[1:])
    assert any("began at step 1" in fault for fault in checked(run).faults)


def test_counts_that_the_rows_do_not_have_are_found(run: Path) -> None:
    lines = read_lines(run / "metrics.jsonl")
    lines[0]["counts"] = {"c4": BATCH - 1, "math": 1}
    write_lines(run / "metrics.jsonl", lines)
    result = checked(run)
    assert not result.passed
    assert result.largest_deviation >= 1


def test_the_yaml_without_service_gives_the_same_batches(run: Path) -> None:
    ledger_run = read_run(run / "ledger.jsonl")
    assert same_without_service(ledger_run, run / "same.yaml") == NUM_STEPS
    config = yaml.safe_load((run / "same.yaml").read_text())
    config["schedule"]["phases"][-1]["start"] = "6ba"
    (run / "same.yaml").write_text(yaml.safe_dump(config))
    assert same_without_service(ledger_run, run / "same.yaml") < NUM_STEPS


def test_a_torn_last_line_is_left_out(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "cou')
    assert checked(run).passed
