"""The report: what the demo did and measured, as one HTML page, from the files that it left.

`write_report` takes `Facts` and writes the page; `write_picture` writes the plot of shares alone, for the README.
"""

from collections.abc import Iterator
from pathlib import Path

from demo import page
from demo.facts import Facts
from demo.plots import COLOURS, EVALUATED_ONLY, plot_losses, plot_shares, plot_training, smooth, standalone
from demo.settings import BASE
from demo.tables import conversion_table, loss_table, revision_table, use_table


def write_report(facts: Facts, path: Path) -> None:
    """Write the page to `path`."""
    path.write_text(page.document("Switchpoint demo", _body(facts)), encoding="utf-8")


def write_picture(facts: Facts, path: Path) -> None:
    """Write the plot of shares as an SVG of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(standalone(_shares(facts)), encoding="utf-8")


def _body(facts: Facts) -> Iterator[str]:
    settings, result = facts.settings, facts.result
    yield "<h1>Switchpoint demo</h1>"
    yield (
        f'<p class="lead">A {settings.num_steps}-step run on {facts.described}: {BASE} alone, then a mix; '
        "edited while it ran, killed and resumed.</p>"
    )
    yield page.verdict(
        f"{result.num_as_planned} of {result.num_steps} batches as planned",
        "Every batch was recomputed from the service's ledger and the shards on disk and compared with what the "
        f"trainer read, row by row and in order. Steps trained twice because of the crash: {result.num_twice}, with "
        "the same rows both times."
        if result.passed
        else "; ".join(result.faults[:5]),
        passed=result.passed,
    )
    yield page.tiles(_tiles(facts))
    yield page.heading("What happened")
    yield page.story(_events(facts))
    yield page.heading("Shares of the corpora", _shares_words(facts))
    yield page.figure(
        _shares(facts),
        alternative=f"Stacked areas of the target and realised share of each corpus by step. {_shares_words(facts)}",
        caption="The grey band marks the steps that were trained twice: lost in the crash, then repeated exactly.",
    )
    yield from _losses(facts)
    yield page.heading("Corpora")
    yield use_table(facts)
    yield conversion_table(facts)
    yield page.heading("History of the schedule")
    yield revision_table(facts)
    yield page.heading("Time")
    yield page.table(
        "Where the time went, in seconds.", ("stage", "seconds"), ((n, f"{s:.1f}") for n, s in facts.stages)
    )
    yield f"<footer>{_footer()}</footer>"


def _tiles(facts: Facts) -> Iterator[tuple[str, str]]:
    schedule = facts.run.ledger.schedule
    yield "steps", f"{schedule.num_steps:,}"
    yield "tokens trained on", f"{schedule.num_tokens:,}"
    yield "training, tokens a second", f"{facts.tokens_per_second:,.0f}"
    yield "largest error of any share, in samples", f"{facts.result.largest_deviation:.2f}"
    yield "same batches from YAML alone", f"{facts.same_without_service} of {schedule.num_steps}"


def _events(facts: Facts) -> Iterator[str]:
    marks, edit = facts.marks, facts.trained.edit
    yield f"{len(facts.corpora)} corpora were converted to MDS shards with {facts.tokenizer}."
    yield f"Training began on {BASE} alone, following the live schedule of a service over HTTP."
    mixture = _mixture(facts, marks.switchpoint + facts.settings.ramp)
    yield f"From step {marks.switchpoint} on, the mixture moved to {mixture}."
    yield (
        f"At step {marks.posted}, while it trained, {edit.revision['author']} posted revision "
        f"{edit.revision['number']}, “{edit.revision['reason']}”, in force from step {marks.in_force}. Steps below "
        f"{edit.frontier} were frozen already."
    )
    yield f"After step {marks.killed_after} the trainer was killed with SIGKILL."
    yield (
        f"Started again with the same command, it went on at step {marks.resumed_at} from its newest checkpoint and "
        f"trained to the end at step {marks.num_steps}."
    )


def _mixture(facts: Facts, step: int) -> str:
    weights = facts.run.ledger.schedule.weights(min(step, facts.settings.num_steps - 1))
    return ", ".join(
        f"{name} {weight:.0%}" for name, weight in sorted(weights.items(), key=lambda item: -item[1]) if weight
    )


def _shares_words(facts: Facts) -> str:
    marks = facts.marks
    return (
        f"{BASE} is the only corpus up to step {marks.switchpoint}; then a ramp of {facts.settings.ramp} steps "
        f"leads to {_mixture(facts, marks.in_force - 1)}. From step {marks.in_force} on, the edit leads to "
        f"{_mixture(facts, marks.num_steps - 1)}."
    )


def _shares(facts: Facts) -> str:
    schedule, lines = facts.run.ledger.schedule, facts.history.steps
    window = max(3, schedule.num_steps // 30) | 1
    weights = [schedule.weights(step) for step in range(schedule.num_steps)]
    target = {name: [w.get(name, 0.0) for w in weights] for name in facts.mixed}
    realised = {
        name: smooth([line["counts"].get(name, 0) / schedule.batch_size(line["step"]) for line in lines], window)
        for name in facts.mixed
    }
    return plot_shares(target, realised, facts.marks, window=window)


def _losses(facts: Facts) -> Iterator[str]:
    evaluations, marks = facts.history.evaluations, facts.marks
    steps = list(evaluations)
    losses = {name: [evaluations[step][name] for step in steps] for name in COLOURS if name in facts.corpora}
    yield page.heading(
        "Held-out loss",
        f"Before the switchpoint the model sees {BASE} only, and the losses of the others follow it from afar; after "
        "it they fall on their own account. The documents are held out: none of them is trained on."
        + _never_trained(facts),
    )
    yield page.figure(
        plot_losses(losses, steps, marks),
        alternative="Lines of held-out loss by step, one a corpus; the table below holds the values.",
        caption="Mean over tokens, in nats, over the same held-out rows each time.",
    )
    yield loss_table(facts)
    lines = facts.history.steps
    yield page.heading("Training")
    yield page.figure(
        plot_training([line["loss"] for line in lines], [line["lr"] for line in lines], marks),
        alternative="Training loss by step, and the learning rate: one warm-up and one cosine through the switchpoint.",
        caption="One learning rate and one optimizer state run through the switchpoint: it changes the data only.",
    )


def _never_trained(facts: Facts) -> str:
    names = [name for name in EVALUATED_ONLY if name in facts.corpora]
    return f" Dashed: nothing at all of {' and '.join(names)} is in the mix." if names else ""


def _footer() -> str:
    return (
        "Made by <code>make demo</code>. Beside this page: <code>run.yaml</code> (the run), <code>same.yaml</code> "
        "(the same batches without a service), <code>ledger.jsonl</code> (the service's ledger), "
        "<code>run/metrics.jsonl</code> (every step and its digest), <code>mds/</code> (the shards), "
        "<code>logs/</code>."
    )
