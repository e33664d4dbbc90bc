"""service.rates: how often someone may ask."""

import pytest

from service import rates
from service.rates import Buckets


def test_a_burst_then_the_rate() -> None:
    buckets = Buckets(rate=2, burst=3)
    assert [buckets.take("a", now=10.0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", now=10.0) == pytest.approx(0.5)
    assert buckets.take("a", now=10.4) == pytest.approx(0.1)
    assert buckets.take("a", now=10.5) == 0
    assert buckets.take("a", now=10.5) == pytest.approx(0.5)


def test_a_rest_fills_the_bucket_and_no_more() -> None:
    buckets = Buckets(rate=1, burst=2)
    assert [buckets.take("a", now=now) == 0 for now in (0, 0, 0, 100, 100, 100)] == [True, True, False] * 2


def test_keys_do_not_share() -> None:
    buckets = Buckets(rate=1, burst=1)
    assert [buckets.take(key, now=0) == 0 for key in "aab"] == [True, False, True]


def test_in_the_long_run_the_rate_is_what_passes() -> None:
    buckets = Buckets(rate=10, burst=5)
    passed = sum(buckets.take("a", now=n / 1000) == 0 for n in range(60_000))
    assert passed == 5 + 600 - 1  # at 0 s the burst, from then on one each 0.1 s


def test_full_buckets_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_KEYS", 10)
    buckets = Buckets(rate=1, burst=1)
    for n in range(1000):
        assert buckets.take(f"key {n}", now=float(2 * n)) == 0
        assert len(buckets._full) <= 10
    assert buckets.take("key 999", now=1998.5) > 0  # who is in use is remembered
