"""How often someone may ask: a token bucket for each key, as one number (the generic cell rate algorithm).

A key's number is the moment at which its bucket will be full again. No clock is read here: `now` is in seconds of
any clock that never goes back.
"""

import threading

__all__ = ["Buckets"]

MAX_KEYS = 10_000  # beyond that, keys whose bucket is full are forgotten: they are as good as new


class Buckets:
    """`rate` requests a second for each key, and `burst` at once after a rest. Safe for many threads."""

    def __init__(self, *, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._tolerance = (burst - 1) * self._interval
        self._full: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, key: str, *, now: float) -> float:
        """0 when `key` may go on; otherwise in how many seconds it may, and nothing is taken."""
        with self._lock:
            full = max(self._full.get(key, now), now)
            wait = full - now - self._tolerance
            if wait > 1e-9:
                return wait
            if len(self._full) >= MAX_KEYS:
                self._full = {name: moment for name, moment in self._full.items() if moment > now}
            self._full[key] = full + self._interval
            return 0.0
