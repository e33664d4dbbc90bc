"""A run as a picture: the mixture of every step above, how often each corpus has been read below.

The same plan gives the same bytes, whatever the machine is set to. Where weights change more often than can be seen (a
long ramp, thousands of revisions) a column shows the mean over its steps, which is exact; switchpoints and the ends of
ramps begin columns of their own.
"""

from collections.abc import Sequence
from io import BytesIO
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixer.comparing import pieces_in_force
from mixer.errors import MixerError
from mixer.plan import Forecast, Plan

# Paul Tol's "muted" scheme, whose nine colours any colour vision tells apart, in the order in which neighbours do so
# best; then the same with patterns and other lines.
COLORS = ("#88CCEE", "#882255", "#DDCC77", "#CC6677", "#332288", "#44AA99", "#999933", "#AA4499", "#117733")
PATTERNS = (("", "-"), ("////", "--"), ("||||", ":"), ("xxxx", "-."))
MAX_COLUMNS = 300
RAMP_COLUMNS = 50
MAX_LINES = 60  # switchpoints: drawn, and given columns of their own
LEGEND_ROWS = 24
MAX_MARKS = 5  # whole epochs that are marked
LINEAR_EPOCHS = 20  # if any corpus is read more often, the scale is linear up to 1 only, and 1 alone is marked

_F64 = NDArray[np.float64]


class Curve(NamedTuple):
    """Something that has a value at each of `steps`, which ascend, as a learning rate has."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]


def plot_plan(
    plan: Plan, path: str | Path, *, title: str, frontier: int | None = None, curve: Curve | None = None
) -> None:
    """Write the picture to `path`, in the format its ending says (.svg, .png, .pdf).

    Steps below `frontier` are marked as frozen; `curve` is drawn over the mixture, with a scale of its own. Raises
    MixerError without matplotlib or for an unknown ending, OSError where nothing can be written.
    """
    try:
        import matplotlib.style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MixerError("plots need matplotlib: install switchpoint[plot]") from error
    kind = Path(path).suffix.removeprefix(".") or "svg"
    picture = BytesIO()
    with matplotlib.style.context(
        ["default", {"svg.hashsalt": "switchpoint", "hatch.linewidth": 0.5, "text.parse_math": False}]
    ):
        figure = Figure(figsize=(11, 6.5), layout="constrained")
        _draw(figure, plan, title, frontier, curve)
        try:
            figure.savefig(picture, format=kind, dpi=120, metadata=_UNDATED.get(kind, {}))
        except ValueError as error:
            raise MixerError(f"cannot write {path}: {error}") from error
    try:
        Path(path).write_bytes(picture.getvalue())
    except OSError as error:
        Path(path).unlink(missing_ok=True)
        raise OSError(f"cannot write {path}: {error.strerror}") from error


_UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}


def _draw(figure: Any, plan: Plan, title: str, frontier: int | None, curve: Curve | None) -> None:
    forecast = plan.forecast()
    names = _in_order_of_use(plan, forecast)
    looks = _looks(len(names))
    heights = (3, 2, 1) if plan.schedule.batch_sizes else (3, 2)
    weights, epochs, *others = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _draw_weights(weights, plan, names, looks)
    _draw_epochs(epochs, plan, names, looks)
    for axes in others:
        _draw_batch_sizes(axes, plan)
    if curve:
        _draw_curve(weights, curve)
    _draw_steps((weights, epochs, *others), plan, frontier)
    num_steps = plan.schedule.num_steps
    weights.set(ylabel="share of each step", ylim=(0, 1), xlim=(0, num_steps))
    epochs.set(ylabel="times read")
    (weights, epochs, *others)[-1].xaxis.set_major_formatter(_scaled(num_steps))
    _add_tokens(weights, plan)
    figure.suptitle(title, fontsize="large")
    _add_legend(figure, weights, [f"{name}  {_times(forecast[name].epochs)}" for name in names])


def _in_order_of_use(plan: Plan, forecast: dict[str, Forecast]) -> list[str]:
    """The corpora that are read: those that come in first at the bottom, the larger below."""
    read = [name for name in plan.names if forecast[name].samples]
    return sorted(read, key=lambda name: (plan.step_of(name, 0), -forecast[name].samples, name))


def _looks(count: int) -> list[tuple[str, str, str]]:
    """(colour, hatch, line style) of each corpus, no two alike up to 36."""
    return [(color, *pattern) for pattern, color in islice(cycle(product(PATTERNS, COLORS)), count)]


def _draw_weights(axes: Any, plan: Plan, names: Sequence[str], looks: Sequence[tuple[str, str, str]]) -> None:
    edges, shares = _columns(plan, names)
    floor = np.zeros(len(edges))
    for share, (color, hatch, _) in zip(shares, looks, strict=True):
        top = floor + np.append(share, share[-1])
        axes.fill_between(
            edges, floor, top, step="post", facecolor=color, hatch=hatch, edgecolor="white", linewidth=0.3
        )
        floor = top


def _columns(plan: Plan, names: Sequence[str]) -> tuple[_F64, _F64]:
    """Edges of the columns [num_columns + 1] in steps, and each corpus's share of each [len(names), num_columns]."""
    pieces = list(pieces_in_force(plan))
    starts = np.array([start for start, _, _ in pieces], float)
    shares = np.array([[weights.get(name, 0.0) for _, _, weights in pieces] for name in names])
    edges = np.append(starts, plan.schedule.num_steps)
    if len(pieces) <= MAX_COLUMNS:
        return edges, shares
    # the weights summed over all steps below each edge are straight between the edges of pieces
    sums = np.concatenate([np.zeros((len(names), 1)), np.cumsum(shares * np.diff(edges), axis=1)], axis=1)
    columns = np.unique(np.concatenate([np.linspace(0, plan.schedule.num_steps, MAX_COLUMNS + 1).round(), *_own(plan)]))
    below = np.array([np.interp(columns, edges, one) for one in sums])
    return columns, np.diff(below, axis=1) / np.diff(columns)


def _own(plan: Plan) -> list[_F64]:
    """Where columns must begin: at switchpoints, and often within ramps."""
    if len(plan.schedule.switchpoints) > MAX_LINES:
        return []
    ends = [(p.start, min(p.start + p.ramp.length, p.end) if p.ramp else p.start) for p in plan.schedule.phases]
    return [np.linspace(start, end, RAMP_COLUMNS + 1 if start < end else 1).round() for start, end in ends]


def _draw_epochs(axes: Any, plan: Plan, names: Sequence[str], looks: Sequence[tuple[str, str, str]]) -> None:
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.ticker import StrMethodFormatter

    edges = np.concatenate([np.linspace(0, plan.schedule.num_steps, 201).round(), *_own(plan)])
    steps = np.unique(edges).astype(int).tolist()
    found = [plan.forecast(step) for step in steps]
    outlined = [Stroke(linewidth=2.4, foreground="0.35"), Normal()]  # pale colours must be seen on white
    linear = max(forecast.epochs for forecast in found[-1].values()) <= LINEAR_EPOCHS
    marked: set[int] = set()
    for name, (color, _, line) in zip(names, looks, strict=True):
        read = [at[name].epochs for at in found]
        axes.plot(steps, read, color=color, linestyle=line, linewidth=1.6, path_effects=outlined)
        for step, epoch in _repeats(plan, name, MAX_MARKS if linear else 1):
            axes.plot([step], [epoch], marker="v", color=color, mec="black", mew=0.6, clip_on=False, zorder=3)
            marked.add(epoch)
    for epoch in marked:
        axes.axhline(epoch, color="black", linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    if not linear:
        axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.set_ylim(bottom=0)


def _draw_batch_sizes(axes: Any, plan: Plan) -> None:
    from matplotlib.ticker import StrMethodFormatter

    rows = plan.schedule.batching.rows
    steps, sizes = [row.start for row in rows], [row.size for row in rows]
    axes.step([*steps, plan.schedule.num_steps], [*sizes, sizes[-1]], where="post", color="black", linewidth=1.4)
    axes.set(ylabel="batch size", ylim=(0, 1.15 * max(sizes)))
    if len(sizes) <= MAX_MARKS:
        axes.set_yticks(sorted({0, *sizes}))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _draw_curve(axes: Any, curve: Curve) -> None:
    """Over the areas, outlined so that it is seen on any of their colours."""
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.ticker import StrMethodFormatter

    other = axes.twinx()
    outlined = [Stroke(linewidth=4.5, foreground="white"), Normal()]
    other.plot(curve.steps, curve.values, color="black", linewidth=1.8, path_effects=outlined)
    other.set(ylabel=curve.label, ylim=(0, 1.06 * max(curve.values, default=0) or 1))
    other.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _repeats(plan: Plan, name: str, most: int) -> list[tuple[int, int]]:
    """(step, n) where a corpus has been read n times and begins again, n up to `most`."""
    order = plan.order_of(name)
    steps = [plan.step_of(name, order.start_of(epoch)) for epoch in range(1, most + 1)]
    return [(step, epoch) for epoch, step in enumerate(steps, start=1) if step is not None]


def _draw_steps(panels: Sequence[Any], plan: Plan, frontier: int | None) -> None:
    switchpoints = plan.schedule.switchpoints
    drawn = len(switchpoints) <= MAX_LINES
    for axes in panels:
        for step in switchpoints if drawn else ():
            axes.axvline(step, color="black", linewidth=0.8, linestyle=(0, (4, 3)))
        if frontier:
            axes.axvline(frontier, color="black", linewidth=1.8)
    if frontier:
        near_end = frontier > plan.schedule.num_steps // 2
        panels[1].annotate(
            "← frozen" if near_end else "may still change →",
            (frontier, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if near_end else 4, -12),
            textcoords="offset points",
            ha="right" if near_end else "left",
        )
    panels[-1].set_xlabel("step" if drawn else f"step (with {len(switchpoints):,} switchpoints)")


def _add_tokens(axes: Any, plan: Plan) -> None:
    """A second scale of the steps, above."""
    schedule, total = plan.schedule, plan.schedule.num_tokens
    starts = np.array([row.start for row in schedule.batching.rows] + [schedule.num_steps], float)
    before = np.array([schedule.tokens_before(int(step)) for step in starts], float)
    unit, size = next(
        ((u, s) for u, s in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)) if total >= 2 * s), ("", 1.0)
    )
    forward, back = (lambda x: np.interp(x, starts, before / size)), (lambda x: np.interp(x, before / size, starts))
    above = axes.secondary_xaxis("top", functions=(forward, back))
    above.set_xlabel(f"{unit} tokens".strip())


def _scaled(num_steps: int) -> Any:
    """Ticks of steps with thousands apart, 10^9 in words."""
    from matplotlib.ticker import FuncFormatter

    unit, size = next(((u, s) for u, s in (("B", 10**9), ("M", 10**6)) if num_steps >= 20 * s), ("", 1))
    return FuncFormatter(lambda step, _: f"{step / size:,.6g}{unit if step else ''}")


def _add_legend(figure: Any, axes: Any, labels: Sequence[str]) -> None:
    """Areas from the top down, as they are stacked."""
    areas = list(axes.collections)[: len(labels)]
    figure.legend(
        areas[::-1],
        labels[::-1],
        loc="outside right upper",
        frameon=False,
        ncols=-(-len(labels) // LEGEND_ROWS),
        title="times read by the end\n▼ begins again",
        alignment="left",
    )


def _times(epochs: float) -> str:
    return f"{epochs:.2f}×" if epochs < 10 else f"{epochs:,.0f}×"
