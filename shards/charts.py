"""Pictures of what is known of corpora: how long documents are, how near corpora are, which mix is nearest.

The ending of the path says the format (.svg, .png, .pdf). The same content gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from mixer.plot import COLORS
from shards.durable import write_file
from shards.errors import CallError, ShardsError

__all__ = ["plot_lengths", "plot_matrix", "plot_ranking"]

_UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
_BASE, _BETTER, _WORSE = "#777777", COLORS[5], COLORS[3]


def plot_matrix(path: Path, names: Sequence[str], values: Sequence[Sequence[float]], measure: str) -> None:
    """A heat map of `values` `[n, n]`, from 0 to 1, of the measure of that name.

    Raises:
        CallError: the ending of `path` is of no known format. ShardsError: matplotlib is not installed.
        StorageError: `path` cannot be written.
    """
    size = 2.2 + 0.62 * len(names)
    with _figure(path, (size + 1.0, size)) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        for row, line in enumerate(values):
            for column, value in enumerate(line):
                color = "black" if value > 0.6 else "white"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=8)
        figure.colorbar(image, label=f"{measure} similarity", shrink=0.8)
        axes.set_title("Proximity of corpora, by their tokens")


def plot_ranking(path: Path, rankings: Mapping[str, Mapping[str, float]], base: str) -> None:
    """Bars of the advantage of each candidate, a panel for each target. Raises as `plot_matrix` does."""
    longest = max(len(ranking) for ranking in rankings.values())
    with _figure(path, (7.5, (0.9 + 0.3 * longest) * len(rankings) + 0.4)) as figure:
        panels = figure.subplots(len(rankings), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (target, ranking) in zip(panels, rankings.items(), strict=True):
            advantages = list(ranking.values())
            bars = axes.barh(
                range(len(ranking)), advantages, color=[_BETTER if value > 0 else _WORSE for value in advantages]
            )
            axes.bar_label(bars, [f"{value:+.4f}" for value in advantages], padding=3, fontsize=8)
            axes.set_yticks(range(len(ranking)), list(ranking))
            axes.invert_yaxis()
            axes.axvline(0, color=_BASE, linewidth=0.8)
            axes.margins(x=0.16)
            axes.set_title(f"for {target}", loc="left", fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        panels[-1].set_xlabel(f"proximity advantage over {base} alone")


def plot_lengths(path: Path, lengths: Mapping[str, Sequence[tuple[int, int, int]]]) -> None:
    """For each corpus, which share of its documents has how many tokens: (from, to, documents) of each bin.

    Raises as `plot_matrix` does.
    """
    with _figure(path, (8, 1.6 * len(lengths) + 1.2)) as figure:
        panels = figure.subplots(len(lengths), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, bins), number in zip(panels, lengths.items(), range(len(lengths)), strict=True):
            total = max(sum(count for _, _, count in bins), 1)
            starts = [start for start, _, _ in bins]
            widths = [end - start for start, end, _ in bins]
            shares = [100 * count / total for _, _, count in bins]
            axes.bar(starts, shares, widths, align="edge", color=COLORS[number % len(COLORS)], edgecolor="white")
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.set_title(f"{name}: {total:,} documents", loc="left", fontsize=10)
            axes.set_ylabel("% of documents")
            axes.spines[["top", "right"]].set_visible(False)
        panels[-1].set_xlabel("tokens of a document")


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """An empty figure; written to `path` when the block is done."""
    try:
        import matplotlib.style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ShardsError("plots need matplotlib: install switchpoint[plot]") from error
    kind = path.suffix.removeprefix(".")
    known = Figure().canvas.get_supported_filetypes()
    if kind not in known:
        raise CallError(f"--plot {path}: the ending must be one of .svg, .png, .pdf", path=str(path))
    with matplotlib.style.context(["default", {"svg.hashsalt": "switchpoint", "text.parse_math": False}]):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        picture = BytesIO()
        figure.savefig(picture, format=kind, dpi=130, metadata=_UNDATED.get(kind, {}))
    write_file(path, picture.getvalue())
