"""The table: a row a measurement, a column a system; medians with the least and the largest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

Results = dict[str, dict[str, list[dict]]]  # system → case → what each repetition gave


@dataclass(frozen=True, kw_only=True)
class Row:
    """`key` picks the number of a result of `case`; `text` prints a result that has none."""

    label: str
    case: str
    key: str = ""
    text: Callable[[dict], str] | None = None


def number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def middle(results: Results, system: str, case: str, key: str) -> float | None:
    """The median, None where there is nothing, or a repetition failed."""
    found = results.get(system, {}).get(case, [])
    return median(result[key] for result in found) if found and all(key in result for result in found) else None


def cell(row: Row, results: Results, system: str) -> str:
    found = results.get(system, {}).get(row.case, [])
    if failed := [result["failed"] for result in found if "failed" in result]:
        return failed[0]
    if not found:
        return "–"
    if row.text is not None:
        return row.text(found[0])
    values = [result[row.key] for result in found]
    if len(values) == 1:
        return number(values[0])
    return f"{number(median(values))} ({number(min(values))} – {number(max(values))})"


def render(rows: Sequence[Row], results: Results, headings: dict[str, str], absent: dict[str, str]) -> str:
    """Markdown. `headings`: system → title; `absent`: system → why its column is empty."""
    lines = ["| | " + " | ".join(headings.values()) + " |", "|---|" + "--:|" * len(headings)]
    for row in rows:
        lines.append(f"| {row.label} | " + " | ".join(cell(row, results, name) for name in headings) + " |")
    lines += ["", *(f"{headings[name]} is left out: {reason}" for name, reason in absent.items())]
    return "\n".join(lines).rstrip()


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Ours against another, with what it should be."""

    label: str
    case: str
    other: str
    goal: float
    unit: str = "x"
    key: str = "rate"

    def line(self, results: Results) -> str:
        ours, other = (middle(results, name, self.case, self.key) for name in ("ours", self.other))
        if ours is None or not other:
            return f"- {self.label}: not measured (goal {self.written(self.goal)})"
        ratio = ours / other
        stands = "met" if ratio >= self.goal else "**missed**"
        return f"- {self.label}: {self.written(ratio)} (goal {self.written(self.goal)}: {stands})"

    def written(self, ratio: float) -> str:
        return f"{100 * ratio:.0f}%" if self.unit == "%" else f"{ratio:.1f}{self.unit}"
