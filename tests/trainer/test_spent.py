"""What it cost to have the data, added up over steps and ranks."""

from trainer.spent import Spent, of_all_ranks


def test_ranks_wait_side_by_side_and_fetch_together() -> None:
    both = of_all_ranks([Spent(0.5, 3, 1, 0.25, 100), Spent(0.75, 2, 0, 0.5, 50)])
    assert both == Spent(0.75, 5, 1, 0.75, 150)
    assert both.plus(Spent(0.25)) == Spent(1.0, 5, 1, 0.75, 150)


def test_the_hit_rate_is_of_what_was_asked_for() -> None:
    assert Spent(hits=3, misses=1).hit_rate == 0.75
    assert Spent(misses=2).hit_rate == 0
    assert Spent().hit_rate == 1  # nothing new was needed


def test_metrics_have_names_of_their_own() -> None:
    assert Spent(0.5, 3, 1, 0.25, 100).metrics() == {
        "data/wait_s": 0.5, "data/shard_wait_s": 0.25, "data/bytes_fetched": 100.0, "data/cache_hit_rate": 0.75,
    }  # fmt: skip
