"""The rows of the table, for the sizes that were measured, with the reason for each that ours may lose."""

from collections.abc import Sequence
from functools import partial

from table import Row, number

LEGEND = """\
Less is better. Equal: within 5% in counts of samples; within 1 point in shares of a rank, which is what chance leaves
of 16,384 samples (see the draws); within 15%, 0.1 s or 10 MiB in costs. Times are of CPU, of all threads; times and
memory are those above the import."""

EXACT = "both are exact to about a sample; ours by random access, within the two samples it guarantees"
WITHIN = """on purpose: a step's samples stand in random slots, so that no stride of ranks sees another mixture (see the
shares of ranks); the optimizer sees a step as a whole"""
GREEDY = """it looks at every corpus at every sample and takes the one that lags most, for the whole run in advance;
ours is the difference of two step ends, each within two samples"""
PERIOD = "its exact order has a period that divides a rank's range here; what that costs is in the row of strided ranks"
CHANCE = "its ranks' choices are the same, or meet no period of this mixture; ours are as good as drawn for each rank"
LIGHT = """it keeps nothing a shard and shuffles over all of a corpus, which needs all of its files at hand; ours keeps
one entry a shard, so that only a window of shards is in use"""
TABLES = """it makes the order of the whole run before the first batch, in compiled loops over tables of its length (see
its memory); in so short a run ours has not begun to use compiled code, or only just"""
SAME_ORDER = "it reads every epoch in nearly the same order, see the next row"


def counts(best: float) -> float:
    return 0.05 * best


def chance(best: float) -> float:
    return 1.0


def costs(best: float, *, least: float) -> float:
    return max(0.15 * best, least)


def rows(sizes: Sequence[int], steps: Sequence[int]) -> list[Row]:
    return [*_exact(), *_ranks(), *_cost(sizes, steps), *_change(), *_epochs()]


def _exact() -> list[Row]:
    return [
        Row(
            label="worst deviation at a step's end, 8 corpora (samples)",
            task="exactness",
            value=lambda r: r["eight"]["steps"],
            slack=counts,
            why=EXACT,
        ),
        Row(
            label="… 2 corpora, weights 0.37 and 0.63",
            task="exactness",
            value=lambda r: r["two"]["steps"],
            slack=counts,
            why=EXACT,
        ),
        Row(
            label="… within steps too, 8 corpora",
            task="exactness",
            value=lambda r: r["eight"]["samples"],
            slack=counts,
            why=WITHIN,
        ),
        _batch("exactness", "worst batch of 1,024 (samples off a weight)"),
        _drawn("two_thousandths", "0.002"),
        _drawn("ten_thousandth", "1/10,000"),
        _drawn("millionth", "1/1,000,000"),
        _missing("exactness", "batches without the corpus of weight 0.002 (%)"),
    ]


def _batch(task: str, label: str) -> Row:
    return Row(label=label, task=task, value=lambda r: r["batch"], slack=counts, why=GREEDY)


def _drawn(name: str, label: str) -> Row:
    return Row(
        label=f"drawn of a corpus of weight {label}",
        task="exactness",
        value=lambda r: abs(r[name]["drawn"] - r[name]["wanted"]),
        text=lambda r: f"{r[name]['drawn']:,} of {number(r[name]['wanted'])}",
        slack=lambda best: 1.0,  # one sample more or less is a matter of where the run ends
        why="more than a sample apart: look into it",
    )


def _missing(task: str, label: str) -> Row:
    return Row(label=label, task=task, value=lambda r: r["missing"] * 100)


def _ranks() -> list[Row]:
    label = "worst error of a rank's own share (points), 8 / 32 ranks as it splits them"
    return [
        _share("own", label, slack=chance, why=CHANCE),
        _share("strided", "… were ranks strided", slack=chance, why=CHANCE),
        _share("contiguous", "… were ranks contiguous", slack=counts, why=PERIOD),
        Row(
            label="… 8 corpora, 32 ranks as it splits them",
            task="ranks",
            value=lambda r: r["own_eight"],
            slack=chance,
            why=CHANCE,
        ),
        Row(label="all ranks choose the same corpora", task="ranks", text=lambda r: "yes" if r["identical"] else "no"),
        _batch("ranks", "worst batch of 1,024 on 32 ranks (samples off a weight)"),
        _missing("ranks", "batches on 32 ranks without the corpus of weight 0.002 (%)"),
    ]


def _share(name: str, label: str, **further: object) -> Row:
    return Row(
        label=label,
        task="ranks",
        value=lambda r: r[f"{name}_32"],
        text=lambda r: f"{number(r[f'{name}_8'])} / {number(r[f'{name}_32'])}",
        **further,
    )


def _cost(sizes: Sequence[int], steps: Sequence[int]) -> list[Row]:
    seconds = {"value": lambda r: r["seconds"], "slack": partial(costs, least=0.1), "why": LIGHT}
    memory = {"value": lambda r: r["mib"], "slack": partial(costs, least=10), "why": LIGHT}
    order = {"value": lambda r: r["ns"], "slack": partial(costs, least=0), "why": TABLES}
    found = []
    for n in sizes:
        found.append(Row(label=f"first batch of {n:,} samples (s)", task=f"first {n}", **seconds))
        found.append(Row(label="… memory (MiB)", task=f"first {n}", **memory))
        found.append(Row(label="… order of all of them, all told (ns a sample)", task=f"first {n}", **order))
    for step in steps:
        label = f"resume at step {step:,}, nothing repeated (s)"
        found.append(Row(label=label, task=f"resume {step}", **seconds))
    return [
        *found,
        Row(label="importing it (s; MiB)", task="import", text=lambda r: f"{r['seconds']:.1f}; {r['mib']:.0f}"),
    ]


def _change() -> list[Row]:
    return [
        Row(label="weights change inside a run", task="switch", text=lambda r: r["how"]),
        Row(label="… late by, asked for at an odd step (samples)", task="switch", value=lambda r: r["late"]),
        _twice("switch", "… samples read twice because of it"),
        Row(
            label="… worst deviation at a step's end through it (samples)",
            task="switch",
            value=lambda r: r["worst"],
            slack=counts,
            why="both are below a sample; it does not carry the corpora's places over (the row before)",
        ),
        Row(
            label="… loses a corpus's place, if after 2^31 samples of it",
            task="late_switch",
            value=lambda r: r["jump"],
            text=lambda r: "yes" if r["jump"] else "no",
        ),
    ]


def _twice(task: str, label: str) -> Row:
    return Row(label=label, task=task, value=lambda r: r["twice"], text=lambda r: f"{r['twice']:,} of {r['read']:,}")


def _epochs() -> list[Row]:
    return [
        _twice("epochs", "samples read twice before an epoch ends"),
        Row(
            label="closest two readings of a sample (share of an epoch)",
            task="epochs",
            value=lambda r: 1 - r["gap"],
            text=lambda r: number(r["gap"]),
            slack=counts,
            why=SAME_ORDER,
        ),
        Row(
            label="next epoch moves a sample by (share of an epoch; 1/3 is any order, 1/6 any within halves)",
            task="epochs",
            text=lambda r: number(r["moved"]),
        ),
    ]
