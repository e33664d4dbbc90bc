"""The report's plots, as SVG that takes its colours from the page around it.

Text and axes are drawn in `currentColor`, grid lines in `var(--grid)`, so one picture serves light and dark pages;
`standalone` gives a file its own colours for both. Areas and lines have fixed colours that read well on either.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK, GRID = "#010203", "#040506"  # stand-ins that no palette holds, replaced in the finished SVG
COLOURS = {
    "c4": "#8a97a6",
    "starcoder": "#2f7fd1",
    "math": "#e8912d",
    "flan": "#2fa36b",
    "knowledgeqa": "#9a6bd0",
    "dclm": "#d5577a",
    "pycode": "#58b4e8",
    "gsm8k": "#b9770e",
}
EVALUATED_ONLY = ("pycode", "gsm8k")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "switchpoint",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
}


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Steps at which something happened."""

    num_steps: int
    switchpoint: int
    posted: int
    in_force: int
    killed_after: int
    resumed_at: int


Floats = NDArray[Any]
Shares = Mapping[str, Sequence[float] | Floats]  # corpus → share of each step


def plot_shares(target: Shares, realised: Shares, marks: Marks, *, window: int) -> str:
    """Two stacked areas over the steps: what was asked for, and what was read (mean of `window` steps)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 5.6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True)
        names = list(target)
        for axes, shares, title in ((top, target, "Target"), (bottom, realised, f"Realised, mean of {window} steps")):
            steps, values = _corners(np.array([shares[name] for name in names]))
            colours = [COLOURS[name] for name in names]
            areas = axes.stackplot(steps, values, colors=colours, labels=names, linewidth=0)
            axes.set(ylim=(0, 1), xlim=(0, marks.num_steps), ylabel="share of tokens")
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
            axes.set_title(title, pad=34 if axes is top else 6, fontweight="bold")
            _mark(axes, marks, labels=axes is top)
        bottom.set_xlabel("step")
        figure.legend(handles=areas, loc="outside lower center", ncols=len(names), handlelength=1, handleheight=1)
        return _svg(figure, "shares")


def plot_losses(losses: Mapping[str, Sequence[float]], steps: Sequence[int], marks: Marks) -> str:
    """Held-out loss of each corpus; corpora that are never trained on are dashed."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4.4), layout="constrained")
        axes = figure.subplots()
        ends = []
        for name, values in losses.items():
            dashed = "--" if name in EVALUATED_ONLY else "-"
            axes.plot(steps, values, dashed, color=COLOURS[name], linewidth=2, marker="o", markersize=3.2)
            ends.append((values[-1], name))
        axes.set(xlim=(0, marks.num_steps), xlabel="step", ylabel="held-out loss, nats a token")
        axes.grid(axis="y")
        low, high = axes.get_ylim()
        for (_, name), y in zip(
            sorted(ends), _spread([end for end, _ in sorted(ends)], (high - low) / 17), strict=True
        ):
            axes.annotate(
                name, (1, y), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
                color=COLOURS[name], va="center", fontweight="bold", annotation_clip=False,
            )  # fmt: skip
        _mark(axes, marks, labels=True)
        return _svg(figure, "losses")


def plot_training(losses: Sequence[float], rates: Sequence[float], marks: Marks) -> str:
    """Training loss and learning rate of each step."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4.2), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
        steps = np.arange(len(losses))
        window = max(3, marks.num_steps // 30) | 1
        top.plot(steps, losses, color=COLOURS["c4"], linewidth=1, alpha=0.8)
        top.plot(steps, smooth(losses, window), color=COLOURS["starcoder"], linewidth=2.2)
        top.set(ylabel="training loss, nats", xlim=(0, marks.num_steps))
        bottom.plot(steps, np.array(rates) * 1e3, color=COLOURS["math"], linewidth=2)
        bottom.set(ylabel="rate × 1000", xlabel="step")
        bottom.set_ylim(bottom=0)
        for axes in (top, bottom):
            axes.grid(axis="y")
            _mark(axes, marks, labels=axes is top)
        return _svg(figure, "training")


def smooth(values: Sequence[float], window: int) -> Floats:
    """The mean over `window` (odd) neighbours, fewer at both ends."""
    ones = np.ones(window)
    sums: Floats = np.convolve(np.asarray(values, float), ones, "same")
    means: Floats = sums / np.convolve(np.ones(len(values)), ones, "same")
    return means


def standalone(svg: str) -> str:
    """An SVG of this module as a file of its own, for light and dark surroundings."""
    style = (
        "<style>svg{color:#1f2328;--grid:#d6dbe1}"
        "@media (prefers-color-scheme:dark){svg{color:#e6edf3;--grid:#3b424b}}</style>"
    )
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    opened = svg.replace("<svg ", f"<svg {names} ", 1)
    start = opened.index(">") + 1
    return '<?xml version="1.0" encoding="utf-8"?>\n' + opened[:start] + style + opened[start:] + "\n"


def _mark(axes: Axes, marks: Marks, *, labels: bool) -> None:
    """Lines at the switchpoint and the edit, a band over the steps that the crash made the trainer repeat."""
    lines = (
        (marks.switchpoint, "-", f"switchpoint\n{marks.switchpoint}"),
        (marks.posted, ":", f"edit posted\n{marks.posted}"),
        (marks.in_force, "--", f"edit in force\n{marks.in_force}"),
    )
    axes.axvspan(marks.resumed_at, marks.killed_after + 1, color=INK, alpha=0.22, linewidth=0)
    for step, style, _ in lines:
        axes.axvline(step, color=INK, linestyle=style, linewidth=1.1)
    if labels:
        middle = (marks.resumed_at + marks.killed_after + 1) / 2
        shown = [*lines, (middle, "", f"killed {marks.killed_after},\nresumed {marks.resumed_at}")]
        for place, _, text in shown:
            axes.annotate(
                text, (place, 1), xycoords=("data", "axes fraction"), xytext=(0, 4), textcoords="offset points",
                ha="center", va="bottom", fontsize=8.5, linespacing=1.15,
            )  # fmt: skip


def _corners(values: Floats) -> tuple[Floats, Floats]:
    """Shares [corpora, steps] as the corners of their areas: each step from its start to its end, without repeats."""
    num_steps = values.shape[1]
    changed = np.flatnonzero(np.any(np.diff(values, axis=1) != 0, axis=0))
    before = np.concatenate([changed, [num_steps - 1]])  # the last step of each stretch that does not change
    first = np.concatenate([[0], changed + 1])
    steps = np.stack([first, before + 1], axis=1).ravel()
    return steps, np.repeat(values[:, first], 2, axis=1)


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """Rising `values`, moved apart so that neighbours are at least `gap` from each other, around where they were."""
    placed = list(values)
    for _ in range(200):
        for i in range(len(placed) - 1):
            if (lack := gap - (placed[i + 1] - placed[i])) > 1e-9:
                placed[i] -= lack / 2
                placed[i + 1] += lack / 2
    return placed


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element that scales with its place, with ids of its own."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(?:xmlns(?::xlink)?|version)="[^"]*"', "", text, count=3)
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", text, count=1)
    text = re.sub(r"<svg ", f'<svg id="{name}" stroke-linejoin="round" ', text, count=1)
    text = re.sub(r'(<[gpduc][^>]*? id|xlink:href)="(#?)', rf'\1="\2{name}-', text).replace("url(#", f"url(#{name}-")
    text = re.sub(r"(font: [^'\"]*?)'DejaVu Sans'[^;\"]*", lambda found: found[1] + FONT, text)
    text = re.sub(r"font-family: [^;\"]*", f"font-family: {FONT}", text)
    text = re.sub(r"(\d+\.\d)\d+", r"\1", text)
    return text.replace(INK, "currentColor").replace(GRID, "var(--grid)")
