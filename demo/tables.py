"""The report's tables, from the facts of a demo."""

from collections.abc import Mapping, Sequence

from demo import page
from demo.facts import Facts
from demo.plots import COLOURS


def loss_table(facts: Facts) -> str:
    """Held-out losses at the switchpoint, at the edit and at the end."""
    evaluations, marks = facts.history.evaluations, facts.marks
    chosen = sorted({marks.switchpoint, marks.in_force, marks.num_steps} & set(evaluations))
    rows = []
    for name in (name for name in COLOURS if name in facts.corpora):
        losses = [evaluations[step][name] for step in chosen]
        change = f"{losses[-1] - losses[0]:+.3f}".replace("-", "−")
        rows.append((name, *(f"{loss:.3f}" for loss in losses), change))
    return page.table(
        "Held-out loss before the switchpoint, before the edit came into force, and at the end.",
        ("corpus", *(f"step {step}" for step in chosen), "change since the switchpoint"),
        rows,
    )


def use_table(facts: Facts) -> str:
    """What was read of each corpus."""
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


def conversion_table(facts: Facts) -> str:
    """What conversion made of each corpus."""
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


def revision_table(facts: Facts) -> str:
    """Who changed the schedule, when and why."""
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
