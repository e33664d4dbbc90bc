"""The report: what the demo did and measured, as one HTML page, from the files that it left.

`write_report` takes `Facts` and writes the page; `write_picture` writes the plot of shares alone, for the README.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from demo import page
from demo.check import Result, Run
from demo.conversion import Converted
from demo.metrics import History
from demo.plots import COLOURS, Marks, plot_losses, plot_shares, plot_training, smooth, standalone
from demo.settings import BASE, Settings
from demo.training import Trained


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that the page shows. `stages`: name → seconds. `same_without_service`: steps."""

    settings: Settings
    described: str
    corpora: Mapping[str, Converted]
    tokenizer: str
    trained: Trained
    run: Run
    history: History
    result: Result
    same_without_service: int
    stages: Sequence[tuple[str, float]]

    @property
    def marks(self) -> Marks:
        edit = self.trained.edit
        return Marks(
            num_steps=self.settings.num_steps,
            switchpoint=self.settings.switchpoint,
            posted=edit.step,
            in_force=edit.revision["effective_step"],
            killed_after=self.trained.killed_after,
            resumed_at=self.trained.resumed_at,
        )

    @property
    def mixed(self) -> list[str]:
        """The corpora that the schedule names, in the order of the colours."""
        return [name for name in COLOURS if name in self.run.ledger.schedule.names]


def write_report(facts: Facts, path: Path) -> None:
    """Write the page to `path`."""
    path.write_text(page.document("Switchpoint demo", _body(facts)), encoding="utf-8")


def write_picture(facts: Facts, path: Path) -> None:
    """Write the plot of shares as an SVG of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(standalone(_shares(facts)), encoding="utf-8")


def tokens_per_second(history: History) -> float:
    """Tokens a second between the steps of a launch, evaluations and checkpoints left out (median of the steps)."""
    times = [
        (after["time"] - before["time"], after["tokens"] - before["tokens"])
        for launch in history.launches
        for before, after in pairwise(launch)
    ]
    rates = sorted(tokens / seconds for seconds, tokens in times if seconds > 0)
    return rates[len(rates) // 2] if rates else 0.0


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
    yield _use_table(facts)
    yield _conversion_table(facts)
    yield page.heading("History of the schedule")
    yield _revision_table(facts)
    yield page.heading("Time")
    yield page.table(
        "Where the time went, in seconds.", ("stage", "seconds"), ((n, f"{s:.1f}") for n, s in facts.stages)
    )
    yield f"<footer>{_footer()}</footer>"


def _tiles(facts: Facts) -> Iterator[tuple[str, str]]:
    schedule = facts.run.ledger.schedule
    yield "steps", f"{schedule.num_steps:,}"
    yield "tokens trained on", f"{schedule.num_steps * schedule.tokens_per_step:,}"
    yield "training, tokens a second", f"{tokens_per_second(facts.history):,.0f}"
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
    size = schedule.global_batch_size
    realised = {name: smooth([line["counts"].get(name, 0) / size for line in lines], window) for name in facts.mixed}
    return plot_shares(target, realised, facts.marks, window=window)


def _losses(facts: Facts) -> Iterator[str]:
    evaluations, marks = facts.history.evaluations, facts.marks
    steps = list(evaluations)
    losses = {name: [evaluations[step][name] for step in steps] for name in COLOURS if name in facts.corpora}
    chosen = sorted({marks.switchpoint, marks.in_force, marks.num_steps} & set(steps))
    yield page.heading(
        "Held-out loss",
        f"Before the switchpoint the model sees {BASE} only, and the losses of the others follow it from afar; after "
        "it they fall on their own account. The documents are held out: none of them is trained on.",
    )
    rows = [
        [
            name,
            *(f"{evaluations[step][name]:.3f}" for step in chosen),
            f"{values[-1] - evaluations[chosen[0]][name]:+.3f}",
        ]
        for name, values in losses.items()
    ]
    yield page.figure(
        plot_losses(losses, steps, marks),
        alternative="Lines of held-out loss by step, one a corpus; the table below holds the values.",
        caption="Mean over tokens, in nats, over the same held-out rows each time.",
    )
    yield page.table(
        "Held-out loss before the switchpoint, before the edit came into force, and at the end.",
        ("corpus", *(f"step {step}" for step in chosen), "change since the switchpoint"),
        rows,
    )
    lines = facts.history.steps
    yield page.heading("Training")
    yield page.figure(
        plot_training([line["loss"] for line in lines], [line["lr"] for line in lines], marks),
        alternative="Training loss by step, and the learning rate: one warm-up and one cosine through the switchpoint.",
        caption="One learning rate and one optimizer state run through the switchpoint: it changes the data only.",
    )


def _use_table(facts: Facts) -> str:
    forecast = facts.run.plan().forecast()
    total = sum(use.tokens for use in forecast.values())
    ordered = [name for name in COLOURS if name in forecast]
    read = {name: sum(line["counts"].get(name, 0) for line in facts.history.steps) for name in ordered}
    return page.table(
        "What was read of each corpus in the whole run: as forecast by arithmetic, and as counted by the trainer.",
        ("corpus", "samples forecast", "samples read", "tokens", "share", "epochs"),
        (
            (
                name,
                f"{use.samples:,}",
                f"{read[name]:,}",
                f"{use.tokens:,}",
                f"{use.tokens / total:.1%}",
                f"{use.epochs:.3f}",
            )
            for name, use in ((name, forecast[name]) for name in ordered)
        ),
    )


def _conversion_table(facts: Facts) -> str:
    rows = [
        (
            name,
            f"{one.train.documents + one.holdout.documents:,}",
            f"{one.train.tokens:,}",
            f"{one.holdout.tokens:,}",
            f"{one.train.samples:,}",
            len(one.train.shards),
            f"{one.text_bytes / 1e6:.2f}",
            f"{one.text_bytes / 1e6 / one.seconds:.1f}",
        )
        for name, one in ((name, facts.corpora[name]) for name in COLOURS if name in facts.corpora)
    ]
    heads = (
        "corpus",
        "documents",
        "train tokens",
        "held-out tokens",
        "train rows",
        "shards",
        "MB of text",
        "MB a second",
    )
    return page.table(
        "Conversion to MDS shards on one core. These files are small: opening the tokenizer takes most of the time.",
        heads,
        rows,
    )


def _revision_table(facts: Facts) -> str:
    schedule = facts.run.ledger.base
    rows: list[Sequence[object]] = [
        (
            0,
            0,
            "the trainer",
            "the schedule of the YAML file",
            "when the run began",
            _phases(schedule.to_dict()["phases"]),
        )
    ]
    for one in facts.run.ledger.revisions:
        when = one.time.replace("T", " ")[:19]
        rows.append((one.number, one.effective_step, one.author, one.reason, when, _phases(one.schedule["phases"])))
    heads = ("revision", "from step", "who", "why", "when (UTC)", "what")
    return page.table("Every edit of the schedule, as the service's ledger has it.", heads, rows, words=(2, 3, 4, 5))


def _phases(phases: Sequence[Mapping[str, object]]) -> str:
    texts = []
    for phase in phases:
        mixture: Mapping[str, float] = phase["mixture"]  # type: ignore[assignment]
        names = sorted(mixture, key=lambda name: -mixture[name])
        texts.append(f"{phase['start']}: " + ", ".join(f"{name} {mixture[name]:g}" for name in names))
    return "; ".join(texts)


def _footer() -> str:
    return (
        "Made by <code>make demo</code>. Beside this page: <code>run.yaml</code> (the run), <code>same.yaml</code> "
        "(the same batches without a service), <code>ledger.jsonl</code> (the service's ledger), "
        "<code>run/metrics.jsonl</code> (every step and its digest), <code>mds/</code> (the shards), "
        "<code>logs/</code>."
    )
