"""What the runs of a sweep came to: one row a run, and for each setting mean and spread over the seeds.

The spread is the sample standard deviation, sqrt(sum (x - mean)^2 / (n - 1)), 0 for one seed. No torch, no composer.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

Values = Mapping[str, str]  # of the keys that were swept over, as they were given


class Outcome(NamedTuple):
    """One finished run: `losses` by name, "gsm8k" (mean over tokens), "gsm8k batch means", "c4 forgetting"."""

    values: Values
    losses: Mapping[str, float]


class Summary(NamedTuple):
    """One setting, over all of its seeds: loss name to mean and spread, in nats."""

    values: Values
    num_seeds: int
    means: Mapping[str, float]
    spreads: Mapping[str, float]


def final_losses(metrics: Path) -> dict[str, float]:
    """The losses of the last evaluation in a metrics file (`trainer.record`); empty if there is none."""
    found: dict[str, float] = {}
    for line in metrics.read_text().splitlines() if metrics.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off by a crash
        if "eval" not in entry:
            continue
        found = dict(entry["eval"])
        found |= {f"{name} batch means": loss for name, loss in entry.get("eval_batch_means", {}).items()}
        for name, since in entry.get("forgetting", {}).items():
            found |= {f"{name} forgetting": forgotten for forgotten in list(since.values())[:1]}
    return found


def summarise(outcomes: Sequence[Outcome], seed_key: str = "seed") -> list[Summary]:
    """By setting, in the order of their first runs; a loss that a seed lacks is left out of its setting."""
    settings: dict[tuple[tuple[str, str], ...], list[Outcome]] = {}
    for outcome in outcomes:
        setting = tuple((key, value) for key, value in outcome.values.items() if key != seed_key)
        settings.setdefault(setting, []).append(outcome)
    return [_summary(dict(setting), group) for setting, group in settings.items()]


def best(summaries: Sequence[Summary], loss: str) -> Summary | None:
    """The setting of the lowest mean; one that diverged (NaN) is none."""
    known = [summary for summary in summaries if math.isfinite(summary.means.get(loss, math.nan))]
    return min(known, key=lambda summary: summary.means[loss], default=None)


def as_table(summaries: Sequence[Summary]) -> str:
    """Aligned columns: the values of each setting, seeds, and each loss as mean ± spread."""
    names = list(dict.fromkeys(name for summary in summaries for name in summary.means))
    keys = list(dict.fromkeys(key for summary in summaries for key in summary.values))
    rows = [[*keys, "seeds", *names]]
    for one in summaries:
        losses = [f"{one.means[name]:.4f} ± {one.spreads[name]:.4f}" if name in one.means else "-" for name in names]
        rows.append([*(one.values.get(key, "") for key in keys), str(one.num_seeds), *losses])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """One line a run: the values swept over, then its losses."""
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.losses))
    keys = list(dict.fromkeys(key for outcome in outcomes for key in outcome.values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, *names])
    for outcome in outcomes:
        writer.writerow([*(outcome.values.get(k, "") for k in keys), *(outcome.losses.get(name, "") for name in names)])
    return text.getvalue()


def as_json(outcomes: Sequence[Outcome], summaries: Sequence[Summary], chosen: Summary | None, loss: str) -> str:
    """All of it for other programs; what is no number is null."""
    whole = {
        "runs": [outcome._asdict() for outcome in outcomes],
        "settings": [summary._asdict() for summary in summaries],
        "best": {"loss": loss, "values": chosen.values} if chosen else None,
    }
    return json.dumps(_plain(whole), indent=1, allow_nan=False) + "\n"


def _summary(values: Values, group: Sequence[Outcome]) -> Summary:
    names = [name for name in group[0].losses if all(name in outcome.losses for outcome in group)]
    of_name = {name: [outcome.losses[name] for outcome in group] for name in names}
    means = {name: fmean(found) for name, found in of_name.items()}
    spreads = {
        name: (stdev(found) if len(found) > 1 else 0.0) if all(map(math.isfinite, found)) else math.nan
        for name, found in of_name.items()
    }
    return Summary(values, len(group), means, spreads)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
