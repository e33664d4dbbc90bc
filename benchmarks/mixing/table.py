"""The one table: a row a measurement, a column a system, and in the last column where ours stands.

Less is better in every row that has a number. Ours is *ahead* if it is below every peer by more than the row's slack,
*equal* within it, else *lost*; what a peer could not do (limit, not offered) counts as worse than any number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

REFERENCES = ("draws",)  # columns that are no peers

Results = dict[str, dict]  # task, or "task argument" → what was measured


@dataclass(frozen=True, kw_only=True)
class Row:
    """`value` picks the number to compare (None: nothing to compare) and `text` what is printed, both from a result."""

    label: str
    task: str
    value: Callable[[dict], float | None] = lambda result: None
    text: Callable[[dict], str] | None = None
    slack: Callable[[float], float] = lambda best: 0.0  # differences from the best peer that do not count
    why: str = ""  # if lost: the reason


def number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def cell(row: Row, results: Results) -> tuple[float, str]:
    """(what to compare, what to print); inf where there is nothing to compare with."""
    result = results.get(row.task, {})
    if "limit" in result:
        return float("inf"), f"> {result['limit']}"
    if "error" in result:
        return float("inf"), f"failed: {result['error']}"
    if not result:
        return float("inf"), "–"
    value = row.value(result)
    text = row.text(result) if row.text else number(value)
    return (float("inf") if value is None else value), text


def best_peer(row: Row, table: dict[str, Results]) -> tuple[float, str]:
    """The least number of a peer, and whose it is."""
    peers = [(cell(row, results)[0], name) for name, results in table.items() if name not in ("ours", *REFERENCES)]
    return min(peers, default=(float("nan"), ""))


def verdict(row: Row, table: dict[str, Results]) -> str:
    """ahead, equal or lost; empty where there is no number of ours or no peer to compare."""
    ours, (best, name) = cell(row, table.get("ours", {}))[0], best_peer(row, table)
    if not name or ours == float("inf"):
        return ""
    if best == float("inf") or ours < best - row.slack(best):
        return "ahead"
    return "equal" if ours <= best + row.slack(best) else "lost"


def render(rows: Sequence[Row], table: dict[str, Results], headings: dict[str, str]) -> str:
    """The table as Markdown, then every lost row with its reason. `headings`: system → column title."""
    lines = ["| | " + " | ".join(headings.values()) + " | ours is |", "|---|" + "--:|" * len(headings) + "---|"]
    lost, about = [], ""
    for row in rows:
        about = about if row.label.startswith("…") else row.label
        cells = [cell(row, table[name])[1] if name in table else "not installed here" for name in headings]
        stands = verdict(row, table)
        if stands == "lost":
            full = row.label if row.label == about else f"{about} {row.label}"
            reason = " ".join(row.why.split()) or "no reason is written down: find it"
            to = headings[best_peer(row, table)[1]].split()[0]
            lost.append(f"{len(lost) + 1}. {full}, to {to}: {reason}")
            stands = f"**lost** ({len(lost)})"
        lines.append(f"| {row.label} | " + " | ".join(cells) + f" | {stands} |")
    return "\n".join([*lines, "", *(["Lost, and why:", "", *lost] if lost else ["No row is lost."])])
