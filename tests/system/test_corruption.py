"""Random corruptions of shards, index and manifest: no wrong row is ever served, and each is reported or repaired.

After each corruption everything is opened anew and every row is read. Allowed is: an error of mixer's that names a file
of the corpus, or every row as it was written. The latter only where that is right: with an intact remote folder behind
it, where a lost manifest leaves an index that says enough, or where a byte of an index without a manifest was hit that
nothing depends on. The kinds are counted and printed by the full campaign.
"""

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixer import MixerError
from mixer.reader import RowReader, open_corpus
from tests.mds import write_manifest, write_shards

ROWS = np.random.default_rng(5).integers(0, 2**16, (90, 24), dtype=np.uint16)
OTHER = np.random.default_rng(6).integers(0, 2**16, (90, 24), dtype=np.uint16)


def flip_bit(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def flip_bit_and_restore_times(path: Path, chance: random.Random) -> None:
    """As a disk would, or somebody who hides it."""
    status = path.stat()
    flip_bit(path, chance)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def overwrite(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = chance.randrange(len(data))
    before = bytes(data[start : start + 1 + chance.randrange(64)])
    after = before
    while after == before:
        after = chance.randbytes(len(before))
    data[start : start + len(before)] = after
    path.write_bytes(data)


def zero_out(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = chance.choice([i for i, byte in enumerate(data) if byte])
    end = start + 1 + chance.randrange(512)
    data[start:end] = bytes(len(data[start:end]))
    path.write_bytes(data)


def truncate(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def extend(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(1 + chance.randrange(64)))


def exchange_digit(path: Path, chance: random.Random) -> None:
    """Another digit somewhere in a JSON file; of a shard, another byte."""
    data = bytearray(path.read_bytes())
    place = chance.choice([i for i, byte in enumerate(data) if chr(byte).isdigit()] or [0])
    data[place] = chance.choice([byte for byte in b"0123456789" if byte != data[place]])
    path.write_bytes(data)


def take_anothers(path: Path, chance: random.Random) -> None:
    """The file of the same name of another corpus of the same form."""
    shutil.copyfile(path.parent.parent / "other" / path.name, path)


def swap_shards(path: Path, chance: random.Random) -> None:
    shards = sorted(path.parent.glob("*.mds"))
    one, two = chance.sample(shards, 2)
    one.rename(path.parent / "x")
    two.rename(one)
    (path.parent / "x").rename(two)


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


KINDS: list[Callable[[Path, random.Random], None]] = [
    flip_bit, flip_bit_and_restore_times, overwrite, zero_out, truncate, extend, exchange_digit, take_anothers,
    swap_shards, delete,
]  # fmt: skip


class Campaign:
    """Corpora to be spoiled: `sealed` with a manifest, `plain` without, each a folder of six shards or so."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance, self.outcomes = folder, random.Random(seed), Counter[str]()
        for name in ("sealed", "plain"):
            for corpus, rows in (("corpus", ROWS), ("other", OTHER)):
                write_shards(folder / name / corpus, rows, rows_a_shard=15)
                if name == "sealed":
                    write_manifest(folder / name / corpus)

    def spoil(self) -> None:
        """One corruption, and what came of it."""
        form = self.chance.choice(["sealed", "plain"])
        place = self.chance.choice(["local", "cache", "remote"])
        trial = self.folder / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(self.folder / form, trial)
        if place == "cache":
            shutil.copytree(trial / "corpus", trial / "intact")
        whole = trial / "corpus"
        if self.chance.random() < 0.5 and place != "remote":
            self._read(whole, None)  # it has been verified before, and there are marks
        files = [path for path in sorted(whole.iterdir()) if path.suffix in (".mds", ".json")]
        path = self.chance.choice(
            [file for file in files if file.suffix == self.chance.choice([".mds", ".json"])] or files
        )
        kind = self.chance.choice(KINDS)
        before = path.read_bytes()
        kind(path, self.chance)
        if path.exists() and path.read_bytes() == before and kind is not swap_shards:
            return  # the same digit, say
        what = "shard" if path.suffix == ".mds" or kind is swap_shards else path.stem
        self._judge(form, place, what, kind.__name__, trial)

    def _judge(self, form: str, place: str, what: str, kind: str, trial: Path) -> None:
        local = trial / ("cache" if place == "remote" else "corpus")
        remote = {"local": None, "cache": trial / "intact", "remote": trial / "corpus"}[place]
        error = self._read(local, remote)
        case = f"{form} {what} in {place}: {kind}"
        if place == "cache":
            assert error is None, f"{case}: not repaired: {error}"
        may_be_right = (
            (what == "corpus" and kind == "delete") or (form == "plain" and what == "index") or place == "cache"
        )
        assert error is not None or may_be_right, f"{case}: not reported"
        if error is not None:
            assert str(trial) in error, f"{case}: does not say where: {error}"
        self.outcomes[
            f"{what:6} {kind:26} {'reported' if error else 'repaired' if place == 'cache' else 'harmless'}"
        ] += 1

    def _read(self, local: Path, remote: Path | None) -> str | None:
        """What is reported when every row is read; None: every row was as it had been written."""
        try:
            corpus = open_corpus(local, None if remote is None else str(remote))
            rows = RowReader([corpus]).read(np.arange(corpus.num_samples))
        except MixerError as error:
            return str(error)
        assert np.array_equal(rows, ROWS), f"wrong rows were served from {local}"
        return None


def test_corruptions_are_reported_or_repaired(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=3)
    for _ in range(400):
        campaign.spoil()
    assert sum(campaign.outcomes.values()) > 350


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_thousand_corruptions(tmp_path: Path) -> None:
    campaign, begin = Campaign(tmp_path, seed=4), time.monotonic()
    while sum(campaign.outcomes.values()) < 10_000:
        campaign.spoil()
    print(f"\n10,000 corruptions in {time.monotonic() - begin:.0f} s; none served")
    for outcome, count in sorted(campaign.outcomes.items()):
        print(f"{count:6} {outcome}")
