"""A schedule as a picture: stacked areas of the mixture over the run, switchpoints, and where corpora repeat."""

from io import BytesIO
from pathlib import Path

from mixer.errors import MixerError
from mixer.plan import Plan

COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5")


def plot_plan(plan: Plan, title: str, path: str | Path) -> None:
    """Write the picture to `path`, in the format its ending says (.svg, .png, .pdf)."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MixerError("plots need matplotlib: install switchpoint[plot]") from error
    schedule = plan.schedule
    pieces = [(piece.start, piece.end) for piece in schedule.pieces()]
    forecast = plan.forecast()
    names = [name for name in plan.names if forecast[name].samples]
    edges = sorted({edge for start, end in pieces for edge in (start, end - 1)})
    weights = [plan.weights(step) for step in edges]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    shares = [[at.get(name, 0.0) for at in weights] for name in names]
    colors = [COLORS[index % len(COLORS)] for index in range(len(names))]
    labels = [f"{name}  {forecast[name].epochs:.2g} epochs" for name in names]
    axes.stackplot(edges, shares, labels=labels, colors=colors, linewidth=0)
    for step in schedule.switchpoints:
        axes.axvline(step, color="black", linewidth=0.8, linestyle=":")
    for name, color in zip(names, colors, strict=True):
        repeat = forecast[name].first_repeat_step
        if repeat is not None:
            axes.plot([repeat], [1.02], marker="v", color=color, clip_on=False)
    axes.set(title=title, xlabel="step", ylabel="weight", ylim=(0, 1), xlim=(0, schedule.num_steps - 1))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, title="▼ begins to repeat")
    picture = BytesIO()
    try:
        figure.savefig(picture, format=Path(path).suffix.removeprefix(".") or "svg")
    except ValueError as error:
        raise MixerError(f"cannot write {path}: {error}") from error
    try:
        Path(path).write_bytes(picture.getvalue())
    except OSError as error:
        Path(path).unlink(missing_ok=True)
        raise OSError(f"cannot write {path}: {error.strerror}") from error
