"""Whole runs: every batch is the planned one, whatever the topology, and a killed run goes on as if nothing was."""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixer import Plan
from tests.trainer.conftest import NUM_STEPS, run_config
from tests.trainer.corpora import NAMES, make_rows
from tests.trainer.launch import Run, evaluations_in, last_of_each_step, steps_in, wait_for_step
from trainer.loading import load
from trainer.record import digest_rows
from trainer.sources import open_sources


def digests(out: Path) -> list[str]:
    """Of the last line of each step, in the order of the steps in the file."""
    return [line["digest"] for line in last_of_each_step(out / "metrics.jsonl").values()]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in last_of_each_step(out / "metrics.jsonl").values()]


def plan_of(out: Path) -> Plan:
    return open_sources(load(out / "cfg.yaml")).plan()


def test_every_batch_is_the_planned_one(undisturbed: Path) -> None:
    plan = plan_of(undisturbed)
    rows = {name: make_rows(name, num_samples=300, seed=0) for name in NAMES}
    lines = list(steps_in(undisturbed / "metrics.jsonl"))
    assert [line["step"] for line in lines] == list(range(NUM_STEPS))
    for line in lines:
        batch = plan.batch(line["step"])
        slots = zip(batch.corpus, batch.sample_id, strict=True)
        expected = np.stack([rows[plan.names[corpus]][sample] for corpus, sample in slots])
        assert line["digest"] == digest_rows(expected), line["step"]
        assert {name: n for name, n in line["counts"].items() if n} == plan.counts(line["step"])


def test_corpora_that_change_while_it_trains_are_read_as_planned_also_after_a_kill(
    corpora: Path, tmp_path: Path
) -> None:
    mixture = {"web": 0.5, "code": 0.25, "part": 0.25}
    schedule = {
        "phases": [{"start": 0, "mixture": {"c4": 0.5, "code": 0.5}}, {"start": 8, "mixture": mixture}],
        "changes": [
            {"start": 4, "corpora": {"c4": {"quarantine": {"shards": [0], "samples": [[100, 140]]}}}},
            {"start": 8, "corpora": {"web": {"rename": {"from": "c4"}}}},
            {"start": 8, "corpora": {"part": {"split": {"from": "code", "shards": [1]}}}},
        ],
    }
    path = run_config(corpora, tmp_path, schedule=schedule)
    run = Run([str(path)], tmp_path)
    wait_for_step(run, tmp_path / "metrics.jsonl", 10)
    run.kill()
    assert Run([str(path)], tmp_path).wait() == 0
    plan = plan_of(tmp_path)
    rows = {name: make_rows(name, num_samples=300, seed=0) for name in NAMES}
    lines = last_of_each_step(tmp_path / "metrics.jsonl")
    assert list(lines) == list(range(NUM_STEPS))
    for step, line in lines.items():
        batch = plan.batch(step)
        slots = zip(batch.corpus.tolist(), batch.sample_id.tolist(), strict=True)
        read = [(plan.origins[plan.names[corpus]], sample) for corpus, sample in slots]
        assert line["digest"] == digest_rows(np.stack([rows[name][sample] for name, sample in read])), step
        assert step < 4 or not any(name == "c4" and 100 <= sample < 140 for name, sample in read)
    readable = plan.order_of("web").num_readable
    assert f"epochs of {readable}" in (tmp_path / "rank0.txt").read_text()
    assert readable == 300 - int(plan.corpora["c4"].shard_sizes[0]) - 40


def test_the_loss_falls_and_the_rate_follows_its_curve(undisturbed: Path) -> None:
    lines = list(steps_in(undisturbed / "metrics.jsonl"))
    assert lines[0]["loss"] == pytest.approx(np.log(256), rel=0.1)
    assert lines[8]["loss"] < 4.5
    assert lines[3]["lr"] == 3e-3
    assert lines[-1]["lr"] == pytest.approx(3e-5)
    assert [line["tokens"] for line in lines] == [512 * (step + 1) for step in range(NUM_STEPS)]


@pytest.mark.parametrize(
    ("num_ranks", "changes"),
    [
        (1, {"num_workers": 3, "device_train_microbatch_size": 4}),
        (1, {"num_workers": 0, "device_train_microbatch_size": 3}),
        (2, {"num_workers": 1, "eval": {"interval": "10ba", "num_samples": 20}}),
    ],
)
def test_batches_and_losses_do_not_depend_on_the_topology(
    num_ranks: int, changes: dict[str, Any], undisturbed: Path, corpora: Path, tmp_path: Path
) -> None:
    run = Run([str(run_config(corpora, tmp_path, **changes))], tmp_path, num_ranks=num_ranks)
    assert run.wait() == 0, run.output
    assert digests(tmp_path) == digests(undisturbed)
    assert losses(tmp_path) == pytest.approx(losses(undisturbed), abs=1e-4)
    if "eval" in changes:
        expected = evaluations_in(undisturbed / "metrics.jsonl")
        found = evaluations_in(tmp_path / "metrics.jsonl")
        assert list(found) == list(expected)
        for step, of_corpora in found.items():
            assert of_corpora == pytest.approx(expected[step], abs=1e-4)


def kill_and_resume(config: Path, out: Path, kill_after_steps: list[int]) -> None:
    for step in kill_after_steps:
        run = Run([str(config)], out)
        wait_for_step(run, out / "metrics.jsonl", step)
        run.kill()
    run = Run([str(config)], out)
    assert run.wait() == 0, run.output


def assert_like_undisturbed(out: Path, undisturbed: Path) -> None:
    reference = {line["step"]: line for line in steps_in(undisturbed / "metrics.jsonl")}
    for line in steps_in(out / "metrics.jsonl"):  # also what was trained and then lost in a crash
        assert line["digest"] == reference[line["step"]]["digest"], line["step"]
        assert line["loss"] == reference[line["step"]]["loss"], line["step"]
        assert line["lr"] == reference[line["step"]]["lr"]
    assert digests(out) == digests(undisturbed)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(corpora: Path, undisturbed: Path, tmp_path: Path) -> None:
    config = run_config(corpora, tmp_path)
    generator = random.Random(5)
    kill_and_resume(config, tmp_path, sorted(generator.sample(range(1, NUM_STEPS - 1), 10)))
    assert_like_undisturbed(tmp_path, undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_many_kills(seed: int, corpora: Path, undisturbed: Path, tmp_path: Path) -> None:
    config = run_config(corpora, tmp_path, save_interval="1ba")
    kill_and_resume(config, tmp_path, sorted(random.Random(seed).sample(range(NUM_STEPS - 1), 10)))
    assert_like_undisturbed(tmp_path, undisturbed)


def test_one_process_can_be_followed_by_two(corpora: Path, undisturbed: Path, tmp_path: Path) -> None:
    half_way(undisturbed, tmp_path, step=12)
    run = Run([str(run_config(corpora, tmp_path))], tmp_path, num_ranks=2)
    assert run.wait() == 0, run.output
    assert "going on at step 12" in run.output
    assert digests(tmp_path) == digests(undisturbed)[12:]
    assert losses(tmp_path) == pytest.approx(losses(undisturbed)[12:], abs=1e-4)


def half_way(undisturbed: Path, out: Path, *, step: int) -> None:
    """Make `out` the folder of a run that was stopped after a checkpoint at `step`."""
    (out / "checkpoints").mkdir(parents=True)
    shutil.copy(undisturbed / "checkpoints" / f"step-{step:08d}.pt", out / "checkpoints")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data_seed": 18}, "data_seed was 17, is 18"),
        ({"global_batch_size": 8}, "global_batch_size was 16, is 8"),
        (
            {"schedule": {"phases": [{"start": 0, "mixture": {"code": 1.0}}]}},
            "the steps below 12, already trained on, had another schedule",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_both_sides(
    changes: dict[str, object], expected: str, corpora: Path, undisturbed: Path, tmp_path: Path
) -> None:
    half_way(undisturbed, tmp_path, step=12)
    run = Run([str(run_config(corpora, tmp_path, **changes))], tmp_path)
    assert run.wait() == 2
    assert expected in run.output.splitlines()[-1]
    assert "Traceback" not in run.output
    assert not list(steps_in(tmp_path / "metrics.jsonl"))


def test_a_run_can_branch_off_with_another_future(corpora: Path, undisturbed: Path, tmp_path: Path) -> None:
    phases = [
        {"start": 0, "mixture": {"c4": 1.0}},
        {"start": 9, "mixture": {"c4": 0.7, "code": 0.3}},
        {"start": 13, "mixture": {"math": 1.0}},
    ]
    source = undisturbed / "checkpoints" / "step-00000012.pt"
    config = run_config(corpora, tmp_path, schedule={"phases": phases}, load_path=str(source), max_duration="15ba")
    run = Run([str(config)], tmp_path)
    assert run.wait() == 0, run.output
    lines = last_of_each_step(tmp_path / "metrics.jsonl")
    assert list(lines) == [12, 13, 14]
    assert lines[12]["digest"] == digests(undisturbed)[12]
    assert lines[13]["counts"] == {"c4": 0, "code": 0, "math": 16}


def test_a_finished_run_has_nothing_to_do(undisturbed: Path, tmp_path: Path) -> None:
    before = (undisturbed / "metrics.jsonl").read_bytes()
    run = Run([str(undisturbed / "cfg.yaml")], tmp_path)
    assert run.wait() == 0, run.output
    assert f"all {NUM_STEPS} steps are done" in run.output
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_truncated_shard_ends_the_run_with_one_line(num_workers: int, corpora: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(corpora, tmp_path / "own"))
    for shard in (own / "c4" / "train").glob("*.mds"):
        shard.write_bytes(shard.read_bytes()[:-10])
    run = Run([str(run_config(own, tmp_path, num_workers=num_workers))], tmp_path)
    assert run.wait() == 2
    assert run.output.splitlines()[-1].startswith(f"shard {own / 'c4' / 'train'}")
    assert "truncated or replaced" in run.output.splitlines()[-1]
    assert "Traceback" not in run.output


def test_the_batch_size_grows_in_the_middle_and_survives_a_crash_on_other_ranks(corpora: Path, tmp_path: Path) -> None:
    """Batch-size warm-up: 8 samples a step, 16 from step 6, 24 from step 12; microbatches of 5 at most.

    The learning rate is a function of the step alone."""
    phases = [{"start": 0, "mixture": {"c4": 1.0}}, {"start": 9, "mixture": {"c4": 0.7, "code": 0.3}}]
    sizes = {"to": 24, "length": "12ba", "increments": 2}
    changes = {
        "global_batch_size": 8,
        "max_duration": "18ba",
        "schedule": {"phases": phases, "batch_sizes": sizes},
        "device_train_microbatch_size": 5,
    }
    config = run_config(corpora, tmp_path, **changes)
    run = Run([str(config)], tmp_path, num_ranks=2)
    wait_for_step(run, tmp_path / "metrics.jsonl", 14)
    run.kill()
    run = Run([str(config), "num_workers=2"], tmp_path, num_ranks=4)
    assert run.wait() == 0, run.output
    sources = open_sources(load(config))
    plan, rows = sources.plan(), sources.rows()
    lines = last_of_each_step(tmp_path / "metrics.jsonl")
    assert list(lines) == list(range(18))
    for step, line in lines.items():
        batch = plan.batch(step)
        assert sum(line["counts"].values()) == len(batch.corpus) == (8 if step < 6 else 16 if step < 12 else 24)
        assert line["digest"] == digest_rows(rows.read(rows.bases[batch.corpus] + batch.sample_id))
        expected = (step + 1) / 4 if step < 4 else (0.01 + 0.99 * (1 + np.cos(np.pi * (step - 3) / 14)) / 2)
        assert line["lr"] == pytest.approx(3e-3 * expected, rel=1e-9)
    assert lines[17]["tokens"] == (6 * 8 + 6 * 16 + 6 * 24) * 32


def test_another_batch_size_is_refused_with_what_to_do(undisturbed: Path, corpora: Path, tmp_path: Path) -> None:
    checkpoint = undisturbed / "checkpoints" / "step-00000012.pt"
    changes = {"load_path": str(checkpoint), "global_batch_size": 32, "autoresume": False}
    run = Run([str(run_config(corpora, tmp_path, **changes))], tmp_path)
    assert run.wait() == 2
    last = run.output.splitlines()[-1]
    assert "global_batch_size was 16, is 32" in last
    assert "name a new one under schedule.batch_sizes, from 12ba on or later" in last


def test_node_groups_read_their_own_parts_on_any_ranks(corpora: Path, tmp_path: Path) -> None:
    """Two groups: on two ranks each reads its part; killed, then one rank reads both. All batches are as planned."""
    config = run_config(corpora, tmp_path, num_groups=2, num_workers=1, max_duration="14ba", schedule=SHORT)
    run = Run([str(config)], tmp_path, num_ranks=2)
    wait_for_step(run, tmp_path / "metrics.jsonl", 6)
    run.kill()
    run = Run([str(config)], tmp_path)
    assert run.wait() == 0, run.output
    sources = open_sources(load(config))
    plan, rows = sources.plan(), sources.rows()
    assert plan.num_groups == 2
    for step, line in last_of_each_step(tmp_path / "metrics.jsonl").items():
        batch = plan.batch(step)
        assert line["digest"] == digest_rows(rows.read(rows.bases[batch.corpus] + batch.sample_id))
        groups = [
            plan.parts_of(plan.names[c]).to_part(int(s))[0] for c, s in zip(batch.corpus, batch.sample_id, strict=True)
        ]
        assert groups == [0] * 8 + [1] * 8


SHORT = {"phases": [{"start": 0, "mixture": {"c4": 1.0}}, {"start": 7, "mixture": {"c4": 0.5, "code": 0.5}}]}
