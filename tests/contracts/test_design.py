"""The Python surface of the design runs as it is written there."""

import numpy as np

SNIPPET = """
from mixer import Plan, Schedule
schedule = Schedule.from_dict(
    {"phases": [
        {"start": "0ba", "mixture": {"c4": 1.0}},
        {"start": "6000ba", "mixture": {"c4": 0.8, "starcoder": 0.2},
         "ramp": {"shape": "linear", "length": "500ba"}}]},        # ramp is optional
    num_steps=61_035, global_batch_size=1024, seq_len=2048)
plan = Plan(schedule, corpora={"c4": [16_000] * 900, "starcoder": [16_000] * 300},  # samples of each shard, in shard order
            data_seed=17, shuffle_window=16)
names = plan.names                         # corpora, sorted by name; `corpus` arrays index into it
weights = plan.weights(step)               # {"c4": 0.8, "starcoder": 0.2}
counts = plan.counts(step)                 # samples of each corpus in that step: {"c4": 819, "starcoder": 205}
drawn = plan.drawn_before(step)            # samples of each corpus in all steps below
batch = plan.batch(step)                   # arrays of length global_batch_size: .corpus .ordinal .epoch .sample_id
sample_id = int(batch.sample_id[batch.corpus == 0][0])
reads = plan.steps_of("c4", sample_id, start, end)   # [(step, slot), ...] that read it
forecast = plan.forecast(step)             # per corpus: samples, tokens, epochs, first step that repeats (or None)
"""  # noqa: E501


def test_the_snippet_of_the_design() -> None:
    step = 30_000
    found: dict[str, object] = {"step": step, "start": 0, "end": 61_035}
    exec(SNIPPET, found)

    assert list(found["names"]) == ["c4", "starcoder"]
    assert found["weights"] == {"c4": 0.8, "starcoder": 0.2}
    assert sum(found["counts"].values()) == 1024
    assert found["counts"] in ({"c4": 819, "starcoder": 205}, {"c4": 820, "starcoder": 204})
    batch = found["batch"]
    for array in (batch.corpus, batch.ordinal, batch.epoch, batch.sample_id):
        assert (array.shape, array.dtype) == ((1024,), np.int64)
    assert np.bincount(batch.corpus).tolist() == list(found["counts"].values())
    np.testing.assert_array_equal(batch.epoch, batch.ordinal // np.array([14_400_000, 4_800_000])[batch.corpus])

    # 6,000 steps of C4, a ramp of 500 from 0 to 0.2, then 0.2
    due = (0.1 * 500 + 0.2 * (step - 6500)) * 1024
    assert abs(found["drawn"]["starcoder"] - due) <= 2
    assert sum(found["drawn"].values()) == step * 1024
    slot = int(np.flatnonzero((batch.corpus == 0) & (batch.sample_id == found["sample_id"]))[0])
    assert (step, slot) in found["reads"]

    c4 = found["forecast"]["c4"]
    assert (c4.samples, c4.tokens) == (found["drawn"]["c4"], found["drawn"]["c4"] * 2048)
    assert c4.epochs == c4.samples / 14_400_000
    # where all has been read once: 14.4 million samples of the one, 4.8 million of the other
    c4_first, starcoder_first = 6_000 * 1024 + 0.9 * 500 * 1024, 0.1 * 500 * 1024
    assert c4.first_repeat_step == 6_500 + int((14_400_000 - c4_first) / 819.2)
    assert found["forecast"]["starcoder"].first_repeat_step == 6_500 + int((4_800_000 - starcoder_first) / 204.8)


def test_before_the_switchpoint_only_one_corpus_is_read() -> None:
    found: dict[str, object] = {"step": 5_999, "start": 0, "end": 6_000}
    exec(SNIPPET, found)
    assert found["weights"]["c4"] == 1
    assert found["counts"]["c4"] == 1024
    assert found["drawn"]["c4"] == 5_999 * 1024
