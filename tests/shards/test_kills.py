"""SIGKILL of a whole conversion, parent and workers, at any moment: going on gives the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.shards.conftest import make_texts, tree_hashes

CONVERT = """
import json, sys
from shards.conversion import Conversion, convert
if __name__ == "__main__":
    convert(Conversion(**json.loads(sys.argv[1])), workers=2)
"""
FORMS = [
    {},
    {"rows": "best-fit"},
    {"compression": "zstd", "on_error": "skip"},
    {"rows": "best-fit", "compression": "zstd"},
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of several units, and two small ones; a bad line in none but the second."""
    folder = tmp_path_factory.mktemp("in")
    for number, num_texts in enumerate((9000, 300, 10)):
        lines = [json.dumps({"text": text}) for text in make_texts(num_texts, seed=number)]
        (folder / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


class Campaign:
    """Runs of one conversion, some of them killed."""

    def __init__(self, inputs: Path, tokenizer_dir: Path, folder: Path, form: dict[str, object]) -> None:
        self.out = folder / "out"
        values = {"inputs": [str(inputs)], "corpus": "c4", "tokenizer": str(tokenizer_dir), "out": str(self.out)}
        sizes = {"seq_len": 64, "holdout": 0.1, "shard_bytes": 1 << 15, "unit_bytes": 400_000}
        self._script = folder / "run.py"
        self._script.write_text(CONVERT)
        self._arguments = json.dumps({**values, **sizes, **form})

    def run(self, kill_after: float | None = None) -> float | None:
        """How long an undisturbed run took; None if it was killed."""
        start = time.monotonic()
        command = [sys.executable, str(self._script), self._arguments]
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        with subprocess.Popen(command, start_new_session=True, env=environment) as process:
            try:
                code = process.wait(kill_after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return None
        assert code == 0
        return time.monotonic() - start

    def expected(self) -> tuple[dict[str, str], float]:
        """What an undisturbed run leaves, and how long it takes."""
        seconds = self.run()
        assert seconds is not None
        tree = tree_hashes(self.out)
        shutil.rmtree(self.out)
        return tree, seconds

    def kill_often(self, rng: random.Random, tree: dict[str, str], seconds: float, num_kills: int) -> int:
        """Kill so many runs, each at a random moment; after each that left something finished, compare."""
        kills = 0
        while kills < num_kills:
            # Mostly short: what is done needs not be done again, so runs get shorter as they go on.
            was_killed = self.run(rng.uniform(0.2, 1.05) * seconds) is None
            kills += was_killed
            if (self.out / "c4").exists():  # published by one rename: whole, whatever else happened
                assert {k: v for k, v in tree_hashes(self.out).items() if not k.startswith(".")} == tree
            if not was_killed:
                assert tree_hashes(self.out) == tree
                shutil.rmtree(self.out)
        self.run()
        assert tree_hashes(self.out) == tree
        return kills


@pytest.mark.parametrize("form", FORMS[::3], ids=str)
def test_a_few_kills(inputs: Path, tokenizer_dir: Path, tmp_path: Path, form: dict[str, object]) -> None:
    campaign = Campaign(inputs, tokenizer_dir, tmp_path, form)
    tree, seconds = campaign.expected()
    assert campaign.kill_often(random.Random(7), tree, seconds, 3) == 3


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_hundred_kills(inputs: Path, tokenizer_dir: Path, tmp_path: Path, form: dict[str, object]) -> None:
    campaign = Campaign(inputs, tokenizer_dir, tmp_path, form)
    tree, seconds = campaign.expected()
    assert campaign.kill_often(random.Random(str(form)), tree, seconds, 25) == 25
