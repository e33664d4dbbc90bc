"""What a conversion did, as numbers and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shards.manifest import SKIPPED

if TYPE_CHECKING:
    from shards.conversion import Report

__all__ = ["summarize", "tell"]


def summarize(report: Report, *, peak_bytes: int) -> dict[str, Any]:
    """The numbers of a conversion, as scripts read them.

    `text_bytes`, `tokens_per_second` and `mb_per_second` (of text) are of this call alone: parts that an earlier one
    had finished do not count. Tokens are then those of the same share of the text. `peak_memory_bytes` is that of the
    largest process.
    """
    first = report.manifests[0]
    tokens = sum(manifest.tokens for manifest in report.manifests)
    share = report.text_bytes / max(sum(manifest.text_bytes for manifest in report.manifests), 1)
    seconds = max(report.seconds, 1e-9)
    return {
        "folder": str(report.folder),
        "fingerprint": first.fingerprint,
        "splits": {
            m.split: {
                "documents": m.documents,
                "tokens": m.tokens,
                "samples": m.samples,
                "shards": len(m.shards),
                "dropped_tokens": m.dropped_tokens,
            }
            for m in report.manifests
        },
        "sources": len(first.sources),
        "records": first.records,
        "empty_records": first.empty_records,
        "removed": first.removed,
        "skipped": first.skipped,
        "seconds": round(report.seconds, 3),
        "text_bytes": report.text_bytes,
        "mb_per_second": round(report.text_bytes / 1e6 / seconds, 3),
        "tokens_per_second": round(tokens * share / seconds),
        "num_parts": report.num_parts,
        "num_kept": report.num_kept,
        "peak_memory_bytes": peak_bytes,
    }


def tell(summary: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{summary['folder']}  {summary['fingerprint'][:12]}"]
    lines += [f"{'split':<8} {'documents':>12} {'tokens':>16} {'samples':>12} {'shards':>7} {'dropped':>8}"]
    for name, split in summary["splits"].items():
        numbers = [split[key] for key in ("documents", "tokens", "samples", "shards", "dropped_tokens")]
        cells = [f"{number:>{width},}" for number, width in zip(numbers, (12, 16, 12, 7, 8), strict=True)]
        lines.append(f"{name:<8} {' '.join(cells)}")
    lines += [_speed(summary)]
    left_out = {"without text": summary["empty_records"]} if summary["empty_records"] else {}
    left_out |= {f"removed by {step}": count for step, count in summary["removed"].items()}
    left_out |= {f"skipped, {kind}": count for kind, count in summary["skipped"].items()}
    if left_out:
        counts = "; ".join(f"{count:,} {what}" for what, count in left_out.items())
        lines.append(f"of {summary['records']:,} records: {counts}")
    if summary["skipped"]:
        lines.append(f"what was skipped, and why: {summary['folder']}/{next(iter(summary['splits']))}/{SKIPPED}")
    return "\n".join(lines)


def _speed(summary: Mapping[str, Any]) -> str:
    if summary["num_kept"] == summary["num_parts"]:
        return "all parts were converted already"
    kept = f", {summary['num_kept']} parts kept from before" if summary["num_kept"] else ""
    text = f"{summary['text_bytes'] / 1e6:,.1f} MB of text in {summary['seconds']:.1f} s"
    speed = f"{summary['mb_per_second']:.1f} MB/s, {summary['tokens_per_second']:,} tokens/s"
    return f"{text}, {speed}; at most {summary['peak_memory_bytes'] / 2**30:.2f} GiB a process{kept}"
