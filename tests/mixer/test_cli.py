"""`switchpoint-mixer` as a user runs it: tables, JSON, one-line errors, exit codes."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixer.cli import main
from mixer.runfile import load_run
from service.settings import Settings
from service.tokens import parse_tokens
from tests.mixer.served import FACTS, PHASES
from tests.mixer.served import SIZES as SIZES_SERVED
from tests.service.processes import serve_in_thread

CONFIG = """
run_name: paper
data_seed: 17
max_duration: 61035ba
global_batch_size: 1024
seq_len: 2048
corpora: {c4: {}, flan: {max_epochs: 2}}
schedule:
  phases:
    - {start: 0ba, mixture: {c4: 1.0}}
    - {start: 40000ba, mixture: {c4: 0.85, flan: 0.15}}
"""
SIZES = ["--size", "c4=160e9tok", "--size", "flan=3.5e9tok"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "cfg.yaml"
    path.write_text(CONFIG)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, err = run(capsys, *arguments, *SIZES, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_show(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", config, *SIZES)
    assert code == 0
    assert "paper: 61,035 steps x 1,024 samples x 2,048 tokens = 128.0B tokens" in out
    assert "40,000     83.9B   c4 0.85, flan 0.15" in out
    assert ask(capsys, "show", config)["phases"][1]["mixture"] == {"c4": 0.85, "flan": 0.15}


def test_forecast_warns_of_repetition(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "forecast", config, *SIZES)
    assert "warning: flan is read again from step 51,126 on" in out
    flan = ask(capsys, "forecast", config)["corpora"]["flan"]
    assert round(flan["epochs"], 1) == 1.9
    assert ask(capsys, "forecast", config, "--step", 40_000)["corpora"]["flan"]["samples"] == 0


def test_batch_and_locate_are_inverse(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = ask(capsys, "batch", config, 50_000)
    slot = batch["corpus"].index("flan")
    assert {"step": 50_000, "slot": slot} in ask(capsys, "locate", config, "flan", batch["sample_id"][slot])
    _, out, _ = run(capsys, "batch", config, 50_000, *SIZES)
    assert "step 50,000: 870 of c4, 154 of flan" in out
    assert "… and 1,008 more (--all)" in out


def test_steps_in_any_unit(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in ("50000", "50000ba", "104.857e9tok", "0.8192dur"):
        assert ask(capsys, "batch", config, step)["step"] == 50_000
        assert ask(capsys, "forecast", config, "--step", step)["step"] == 50_000
    slot = ask(capsys, "batch", config, 50_000)["corpus"].index("flan")
    sample = ask(capsys, "batch", config, 50_000)["sample_id"][slot]
    found = ask(capsys, "locate", config, "flan", sample, "--start", "50000ba", "--end", "50001")
    assert found == [{"step": 50_000, "slot": slot}]
    assert "read once from 50,000 to 50,001" in run(
        capsys, "locate", config, "flan", sample, *SIZES, "--start", "50000ba", "--end", "50001"
    )[1]  # fmt: skip
    code, _, err = run(capsys, "forecast", config, *SIZES, "--step", "soon")
    assert (code, err) == (
        2, "switchpoint-mixer: expected a time like '6000ba', '12.6e9tok' or '0.1dur', found 'soon'\n"
    )  # fmt: skip


def test_batch_sizes_are_shown_and_times_in_tokens_are_reached_with_them(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = "  batch_sizes: [{start: 1000ba, global_batch_size: 2048}, {start: 30e9tok, global_batch_size: 4096}]\n"
    config.write_text(CONFIG.replace("61035ba", "150e9tok").replace("40000ba", "20000ba") + later)
    code, out, _ = run(capsys, "show", config, *SIZES)
    assert code == 0
    plan = load_run(config, {"c4": "160e9tok", "flan": "3.5e9tok"}).plan()
    assert f"paper: {plan.schedule.num_steps:,} steps x 1,024 to 4,096 samples x 2,048 tokens = 150.0B tokens" in out
    assert plan.schedule.tokens_before(plan.schedule.num_steps - 1) < 150e9 <= plan.schedule.num_tokens
    rows = [line.split() for line in out.splitlines()[-4:]]
    assert rows[1:] == [["0", "0", "1,024"], ["1,000", "2.1B", "2,048"], ["7,653", "30.0B", "4,096"]]
    assert len(ask(capsys, "batch", config, "30e9tok")["corpus"]) == 4096
    assert ask(capsys, "show", config)["batch_sizes"][1] == {"start": "7653ba", "global_batch_size": 4096}
    code, _, err = run(capsys, "forecast", config, *SIZES, "--earliest-start", "flan", "--ramp", "linear:1e9tok")
    assert (code, "give it in ba" in err) == (2, True)
    asked = ["--what-if", "flan=0.01@10000ba", "--ramp", "linear:8388609tok"]
    assert ask(capsys, "forecast", config, *asked)["what_if"][0]["ramp"] == {"shape": "linear", "length": 2}


def test_diff_says_where_batch_sizes_part(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG + "  batch_sizes: [{start: 60000ba, global_batch_size: 2048}]\n")
    _, out, _ = run(capsys, "diff", config, other, *SIZES)
    assert out.splitlines()[2:5] == [
        "the weights are the same in every step",
        "the batch sizes differ from step 60,000 on",
        "below step 60,000 both read the same samples in the same slots",
    ]


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_plot_writes_a_picture(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    code, out, _ = run(capsys, "plot", config, *SIZES, "--out", tmp_path / f"plan.{ending}")
    assert (code, out) == (0, f"{tmp_path / f'plan.{ending}'}\n")
    assert (tmp_path / f"plan.{ending}").stat().st_size > 5000


# -- questions


def test_what_if_shows_what_repeats_and_what_would_not(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(CONFIG.partition("    - {start: 40000ba")[0])
    asked = ["--what-if", "flan=0.15@40000ba", "--what-if", "flan=0.05@83.886e9tok"]
    code, out, _ = run(capsys, "forecast", config, *SIZES, *asked)
    assert code == 0
    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["flan", "0.15", "40,000", "83.9B", "3,230,976", "6.6B", "1.891", "51,126", "49,909", "0.079340631"],
        ["flan", "0.05", "40,000", "83.9B", "1,076,992", "2.2B", "0.630", "never", "27,657", "0.079340631"],
    ]
    assert out.splitlines()[3:] == ["warning: flan at 0.15 from step 40,000 on is read 1.9 times"]
    found = ask(capsys, "forecast", config, *asked)["what_if"]
    assert [(item["corpus"], item["earliest_start"], item["largest_weight"]) for item in found] == [
        ("flan", 49_909, 0.079340631), ("flan", 27_657, 0.079340631)
    ]  # fmt: skip
    assert (found[0]["first_repeat_step"], found[0]["repeats"]) == (51_126, {"flan": 51_126})


def test_the_answers_are_what_a_schedule_can_be_written_with(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = CONFIG.partition("    - {start: 40000ba")[0]
    config.write_text(base)
    questions = ["--earliest-start", "flan=0.15", "--largest-weight", "flan@40000ba", "--ramp", "linear:0.01dur"]
    found = ask(capsys, "forecast", config, *questions)
    start, weight = found["earliest_start"][0]["start"], found["largest_weight"][0]["weight"]
    assert found["earliest_start"][0]["ramp"] == {"shape": "linear", "length": 611}
    for begin, share in ((start, 0.15), (40_000, weight)):
        mixture = {"c4": round(1 - share, 9), "flan": share}
        phase = {"start": f"{begin}ba", "mixture": mixture, "ramp": {"shape": "linear", "length": "611ba"}}
        config.write_text(f"{base}    - {json.dumps(phase)}\n")
        flan = ask(capsys, "forecast", config)["corpora"]["flan"]
        assert flan["first_repeat_step"] is None
        assert 0.9999 < flan["epochs"] <= 1


def test_a_schedule_that_would_be_refused_can_be_asked_about(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(CONFIG.replace("max_epochs: 2", "max_epochs: 1"))
    assert run(capsys, "forecast", config, *SIZES)[0] == 2
    _, out, _ = run(capsys, "forecast", config, *SIZES, "--earliest-start", "flan", "--largest-weight", "flan")
    assert "flan    as written          49,909         104.7B" in out
    assert "flan       40,000     0.079340631" in out
    more = ask(capsys, "forecast", config, "--earliest-start", "flan", "--max-epochs", "2")
    assert more["earliest_start"][0]["start"] < 40_000


def test_questions_without_an_answer_say_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--size", "c4=160e9tok", "--size", "flan=100"]
    asked = ["--earliest-start", "flan=1", "--what-if", "flan=0.5@3ba", "--largest-weight", "flan@20000ba"]
    code, out, _ = run(capsys, "forecast", config, *sizes, *asked, "--until", "50000ba")
    assert code == 0
    assert "flan: even at the smallest weight it would be read again" in out
    assert "flan: even in its last step alone it would be read again" in out
    assert "none" in out
    _, out, _ = run(capsys, "forecast", config, *sizes, *asked, "--until", "50000ba", "--json")
    found = json.loads(out)
    assert (found["earliest_start"][0]["start"], found["largest_weight"][0]["weight"]) == (None, None)
    assert found["what_if"][0]["earliest_start"] is None


def test_an_answer_tells_what_else_repeats(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--size", "c4=100e9tok", "--size", "flan=3.5e9tok"]
    _, out, _ = run(capsys, "forecast", config, *sizes, "--what-if", "flan=0.05@40000ba")
    assert "note: with flan at 0.05 from step 40,000 on, c4 is read again from step 48,088 on" in out


def test_what_is_needed_with_bytes_of_what_is_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, sizes in (("c4", [50] * 10), ("math", [20, 17])):
        shards = [
            {"column_names": ["tokens"], "column_encodings": ["ndarray:uint16:16"], "samples": size,
             "raw_data": {"basename": f"shard.{number:05}.mds", "bytes": 100 + 36 * size}}
            for number, size in enumerate(sizes)
        ]  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.json").write_text(json.dumps({"version": 2, "shards": shards}))
    path = tmp_path / "small.yaml"
    facts = "data_seed: 1\nmax_duration: 50ba\nglobal_batch_size: 10\nseq_len: 16\nshuffle_window: 2\n"
    local = f"corpora: {{c4: {{local: {tmp_path / 'c4'}}}, math: {{local: {tmp_path / 'math'}}}, code: {{}}}}\n"
    phases = "schedule: {phases: [{start: 0ba, mixture: {c4: 0.9, math: 0.1}}]}\n"
    path.write_text(facts + local + phases)

    def needed(step: str) -> Any:
        code, out, _ = run(capsys, "forecast", path, "--size", "code=90", "--needed-by", step, "--json")
        assert code == 0
        return json.loads(out)["needed_by"]["corpora"]

    at_end, at_half = needed("50ba"), needed("25")
    assert at_end["math"] == {
        "samples": 37, "reads": 50, "tokens": 800, "epochs": 50 / 37, "shards": 2, "num_shards": 2,
        "bytes": 200 + 36 * 37,
    }  # fmt: skip
    assert (at_end["code"]["shards"], at_end["code"]["bytes"]) == (0, None)
    assert 225 / 50 <= at_half["c4"]["shards"] <= 225 / 50 + 2
    assert at_half["c4"]["bytes"] == at_half["c4"]["shards"] * 1900
    _, out, _ = run(capsys, "forecast", path, "--size", "code=90", "--needed-by", "0.5dur")
    assert "needed on disk below step 25 (whole shuffle windows):" in out


def test_a_forecast_and_questions_together(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, "forecast", config, "--step", "40000", "--needed-by", "40000")
    assert found["corpora"]["flan"]["samples"] == found["needed_by"]["corpora"]["flan"]["samples"] == 0
    _, out, _ = run(capsys, "forecast", config, *SIZES, "--step", "40000", "--earliest-start", "flan")
    assert out.index("below step 40,000:") < out.index("earliest start")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--what-if", "flan=0.1"], "expected NAME=WEIGHT@STEP like math=0.12@20000ba, found 'flan=0.1'"),
        (["--what-if", "flan@3ba"], "expected NAME=WEIGHT@STEP"),
        (["--what-if", "flan=2@3ba"], "a weight is a number from 1e-9 to 1 like 0.12, found '2'"),
        (["--earliest-start", "flan=0"], "a weight is a number from 1e-9 to 1"),
        (["--earliest-start", "flan=1e-99"], "a weight is a number from 1e-9 to 1"),
        (["--earliest-start", "flan=a lot"], "found 'a lot'"),
        (["--ramp", "step:5ba"], "expected linear:500ba or cosine:500ba, found 'step:5ba'"),
        (["--ramp", "linear"], "expected linear:500ba"),
        (["--max-epochs", "0"], "expected a whole number of at least 1, found '0'"),
    ],
)
def test_calls_that_are_wrong(config: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["forecast", str(config), *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--what-if", "flam=0.1@3ba"], "unknown corpus 'flam', known are c4, flan"),
        (["--what-if", "flan=0.1@70000"], "'flan' cannot be used in steps 70000 to 61035"),
        (["--what-if", "flan=0.1@soon"], "found 'soon'"),
        (["--largest-weight", "flan@3ba", "--until", "2ba"], "steps 3 to 2"),
        (["--earliest-start", "flan=0.1", "--ramp", "linear:0ba"], "a ramp takes at least one step"),
        (["--needed-by", "61036"], "step 61036 is outside of the run"),
    ],
)
def test_questions_that_cannot_be_asked(
    config: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, out, err = run(capsys, "forecast", config, *SIZES, *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


# -- a ledger, a service


def test_a_ledger_is_shown_with_its_revisions(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", ledger)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "live: 100 steps x 16 samples x 32 tokens = 51,200 tokens"
    assert lines[1] == "revision 2 in force; 40 steps trained; frozen below step 50"
    assert [line.split()[0] for line in lines[3:6]] == ["0", "60", "80"]
    assert lines[7].split() == ["revision", "from", "step", "author", "made", "reason"]
    assert "superseded: the trainer passed step 30" in lines[8]
    assert lines[9].split()[:3] == ["2", "80", "ada"]
    _, out, _ = run(capsys, "show", ledger, "--json")
    found = json.loads(out)
    assert (found["revision"], found["frontier"], found["step"]) == (2, 50, 40)
    assert [bool(revision["superseded"]) for revision in found["revisions"]] == [True, False]


def test_a_run_that_is_served_answers_as_its_ledger_does(
    server: str, ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{server}/v1/runs/live"
    for words in (
        ["show"], ["forecast", "--step", 70, "--json"], ["forecast", "--needed-by", "70ba"], ["batch", "85"],
        ["locate", "code", "5"], ["forecast", "--largest-weight", "code@80ba"],
    ):  # fmt: skip
        answers = [run(capsys, words[0], source, *words[1:]) for source in (address, ledger)]
        assert answers[0] == answers[1]
        assert answers[0][0] == 0
    out = tmp_path / "live.svg"
    assert run(capsys, "plot", address, "--out", out)[0] == 0
    assert "← frozen" in out.read_text() or "may still change" in out.read_text()


def test_questions_about_a_run_leave_alone_what_is_frozen(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "forecast", ledger, "--what-if", "code=0.5@49ba")
    assert (code, err.count("\n")) == (2, 1)
    assert "what may change are steps 50 to 100" in err
    _, out, _ = run(capsys, "forecast", ledger, "--earliest-start", "code=0.1", "--json")
    assert json.loads(out)["earliest_start"][0]["start"] == 50


def test_diff_of_a_file_and_a_run_that_is_served(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    config = {**FACTS, "run_name": "planned", "max_duration": "100ba", "corpora": {name: {} for name in SIZES_SERVED}}
    path.write_text(yaml.safe_dump({**config, "schedule": {"phases": PHASES}}))
    sizes = [word for name, size in SIZES_SERVED.items() for word in ("--size", f"{name}={size}")]
    address = f"{server}/v1/runs/live"
    code, out, _ = run(capsys, "diff", path, address, *sizes)
    assert code == 0
    lines = out.splitlines()
    assert lines[:2] == [f"A: planned ({path})", f"B: live ({address})"]
    assert "the weights differ from step 80 on:" in lines
    assert "  80         100  c4 0.8, code 0.2  c4 0.5, code 0.5" in lines
    assert "below step 80 both read the same samples in the same slots" in lines
    code_line = next(line for line in lines if line.startswith("  code"))
    assert code_line.split() == ["code", "112", "208", "112", "0", "96", "(3,072)", "0.160", "0.297", "never", "never"]
    _, out, _ = run(capsys, "diff", address, address, "--json")
    same = json.loads(out)
    assert (same["first_difference"], same["stretches"], same["corpora"]["code"]["only_b"]) == (None, [], 0)
    early = json.loads(run(capsys, "diff", path, address, *sizes, "--step", "80", "--json")[1])
    assert early["corpora"]["code"]["only_b"] == 0
    assert run(capsys, "diff", address, address)[1].splitlines()[2] == "the weights are the same in every step"


def test_diff_shortens_what_is_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for name, share in (("a", 0.5), ("b", 0.25)):
        phases = [{"start": n, "mixture": {"c4": 1 - share * (n % 2), "code": share * (n % 2)}} for n in range(40)]
        config = {**FACTS, "max_duration": "40ba", "corpora": {name: {} for name in SIZES_SERVED}}
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump({**config, "schedule": {"phases": phases}}))
    sizes = ["--size", "c4=500", "--size", "code=100"]
    _, out, _ = run(capsys, "diff", *paths, *sizes)
    assert "… and 4 more (--all)" in out
    assert "more" not in run(capsys, "diff", *paths, *sizes, "--all")[1]


def test_sizes_of_a_run_are_its_own(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "show", ledger, "--size", "c4=5000")
    assert (code, err) == (2, f"switchpoint-mixer: {ledger} knows the sizes of its corpora: leave --size out\n")


def test_the_token_comes_from_the_environment_and_is_never_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "a-token-of-sixteen-or-more"
    with serve_in_thread(Settings(database=tmp_path / "runs.db", tokens=parse_tokens(f"read:ada:{secret}"))) as url:
        monkeypatch.setenv("SWITCHPOINT_TOKEN", secret)
        code, out, err = run(capsys, "show", url)
        assert (code, out) == (2, "")
        assert err == f"switchpoint-mixer: say which run: {url}/v1/runs/ID, or its name; there are none\n"
        monkeypatch.setenv("SWITCHPOINT_TOKEN", f"{secret[:-1]}?")
        _, _, err = run(capsys, "show", url)
        assert "SWITCHPOINT_TOKEN" in err
        assert secret[:-1] not in err
        monkeypatch.setenv("SWITCHPOINT_TOKEN", " ")
        assert "wants a token" in run(capsys, "show", url)[2]


def test_a_service_that_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    code, out, err = run(capsys, "show", f"http://127.0.0.1:{port}")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"cannot reach http://127.0.0.1:{port}" in err


# -- bad input


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c4: 0.85", "c4: 0.75", "weights sum to 0.9, they must sum to 1 @ $.schedule.phases[1].mixture"),
        ("{c4: 0.85, flan: 0.15}", "{c4: 0.85, flam: 0.15}", "unknown corpus 'flam', did you mean 'flan'?"),
        ("max_epochs: 2", "max_epochs: 1",
         "corpus 'flan' would be read more than max_epochs=1 times from step 51126 on"),
        ("61035ba", "soon", "'6000ba', '12.6e9tok' or '0.1dur', found 'soon' @ $.max_duration"),
        ("seq_len: 2048", "seq_len: many", "found 'many' @ $.seq_len"),
        ("schedule:", "shedule:", "unknown key 'shedule', did you mean 'schedule'? @ $.shedule"),
        ("run_name: paper", "run_name: [", "is not usable as YAML"),
        ("data_seed: 17", "data_seed: abc", "found 'abc' @ $.data_seed"),
        ("data_seed: 17", "", "this key is missing @ $.data_seed"),
        ("data_seed: 17", "data_seed: 17\ndata_seed: 18",
         "the key 'data_seed' stands twice in one section, again in line 4"),
        ("data_seed: 17", "shuffle_windw: 8\ndata_seed: 17",
         "unknown key 'shuffle_windw', did you mean 'shuffle_window'?"),
        ("max_epochs: 2", "max_epoch: 2",
         "unknown key 'max_epoch', did you mean 'max_epochs'? @ $.corpora.flan.max_epoch"),
        ("max_epochs: 2", "max_epochs: x", "found 'x' @ $.corpora.flan.max_epochs"),
        ("max_epochs: 2", "then: c5", "unknown corpus 'c5', known are c4, flan, or 'refuse' @ $.corpora.flan.then"),
    ],
)  # fmt: skip
def test_bad_files_get_one_line_and_exit_code_2(
    config: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    config.write_text(CONFIG.replace(old, new))
    code, out, err = run(capsys, "show", config, *SIZES)
    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_file_in_another_encoding(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_bytes(CONFIG.replace("paper", "pâper").encode("latin-1"))
    assert "is not usable as YAML: 'utf-8' codec can't decode" in run(capsys, "show", config, *SIZES)[2]


def test_a_picture_in_no_known_format(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "plot", config, *SIZES, "--out", tmp_path / "plan.foo")
    assert code == 2
    assert "plan.foo" in err
    assert not (tmp_path / "plan.foo").exists()


def test_bad_calls(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(capsys, "show", "nowhere.yaml")[2]
        == "switchpoint-mixer: cannot read nowhere.yaml: No such file or directory\n"
    )
    assert "give its size with --size c4=12e9tok" in run(capsys, "show", config)[2]
    assert "has no corpus 'c5'" in run(capsys, "show", config, *SIZES, "--size", "c5=1")[2]
    assert "step 61035 is outside of the run" in run(capsys, "batch", config, 61_035, *SIZES)[2]
    with pytest.raises(SystemExit) as caught:
        main(["show", str(config), "--size", "c4"])
    assert caught.value.code == 2


def test_it_runs_as_a_module_and_its_help_has_examples() -> None:
    result = subprocess.run([sys.executable, "-m", "mixer", "--help"], capture_output=True, text=True, check=True)
    assert "switchpoint-mixer locate cfg.yaml starcoder 12345" in result.stdout
