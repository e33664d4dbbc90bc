"""Counters of one process in Prometheus' text format (version 0.0.4); no dependency.

Requests are counted by method, route template and status, so that ids never become labels.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["CONTENT_TYPE", "RequestMetrics", "Sample", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[Mapping[str, str], float]


class RequestMetrics:
    """Requests and the seconds they took. Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._seconds: Counter[tuple[str, str, str]] = Counter()

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (method, route, str(status))
        with self._lock:
            self._requests[key] += 1
            self._seconds[key] += seconds  # type: ignore[assignment]  # a Counter of floats is fine

    def samples(self) -> tuple[list[Sample], list[Sample]]:
        """(requests, seconds), each labelled by method, route and status."""
        with self._lock:
            requests, seconds = dict(self._requests), dict(self._seconds)
        names = ("method", "route", "status")
        return (
            [(dict(zip(names, key, strict=True)), value) for key, value in sorted(requests.items())],
            [(dict(zip(names, key, strict=True)), value) for key, value in sorted(seconds.items())],
        )


def render(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    """One metric: its help, its type (counter or gauge) and its samples, a line each."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value:.17g}" if inside else f"{name} {value:.17g}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
