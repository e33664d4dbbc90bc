"""One run, whatever happens to it: its losses agree step by step with those of the undisturbed one.

Two tolerances, and why:

- The same ranks and microbatches: none, every loss is the same float. What is restored is the whole state, and the
  same sums are then formed in the same order.
- Other ranks: `OTHER_SUMS` nats. A mean over the 496 targets of a step is summed in another order in float32. Two such
  sums of n terms of size x differ by at most 2·n·u·|x| with u = 2^-24 (Higham, Accuracy and Stability of Numerical
  Algorithms, 2nd ed., §4.2), which is 3e-4 at a loss of 5.5 nats, and typically by √n·u·|x|, 7e-6. Measured between one
  and two ranks: 4.8e-7 at most over the 24 steps, one unit in the last place of such a loss. The test takes ten times
  that: differences grow with the steps, since where a gradient is near 0 its rounding decides which way Adam goes.
"""

import random
import signal
from pathlib import Path

import pytest

from tests.trainer.conftest import NUM_STEPS, run_config
from tests.trainer.launch import Run, last_of_each_step, steps_in, wait_for_step

OTHER_SUMS = 5e-6
NUM_KILLS = 5


@pytest.fixture(scope="module")
def on_two(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on two ranks that nothing disturbed."""
    out = tmp_path_factory.mktemp("on_two")
    run = Run([str(run_config(corpora, out))], out, num_ranks=2)
    assert run.wait() == 0, run.output
    return out


@pytest.mark.parametrize("num_ranks", [1, 2], ids=["one", "two"])
def test_five_kills_and_a_stop_change_no_bit(
    num_ranks: int, corpora: Path, undisturbed: Path, on_two: Path, tmp_path: Path
) -> None:
    """Other workers after each; every line is compared, also of steps that were trained, lost and trained again."""
    metrics, chance = tmp_path / "metrics.jsonl", random.Random(num_ranks)
    ends = sorted(chance.sample(range(1, NUM_STEPS - 4), NUM_KILLS + 1))
    stop_after = chance.choice(ends[:-1])
    for step in ends:
        config = run_config(corpora, tmp_path, save_interval="2ba", num_workers=chance.randint(0, 2))
        run = Run([str(config)], tmp_path, num_ranks=num_ranks, own_groups=True)
        wait_for_step(run, metrics, step)
        if step == stop_after:
            run.signal(signal.SIGTERM, rank=0)
            assert run.wait() == 75, run.output
        else:
            run.kill()
    run = Run([str(run_config(corpora, tmp_path))], tmp_path, num_ranks=num_ranks)
    assert run.wait() == 0, run.output
    same, other = (on_two, undisturbed) if num_ranks == 2 else (undisturbed, on_two)
    expected, of_other = (last_of_each_step(out / "metrics.jsonl") for out in (same, other))
    for line in steps_in(metrics):
        was, elsewhere = expected[line["step"]], of_other[line["step"]]
        assert (line["digest"], line["loss"], line["lr"]) == (was["digest"], was["loss"], was["lr"]), line["step"]
        assert line["digest"] == elsewhere["digest"]
        assert line["loss"] == pytest.approx(elsewhere["loss"], abs=OTHER_SUMS), line["step"]
    assert list(last_of_each_step(metrics)) == list(range(NUM_STEPS))
