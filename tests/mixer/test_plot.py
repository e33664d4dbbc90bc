"""mixer.plot: the same bytes for the same plan, and columns that say what the schedule says."""

import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from matplotlib.figure import Figure

from mixer import MixerError, Plan, Schedule
from mixer.plot import MAX_COLUMNS, MAX_LINES, RAMP_COLUMNS, Curve, _add_tokens, _columns, _looks, _repeats, plot_plan
from tests.strategies import schedules


def plan_of(phases: list[dict[str, object]], num_steps: int = 1000, samples: int = 2000) -> Plan:
    schedule = Schedule.from_dict({"phases": phases}, num_steps=num_steps, global_batch_size=8, seq_len=16)
    return Plan(schedule, {name: [samples] for name in schedule.names}, data_seed=1)


TWO = [
    {"start": 0, "mixture": {"c4": 1.0}},
    {"start": 400, "mixture": {"c4": 0.5, "code": 0.5}, "ramp": {"shape": "cosine", "length": 100}},
]


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_plan_gives_the_same_bytes(tmp_path: Path, ending: str) -> None:
    """Whatever the day, and whatever the user has set."""
    paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
    plot_plan(plan_of(TWO), paths[0], title="run", frontier=300)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "none", "lines.linewidth": 9, "savefig.dpi": 20}):
        plot_plan(plan_of(TWO), paths[1], title="run", frontier=300)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not re.search(rb"20[0-9]{2}-[01][0-9]-|CreationDate", paths[0].read_bytes())


def test_what_is_in_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "run.svg"
    plot_plan(plan_of(TWO), path, title="a $run$ of <two>", frontier=300)
    ET.parse(path)
    texts = re.findall(r"<!-- (.*?) -->", path.read_text())
    drawn = plan_of(TWO).forecast()
    for text in ("step", "k tokens", "share of each step", "times read", "may still change →", "a $run$ of &lt;two&gt;",
                 f"c4  {drawn['c4'].epochs:.2f}×", f"code  {drawn['code'].epochs:.2f}×"):  # fmt: skip
        assert text in texts


@pytest.mark.parametrize(
    ("num_corpora", "num_phases", "num_steps"), [(1, 1, 1), (1, 3, 10), (8, 5, 1000), (30, 7, 10**9), (3, 3000, 10**9)]
)
def test_any_number_of_corpora_phases_and_steps(
    tmp_path: Path, num_corpora: int, num_phases: int, num_steps: int
) -> None:
    rng = np.random.default_rng(num_corpora)
    phases = []
    for index in range(num_phases):
        parts = rng.integers(0, 100, num_corpora)
        parts[0] += 1
        mixture = {f"corpus-{n}": part / int(parts.sum()) for n, part in enumerate(parts.tolist())}
        phases.append({"start": index * (num_steps // num_phases), "mixture": mixture})
    path = tmp_path / "run.svg"
    plot_plan(plan_of(phases, num_steps), path, title="run")
    assert path.stat().st_size < 1_000_000
    many = num_phases > MAX_LINES
    assert (f"(with {num_phases - 1:,} switchpoints)" in path.read_text()) == many


@given(schedule=schedules())
def test_columns_are_the_schedule(schedule: Schedule) -> None:
    plan = Plan(schedule, {name: [10_000] for name in schedule.names}, data_seed=1)
    edges, shares = _columns(plan, plan.names)
    assert (edges[0], edges[-1]) == (0, schedule.num_steps)
    for step in range(schedule.num_steps):
        column = int(np.searchsorted(edges, step, side="right")) - 1
        assert dict(zip(plan.names, shares[:, column], strict=True)) == {
            name: plan.weights(step).get(name, 0.0) for name in plan.names
        }


def test_columns_of_long_ramps_are_means_and_begin_where_something_does() -> None:
    ramp = {"shape": "linear", "length": 3000}
    phases = [
        {"start": 0, "mixture": {"c4": 1.0}},
        {"start": 3007, "mixture": {"c4": 0.5, "code": 0.5}, "ramp": ramp},
        {"start": 9001, "mixture": {"code": 1.0}},
    ]
    plan = plan_of(phases, num_steps=10_000)
    edges, shares = _columns(plan, plan.names)
    assert len(edges) <= MAX_COLUMNS + RAMP_COLUMNS + 4
    assert {3007, 6007, 9001} <= set(edges)
    weights = np.array([[plan.weights(step).get(name, 0.0) for name in plan.names] for step in range(10_000)])
    for index, (start, end) in enumerate(itertools.pairwise(edges.astype(int))):
        np.testing.assert_allclose(shares[:, index], weights[start:end].mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(shares.sum(axis=0), 1)


@settings(max_examples=30)
@given(schedule=schedules())
def test_a_mark_stands_where_a_corpus_begins_again(schedule: Schedule) -> None:
    plan = Plan(schedule, {name: [7, 4] for name in schedule.names}, data_seed=1)
    for name, forecast in plan.forecast().items():
        marks = _repeats(plan, name, 3)
        assert (marks[0][0] if marks else None) == forecast.first_repeat_step
        for step, epoch in marks:
            assert plan.drawn_before(step)[name] <= epoch * 11 < plan.drawn_before(step + 1)[name]


def test_the_scale_of_tokens_follows_the_batch_size() -> None:
    figure = Figure()
    axes = figure.subplots()
    schedule = plan_of(TWO).schedule.with_batch_size(50, 1000)
    axes.set_xlim(0, schedule.num_steps)
    _add_tokens(axes, Plan(schedule, {name: [10_000] for name in schedule.names}, data_seed=1))
    figure.draw_without_rendering()
    low, high = axes.child_axes[0].get_xlim()
    size = {"k tokens": 1e3, "M tokens": 1e6}[axes.child_axes[0].get_xlabel()]
    assert (low, round(high * size)) == (0, schedule.num_tokens)


def test_no_two_of_thirty_corpora_look_alike() -> None:
    looks = _looks(36)
    assert len({(color, hatch) for color, hatch, _ in looks}) == len({(color, line) for color, _, line in looks}) == 36


def test_colours_are_told_apart_by_any_eye() -> None:
    """Distances (CIE 1976) of neighbours, as seen without one kind of cone (Machado, Oliveira and Fernandes 2009)."""
    seen_as = {
        "all": np.eye(3),
        "no long": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "no middle": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "no short": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for matrix in seen_as.values():
        labs = []
        for color, _, _ in _looks(9):
            rgb = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
            linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
            xyz = to_xyz @ np.clip(np.array(matrix) @ linear, 0, 1) / np.array([0.9505, 1, 1.089])
            x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
            labs.append(np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)]))
        assert min(np.linalg.norm(one - other) for one, other in itertools.pairwise([*labs, labs[0]])) > 30
        assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(labs, 2)) > 15


def test_an_ending_that_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(MixerError, match=r"cannot write .*plan\.foo: Format 'foo' is not supported"):
        plot_plan(plan_of(TWO), tmp_path / "plan.foo", title="run")
    assert list(tmp_path.iterdir()) == []


def test_a_curve_and_the_batch_sizes_are_drawn_with_scales_of_their_own(tmp_path: Path) -> None:
    plan = plan_of(TWO)
    plan = Plan(plan.schedule.with_batch_size(300, 24), {name: [2000] for name in plan.names}, data_seed=1)
    path = tmp_path / "run.svg"
    curve = Curve("learning rate", list(range(1000)), [step / 1e6 for step in range(1000)])
    plot_plan(plan, path, title="run", curve=curve)
    texts = re.findall(r"<!-- (.*?) -->", path.read_text())
    for text in ("learning rate", "batch size", "24", "8", "0.001", "0.0008"):
        assert text in texts
    plot_plan(plan_of(TWO), path, title="run")
    assert not {"learning rate", "batch size"} & set(re.findall(r"<!-- (.*?) -->", path.read_text()))
