"""Dynamic mixing in real runs: what is decided is repeated from the ledger alone, and a kill changes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mixer import Ledger, Plan
from mixer.opening import open_run
from mixer.rails import parts
from tests.trainer.conftest import NUM_STEPS, run_config
from tests.trainer.corpora import NAMES, make_rows
from tests.trainer.launch import Run, last_of_each_step, steps_in, wait_for_step
from tests.trainer.test_live import Service, assert_followed, only_run
from trainer.checkpoints.files import complete_checkpoints
from trainer.errors import ConfigError
from trainer.loading import load
from trainer.record import digest_rows

EVERY, LEAD = 4, 3
PHASES = [{"start": 0, "mixture": {"c4": 0.6, "code": 0.2, "math": 0.2}}]
RAILS = {"ranges": {"math": [0.05, 0.25]}, "max_change": 0.1, "min_change": 1e-6, "cool_down": f"{EVERY}ba"}
DYNAMIC = {
    "proposer": "softmax",
    "every": f"{EVERY}ba",
    "lead": LEAD,
    "settings": {"temperature": 0.05, "smoothing": 0.5},
    "rails": RAILS,
}


def dynamic_config(folder: Path, out: Path, /, **changes: Any) -> Path:
    values = {"schedule": {"phases": PHASES}, "dynamic": DYNAMIC, "save_interval": "3ba"}
    return run_config(folder, out, **(values | changes))


@pytest.fixture(scope="module")
def mixed(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dynamic run that nothing disturbed."""
    out = tmp_path_factory.mktemp("mixed")
    run = Run([str(dynamic_config(corpora, out))], out)
    assert run.wait() == 0, run.output
    return out


def ledger_of(out: Path) -> Ledger:
    ledger = open_run(str(out / "checkpoints" / "ledger.jsonl")).ledger
    assert ledger is not None
    return ledger


def revisions_of(out: Path) -> list[dict[str, Any]]:
    """But for the time of day."""
    return [revision.to_dict() | {"time": ""} for revision in ledger_of(out).revisions]


def corpus_losses_in(out: Path) -> dict[int, dict[str, float]]:
    """Steps done → mean loss of each corpus since the line before, last line of each."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["corpus_loss"] for line in lines if "corpus_loss" in line}


def assert_repeated(out: Path) -> Plan:
    """Every batch of the run, also those trained twice, is the one of the plan that its ledger's file makes alone."""
    plan = open_run(str(out / "checkpoints" / "ledger.jsonl")).plan()
    rows = {name: make_rows(name, num_samples=300, seed=0) for name in NAMES}
    assert list(last_of_each_step(out / "metrics.jsonl")) == list(range(NUM_STEPS))
    for line in steps_in(out / "metrics.jsonl"):
        batch = plan.batch(line["step"])
        slots = zip(batch.corpus.tolist(), batch.sample_id.tolist(), strict=True)
        expected = np.stack([rows[plan.origins[plan.names[corpus]]][sample] for corpus, sample in slots])
        assert line["digest"] == digest_rows(expected), line["step"]
    return plan


def test_the_mixture_follows_the_losses_within_the_rails_and_is_repeated_from_the_ledger_alone(mixed: Path) -> None:
    plan, ledger = assert_repeated(mixed), ledger_of(mixed)
    assert [revision.effective_step for revision in ledger.revisions] == [7, 11, 15, 19, 23]
    assert {revision.author for revision in ledger.revisions} == {"softmax"}
    assert "limited by max_change" in ledger.revisions[0].reason
    for revision in ledger.revisions:
        step = revision.effective_step
        before, after = (plan.schedule.weights_ppb(at) for at in (step - 1, step))
        assert all(abs(after[name] - before[name]) <= parts(0.1) for name in NAMES)
        assert parts(0.05) <= after["math"] <= parts(0.25)
    weights = plan.schedule.weights(NUM_STEPS - 1)
    assert weights["c4"] < 0.6  # it is read most, so it is learned first
    lines = last_of_each_step(mixed / "metrics.jsonl")
    assert [lines[step]["revision"] for step in (3, 4, 8, 20)] == [0, 1, 2, 5]
    assert f"step 4  revision 1, from step 7: {ledger.revisions[0].reason}" in (mixed / "rank0.txt").read_text()


def test_the_losses_of_the_corpora_make_up_the_loss(mixed: Path) -> None:
    found, lines = corpus_losses_in(mixed), last_of_each_step(mixed / "metrics.jsonl")
    assert list(found) == [4, 8, 12, 16, 20, 24]
    for step, losses in found.items():
        read = [lines[at] for at in range(step - EVERY, step)]
        counts = {name: sum(line["counts"][name] for line in read) for name in NAMES}
        total = sum(counts[name] * loss for name, loss in losses.items())
        assert total / sum(counts.values()) == pytest.approx(np.mean([line["loss"] for line in read]), rel=1e-6)
    assert found[24]["c4"] < min(found[24]["code"], found[24]["math"])


def test_a_killed_run_decides_and_reads_as_if_nothing_had_happened(corpora: Path, mixed: Path, tmp_path: Path) -> None:
    config = dynamic_config(corpora, tmp_path)
    for step in (5, 10, 17):
        run = Run([str(config)], tmp_path)
        wait_for_step(run, tmp_path / "metrics.jsonl", step)
        run.kill()
    run = Run([str(config)], tmp_path)
    assert run.wait() == 0, run.output
    assert "going on at step" in run.output
    assert revisions_of(tmp_path) == revisions_of(mixed)
    assert_repeated(tmp_path)
    reference = last_of_each_step(mixed / "metrics.jsonl")
    for line in steps_in(tmp_path / "metrics.jsonl"):
        expected = reference[line["step"]]
        assert (line["digest"], line["revision"], line["loss"]) == tuple(
            expected[key] for key in ("digest", "revision", "loss")
        ), line["step"]
    assert corpus_losses_in(tmp_path) == corpus_losses_in(mixed)


def test_two_ranks_with_microbatches_see_the_same_losses(corpora: Path, mixed: Path, tmp_path: Path) -> None:
    path = dynamic_config(corpora, tmp_path, device_train_microbatch_size=3)
    run = Run([str(path)], tmp_path, num_ranks=2)
    assert run.wait() == 0, run.output
    assert_repeated(tmp_path)
    found, expected = corpus_losses_in(tmp_path), corpus_losses_in(mixed)
    for step in (4, 8):
        assert found[step] == pytest.approx(expected[step], abs=1e-4)


def test_losses_go_by_the_names_in_force_and_what_cannot_be_repeated_is_dropped(corpora: Path, tmp_path: Path) -> None:
    schedule = {
        "phases": [
            {"start": 0, "mixture": {"c4": 0.5, "code": 0.5}},
            {"start": 8, "mixture": {"web": 0.5, "code": 0.25, "part": 0.25}},
        ],
        "changes": [
            {"start": 8, "corpora": {"web": {"rename": {"from": "c4"}}}},
            {"start": 8, "corpora": {"part": {"split": {"from": "code", "shards": [0]}}}},
        ],
    }
    settings = {"prior": {"part": 1000}, "smoothing": 1.0}
    rails = {"max_change": 1.0, "cool_down": 0, "ramp": {"length": "2ba"}}
    local = {name: {"local": str(corpora / name / "train")} for name in ("c4", "code")}
    local["code"]["max_epochs"] = 1
    config = dynamic_config(
        corpora, tmp_path, corpora=local, schedule=schedule, dynamic=DYNAMIC | {"settings": settings, "rails": rails}
    )
    run = Run([str(config)], tmp_path)
    assert run.wait() == 0, run.output
    found = corpus_losses_in(tmp_path)
    assert [set(found[step]) for step in (4, 8, 12)] == [{"c4", "code"}, {"c4", "code"}, {"web", "code", "part"}]
    assert "a proposed mixture is dropped: corpus 'part' would be read" in run.output
    plan = assert_repeated(tmp_path)
    assert plan.drawn_before(NUM_STEPS)["part"] <= plan.order_of("part").num_readable


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.kill()


def test_with_a_live_schedule_the_service_decides_also_after_a_kill(
    service: Service, corpora: Path, tmp_path: Path
) -> None:
    live = {"url": service.url, "sync_interval": 2, "lead": 5}
    ado = DYNAMIC | {"proposer": "ado", "settings": {"warmup": 0, "fit_interval": EVERY}}
    config = dynamic_config(corpora, tmp_path, service=live, dynamic=ado, max_duration="60ba")
    run = Run([str(config)], tmp_path)
    wait_for_step(run, tmp_path / "metrics.jsonl", 38)
    run.kill()
    run = Run([str(config)], tmp_path)
    assert run.wait() == 0, run.output
    revisions = service.get(f"/runs/{only_run(service)['id']}/revisions")["revisions"]
    assert len(revisions) > 3
    assert {revision["author"] for revision in revisions} == {"ado"}
    assert "learning potential" in revisions[0]["reason"]
    assert {revision["superseded"] for revision in revisions} == {None}
    assert_followed(tmp_path, revisions)
    assert not (tmp_path / "checkpoints" / "ledger.jsonl").exists()


def test_a_run_whose_past_is_not_known_is_not_gone_on_with(corpora: Path, mixed: Path, tmp_path: Path) -> None:
    source = mixed / "checkpoints" / "step-00000012.pt"
    static = dynamic_config(corpora, tmp_path, load_path=str(source), dynamic=None)
    run = Run([str(static)], tmp_path)
    assert run.wait() == 0, run.output
    for later in complete_checkpoints(tmp_path / "checkpoints")[1:]:
        later.unlink()
    run = Run([str(dynamic_config(corpora, tmp_path))], tmp_path)
    assert run.wait() == 2
    assert "the checkpoint knows of 3 revisions, and of 3 not what they were" in run.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lead": 2}, "must be at least 3, one more than the batches that the 1 workers fetch ahead (2), found 2"),
        ({"every": "0ba"}, "must be at least one step, found '0ba' @ $.dynamic.every"),
        ({"every": "x"}, "@ $.dynamic.every"),
        ({"evry": 3}, "unknown key 'evry', did you mean 'every'? @ $.dynamic.evry"),
        ({"proposer": "doremi"}, "@ $.dynamic.proposer"),
        ({"settings": {"temprature": 1}}, "unknown setting 'temprature', did you mean 'temperature'?"),
        ({"settings": {"temperature": "warm"}}, "found 'warm' @ $.dynamic.settings.temperature"),
        ({"settings": {"temperature": -1}}, "temperature must be above 0, found -1.0 @ $.dynamic.settings"),
        ({"settings": {"prior": {"cod": 1}}}, "unknown corpus 'cod', did you mean 'code'? @ $.dynamic.settings.prior"),
        ({"rails": {"ranges": {"maths": [0, 1]}}}, "did you mean 'math'? @ $.dynamic.rails.ranges"),
        ({"rails": {"minimum": 0.5}}, "the minima of 3 corpora sum to 1.5, more than 1"),
        ({"rails": {"max_change": 2}}, "max_change must be from 0 to 1, found 2.0 @ $.dynamic.rails"),
        ({"rails": {"cool_down": "2"}}, "@ $.dynamic.rails.cool_down"),
        ({"rails": {"ramp": {"length": 0}}}, "must be at least one step, found 0 @ $.dynamic.rails.ramp.length"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = dynamic_config(tmp_path, tmp_path, dynamic=DYNAMIC | changes)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert any(expected in problem for problem in caught.value.problems), caught.value.problems
    assert len(caught.value.problems) == 1


def test_what_is_decided_must_be_kept(tmp_path: Path) -> None:
    path = dynamic_config(tmp_path, tmp_path)
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if k not in ("save_folder", "autoresume")}))
    with pytest.raises(ConfigError, match=r"save_folder, which is not given @ \$\.dynamic"):
        load(path)
