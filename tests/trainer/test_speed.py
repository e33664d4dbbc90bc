"""Rates against a clock that is set by hand."""

import sys

import pytest

from trainer.speed import NUM_STEPS, Speed, in_words, memory_bytes


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def steps(speed: Speed, clock: Clock, count: int, *, seconds: float, tokens: int = 2048, before: int = 0) -> int:
    """Steps of equal length, with 0.1 s of waiting in each and half a second between them; tokens so far."""
    for _ in range(count):
        speed.begin()
        clock.now += seconds
        before += tokens
        speed.end(samples=tokens // 32, tokens=tokens, seq_len=32, wait_s=0.1, tokens_so_far=before)
        clock.now += 0.5
    return before


def test_rates_are_those_of_steps_alone() -> None:
    clock = Clock()
    speed = Speed(num_devices=2, num_tokens=2048 * 20, clock=clock)
    assert speed.metrics == {}
    steps(speed, clock, 5, seconds=1.5)
    assert speed.metrics == pytest.approx(
        {
            "speed/step_s": 1.5,
            "speed/tokens_per_s": 2048 / 1.5,
            "speed/samples_per_s": 64 / 1.5,
            "speed/tokens_per_s_per_device": 1024 / 1.5,
            "speed/data_wait_share": 0.1 / 1.5,
            "speed/time_left_s": 15 * 2.0,  # what lies between steps takes time too
        }
    )


def test_mfu_is_what_the_model_needs_of_what_the_devices_can_do() -> None:
    clock = Clock()
    speed = Speed(num_devices=4, num_tokens=10**6, flops_per_token=lambda n: 1000.0 * n, peak_flops=1e7, clock=clock)
    steps(speed, clock, 3, seconds=2.0)
    assert speed.metrics["speed/mfu"] == pytest.approx(2048 * 32_000 / 2.0 / 4 / 1e7)


def test_the_first_step_does_not_count_for_the_time_left_and_old_ones_for_nothing() -> None:
    clock = Clock()
    speed = Speed(num_devices=1, num_tokens=10**7, clock=clock)
    done = steps(speed, clock, 1, seconds=1000.0)
    assert "speed/time_left_s" not in speed.metrics
    done = steps(speed, clock, 10, seconds=0.5, before=done)
    # 10 steps, and the half second after the first, but not the one after the last
    assert speed.metrics["speed/time_left_s"] == pytest.approx((10**7 - done) / 2048)
    steps(speed, clock, NUM_STEPS, seconds=0.5, before=done)
    assert speed.metrics["speed/step_s"] == pytest.approx(0.5)


def test_larger_batches_take_longer() -> None:
    """The time left goes by tokens, so that a batch size that grows does not deceive it."""
    clock = Clock()
    speed = Speed(num_devices=1, num_tokens=2048 * 6 + 4096 * 10, clock=clock)
    done = steps(speed, clock, 6, seconds=1.5)
    assert speed.metrics["speed/time_left_s"] == pytest.approx(10 * 4.0)
    steps(speed, clock, 10, seconds=3.5, tokens=4096, before=done)
    assert speed.metrics["speed/time_left_s"] == 0


def test_memory_is_that_of_this_process() -> None:
    before = memory_bytes()
    (name,) = before
    assert name == "memory/peak_rss_bytes"
    block = bytearray(int(before[name]))
    block[::4096] = b"x" * len(block[::4096])
    assert memory_bytes()[name] > 1.5 * before[name]
    assert sys.getsizeof(block) < 4e9


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0:00:00"), (3725, "1:02:05"), (90_000, "1d 1:00:00")])
def test_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
