"""Configurations: every problem at once and in its place, overrides, and the files that we ship."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.errors import ConfigError
from trainer.loading import load

GOOD: dict[str, Any] = {
    "run_name": "test",
    "data_seed": 17,
    "max_duration": "100ba",
    "global_batch_size": 16,
    "seq_len": 32,
    "model": {"name": "tiny"},
    "lr_schedule": {"peak": 3e-4},
    "corpora": {"c4": {"local": "data/c4/train"}, "starcoder": {"local": "data/starcoder/train"}},
    "schedule": {
        "phases": [
            {"start": "0ba", "mixture": {"c4": 1.0}},
            {"start": "40ba", "mixture": {"c4": 0.8, "starcoder": 0.2}},
        ]
    },
}


def write(folder: Path, changes: dict[str, Any], *, without: tuple[str, ...] = ()) -> Path:
    path = folder / "cfg.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**GOOD, **changes}.items() if k not in without}))
    return path


def problems_of(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return caught.value.problems


def test_the_smallest_shipped_configuration_is_right() -> None:
    config = load(Path(__file__).parents[2] / "trainer" / "configs" / "tiny.yaml")
    assert (config.tokens_per_step, config.num_steps) == (2_048, 200)
    assert config.base_schedule().weights(99) == {"c4": 1.0}
    assert config.base_schedule().weights(100) == {"c4": 0.8, "starcoder": 0.2}


def test_all_problems_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    phases = [
        {"start": "0ba", "mixture": {"c4": 1.0}},
        {"start": "40ba", "mixture": {"c4": 0.8, "starcodr": 0.3}},
    ]
    changes = {
        "global_batchsize": 64,
        "seq_len": "many",
        "model": {"name": "huge"},
        "schedule": {"phases": phases},
    }
    problems = problems_of(write(tmp_path, changes, without=("data_seed",)))
    assert len(problems) == len(set(problems))
    text = "\n".join(problems)
    assert "unknown key 'global_batchsize', did you mean 'global_batch_size'? @ $.global_batchsize" in text
    assert "this key is missing @ $.data_seed" in text
    assert "@ $.seq_len" in text
    assert "@ $.model.name" in text
    assert "unknown corpus 'starcodr', did you mean 'starcoder'? @ $.schedule.phases[1].mixture.starcodr" in text
    assert len(problems) == 5


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        (
            [{"start": "0ba", "mixture": {"c4": 0.8, "starcoder": 0.3}}],
            "sum to 1.1, they must sum to 1 @ $.schedule.phases[0]",
        ),
        ([{"start": "5ba", "mixture": {"c4": 1.0}}], "@ $.schedule.phases[0]"),
        ([{"start": 0, "mixture": {"c4": -0.5, "starcoder": 1.5}}], "@ $.schedule.phases[0].mixture.c4"),
        (
            [{"start": 0, "mixture": {"c4": 1.0}}, {"start": "140ba", "mixture": {"c4": 1.0}}],
            "@ $.schedule.phases[1]",
        ),
        ("none", "@ $.schedule"),
    ],
)
def test_wrong_schedules_name_their_place(tmp_path: Path, phases: Any, expected: str) -> None:
    assert any(expected in problem for problem in problems_of(write(tmp_path, {"schedule": {"phases": phases}})))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"max_duration": "1hr"}, "found '1hr' @ $.max_duration"),
        ({"max_duration": "0.5dur"}, "@ $.max_duration"),
        ({"save_interval": "0ba"}, "at least one step, found '0ba' @ $.save_interval"),
        ({"eval": {"interval": "soon"}}, "found 'soon' @ $.eval.interval"),
        ({"model": {"name": "tiny", "n_heads": 3}}, "must divide d_model (64), found 3 @ $.model.n_heads"),
        ({"autoresume": True}, "save_folder, which is not given @ $.autoresume"),
        ({"service": {"url": "http://x", "sync_interval": 10, "lead": 12}, "num_workers": 2}, "at least 14"),
        ({"corpora": {**GOOD["corpora"], "c4": {"local": "x", "then": "starcode"}}}, "@ $.corpora.c4.then"),
        ({"schedule": {"phases": [{"start": 0, "mixture": {"c4": 0.5, "kb": {"weight": 0.5, "parts": {"qa": 1.0}}}}]}},
         "unknown corpus 'qa'; the corpora are c4, starcoder @ $.schedule.phases[0].mixture.kb.parts.qa"),
    ],
)  # fmt: skip
def test_inconsistent_values_name_their_place(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    problems = problems_of(write(tmp_path, changes))
    assert len(problems) == 1, problems
    assert expected in problems[0]


@pytest.mark.parametrize("url", ["127.0.0.1:8321", "ftp://a", "http://", "http://me:secret@a"])
def test_an_address_that_is_none_is_refused_without_what_may_be_a_secret(tmp_path: Path, url: str) -> None:
    (problem,) = problems_of(write(tmp_path, {"service": {"url": url, "lead": 50}}))
    assert problem == "must be an address like http://127.0.0.1:8321, and no token in it @ $.service.url"


@pytest.mark.parametrize("token", ["secret\n", "secret or not", 12345])
def test_a_token_that_is_none_is_not_told(tmp_path: Path, token: Any) -> None:
    problems = problems_of(write(tmp_path, {"service": {"url": "http://a", "lead": 50, "token": token}}))
    assert "@ $.service.token" in problems[0]
    assert "secret" not in str(problems)
    assert "12345" not in str(problems)
    config = load(write(tmp_path, {"service": {"url": "http://a", "lead": 50}}))
    assert config.with_token("a-good-one").service.token == "a-good-one"
    with pytest.raises(ConfigError, match="SWITCHPOINT_TOKEN") as caught:
        config.with_token("secret\n")
    assert "secret" not in str(caught.value)


def test_overrides_reach_every_place(tmp_path: Path) -> None:
    config = load(
        write(tmp_path, {}),
        [
            "global_batch_size=64",
            "corpora.c4.local=/data/c4",
            "eval.interval=7ba",
            "optimizer.eps=1e-6",
            "schedule.phases[1].mixture={c4: 0.5, starcoder: 0.5}",
            "schedule.phases.1.start=50ba",
            "model=pythia-70m",
            "model.n_layers=3",
        ],
    )
    assert config.global_batch_size == 64
    assert config.corpora["c4"].local == Path("/data/c4")
    assert config.corpora["c4"].holdout_folder == Path("/data/holdout")
    assert config.eval is not None
    assert config.steps(config.eval.interval) == 7
    assert config.optimizer.eps == 1e-6
    assert config.base_schedule().weights(50)["starcoder"] == pytest.approx(0.5)
    assert config.base_schedule().weights(49).get("starcoder", 0.0) == 0.0
    assert (config.model.d_model, config.model.n_layers, config.model.d_ff) == (512, 3, 2048)


@pytest.mark.parametrize("override", ["global_batch_size", "=3", "run_name.x=3", "schedule.phases[9].start=3", "a=[1"])
def test_overrides_that_name_no_place(tmp_path: Path, override: str) -> None:
    assert len(problems_of(write(tmp_path, {}), override)) == 1


def test_unknown_overrides_are_unknown_keys(tmp_path: Path) -> None:
    problems = problems_of(write(tmp_path, {}), "corpora.c4.lokal=/data")
    assert problems == ["unknown key 'lokal', did you mean 'local'? @ $.corpora.c4.lokal"]


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("schedule:\n  c4: 1.0\n  c4: 0.5\n")
    assert "the key 'c4' stands twice in one section, again in line 3" in problems_of(path)[0]


@pytest.mark.parametrize(("text", "expected"), [("a: [", "is not usable as YAML"), ("- 1", "must hold a mapping")])
def test_files_that_hold_no_configuration(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert expected in problems_of(path)[0]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot read" in problems_of(tmp_path / "no.yaml")[0]


def test_a_file_over_a_base_is_checked_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path, {"eval": {"interval": "7ba", "num_samples": 3}})
    path = tmp_path / "over.yaml"
    path.write_text("base: cfg.yaml\nrun_name: over\neval: {interval: 9ba}\nsave_folder: 'runs/{run_name}'\n")
    config = load(path)
    assert config.eval is not None
    assert (config.run_name, config.eval.interval, config.eval.num_samples) == ("over", "9ba", 3)
    assert config.save_folder == Path("runs/over")
    path.write_text("base: cfg.yaml\nevil: {}\nschedule: {phases: [{start: 0, mixture: {c5: 1}}]}\n")
    assert problems_of(path) == [
        "unknown key 'evil', did you mean 'eval'? @ $.evil",
        "unknown corpus 'c5'; the corpora are c4, starcoder @ $.schedule.phases[0].mixture.c5",
    ]
    path.write_text("base: cgf.yaml\n")
    (problem,) = problems_of(path)
    assert problem == f"cannot read {tmp_path / 'cgf.yaml'}, the base of {path}: No such file or directory"


def test_further_files_lie_over_the_first_in_their_order(tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("global_batch_size: 8\neval: {num_samples: 5}\n")
    config = load(write(tmp_path, {}), ["global_batch_size=4", "eval.interval=3ba", str(over), "seed=1"])
    assert config.eval is not None
    assert (config.global_batch_size, config.seed, config.eval.interval, config.eval.num_samples) == (8, 1, "3ba", 5)
    assert "cannot read" in problems_of(write(tmp_path, {}), str(tmp_path / "no.yaml"))[0]
