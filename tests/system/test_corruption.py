"""Random corruptions of shards, index, manifest and marks: no wrong row is served, each is reported or repaired.

After each corruption everything is opened anew and every row is read. What may come of it is known before (`_allowed`):
an error of mixer's that says where (`reported`), or every row as it was written (`right`). The latter is asked for with
an intact remote folder, or an intact compressed shard, behind what was hit. It is allowed, though never wrong rows,

- where a manifest was lost: the index beside it says enough, with the hashes that it has;
- where an index without a manifest was hit in a place that no row depends on: white space, the size limit of its
  writer, the name of a column, the second digest of a shard;
- where the copy that is damaged is not read, since another one was verified before: a compressed shard that was
  unpacked, a remote one that is in the cache.

What leaves every file as it was is no corruption and is not counted. Beyond detection is an index that was written, or
spoiled everywhere at once, so that it neither has hashes nor says that it should, and one, without a manifest, that
lacks a whole shard: such corpora are not in here.
"""

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixer import MixerError
from mixer.reader import RowReader, open_corpus
from mixer.storage.integrity import MARKS
from tests.mds import write_manifest, write_shards

NUM_ROWS, SEQ_LEN, SEED = 92, 24, 4
ROWS, OTHER = np.random.default_rng(5).integers(0, 2**16, (2, NUM_ROWS, SEQ_LEN), dtype=np.uint16)
FORMS = ("sealed", "plain", "packed", "single")  # with a manifest, and without: as it is, compressed, of one shard
PLACES = ("local", "cache", "remote", "kept")  # what is hit: a folder, the cache, its remote with it empty, or full

Damage = Callable[[Path, random.Random], None]


def flip_bit(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def flip_bit_and_restore_times(path: Path, chance: random.Random) -> None:
    """As a disk would, or somebody who hides it."""
    status = path.stat()
    flip_bit(path, chance)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_flipped(path: Path, chance: random.Random) -> None:
    """Another file under its name, of the same size and times."""
    shutil.copy2(path, path.with_name("x"))
    flip_bit_and_restore_times(path.with_name("x"), chance)
    path.with_name("x").replace(path)


def overwrite(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = chance.randrange(len(data))
    end = min(start + 1 + chance.randrange(64), len(data))
    data[start:end] = chance.randbytes(end - start)
    path.write_bytes(data)


def zero_page(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = chance.randrange(0, len(data), 512)
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    path.write_bytes(data)


def truncate(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def extend(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(1 + chance.randrange(64)))


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def exchange_digit(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    place = chance.choice([i for i, byte in enumerate(data) if byte in b"0123456789"] or [0])
    data[place] = chance.choice(b"0123456789")
    path.write_bytes(data)


def take_anothers(path: Path, chance: random.Random) -> None:
    """The file of the same name of another corpus of the same form."""
    shutil.copyfile(path.parent.parent / "other" / path.name, path)


def take_siblings(path: Path, chance: random.Random) -> None:
    """Another shard of the corpus, by copying or by renaming it: then with its inode and times."""
    sibling = chance.choice(_alike(path))
    shutil.copy2(sibling, path.with_name("x"))
    if chance.random() < 0.5:
        sibling.replace(path)
        path.with_name("x").rename(sibling)
    else:
        path.with_name("x").replace(path)


def swap_shards(path: Path, chance: random.Random) -> None:
    other = chance.choice(_alike(path))
    path.rename(path.with_name("x"))
    other.rename(path)
    path.with_name("x").rename(other)


def flip_under_anothers_mark(path: Path, chance: random.Random) -> None:
    """A damaged shard, and the mark that a whole copy of it has elsewhere."""
    flip_bit(path, chance)
    twin = path.parent.parent / "twin"
    _copy(path.parent.parent / "source", twin)
    _read(twin, None)
    shutil.copytree(twin / MARKS, path.parent / MARKS, dirs_exist_ok=True)


def edit_field(path: Path, chance: random.Random) -> None:
    """Another value, or another name, somewhere in the JSON; or what was there is gone."""
    content = json.loads(path.read_bytes())
    holder, key = chance.choice(list(_fields(content)))
    how = chance.choice(["value", "value", "rename", "remove"])
    if holder is content["shards"]:
        return  # a whole shard less is another corpus, and a manifest or a checkpoint's fingerprint tells
    if how == "value":
        holder[key] = _another(holder[key], chance)
    else:
        value = holder.pop(key)
        if how == "rename" and isinstance(holder, dict):
            holder["".join(chance.sample(key, len(key)))] = value
    text = json.dumps(content, sort_keys=True, **({"indent": 1} if path.stem == "corpus" else {}))
    path.write_text(text.replace('"1e999"', "1e999"))


def lose_hash_and_flip(path: Path, chance: random.Random) -> None:
    """The index loses what it knows of a shard's bytes, and these change."""
    content = json.loads(path.read_bytes())
    entries = [file for shard in content["shards"] for file in (shard["raw_data"], shard["zip_data"]) if file]
    shards = [entry for entry in entries if (path.parent / entry["basename"]).exists()]
    if not shards:
        return
    shard = chance.choice(shards)
    for entry in entries if chance.random() < 0.5 else [shard]:
        spoiled: list[Any] = [None, {}, {"sha-1": "0" * 40}, {"sha1": ""}, {"sha1": None}]
        entry["hashes"] = chance.choice(spoiled)
    path.write_text(json.dumps(content, sort_keys=True))
    flip_bit(path.parent / shard["basename"], chance)


def reinterpret(path: Path, chance: random.Random) -> None:
    """Rows of another type, of the same size."""
    encoding = chance.choice(["uint32:12", "int32:12", "int64:6"])
    path.write_text(path.read_text().replace("uint16:24", encoding))


def _alike(path: Path) -> list[Path]:
    """The other shards beside it."""
    return [other for other in sorted(path.parent.iterdir()) if other.suffix == path.suffix and other != path]


def _fields(content: Any) -> Iterator[tuple[Any, Any]]:
    """(object or list, key) of everything in a JSON value."""
    for key, value in list(content.items() if isinstance(content, dict) else enumerate(content)):
        yield content, key
        if isinstance(value, dict | list):
            yield from _fields(value)


def _another(value: Any, chance: random.Random) -> Any:
    if isinstance(value, int):
        near, far = value + chance.choice([-1, 1]), chance.choice([10**6, 2**31, 10**12, 2**63, 10**30])
        return chance.choice([near, -value, 0, far, value / 7, "1e999", str(value), None])
    if isinstance(value, str):
        half_of_twice = [value.replace("uint16:24", encoding) for encoding in ("uint32:12", "int64:6", "uint16:0")]
        numbers = value.replace("00000", "00001"), value.replace("3", "4"), value[:-1]
        return chance.choice([*half_of_twice, *numbers, "", "index.json", "../" + value, 7, None, [value]])
    return chance.choice([None, {}, [], 0, "x"])


OF_FILES: list[Damage] = [
    flip_bit, flip_bit_and_restore_times, replace_flipped, overwrite, zero_page, truncate, extend, delete, take_anothers
]  # fmt: skip
OF_SHARDS: list[Damage] = [*OF_FILES, take_siblings, swap_shards, flip_under_anothers_mark]
OF_JSON: list[Damage] = [*OF_FILES, exchange_digit, exchange_digit, edit_field, edit_field, edit_field]
OF_INDEX: list[Damage] = [*OF_JSON, lose_hash_and_flip, reinterpret]
OF_MARKS: list[Damage] = [flip_bit, overwrite, truncate, delete, take_siblings]


class Campaign:
    """Corpora to be spoiled, each in a folder of its form with another one that is like it but for its rows."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance, self.outcomes, self._before = folder, random.Random(seed), Counter[str](), Counter()
        print(f"seed {seed}")
        for form in FORMS:
            for corpus, rows in (("source", ROWS), ("other", OTHER)):
                options = {"compression": "zstd:3"} if form == "packed" else {}
                hashes, rows_a_shard = (["sha256"], 15) if form == "sealed" else (["sha1", "xxh64"], 15)
                rows_a_shard = NUM_ROWS if form == "single" else rows_a_shard
                write_shards(folder / form / corpus, rows, rows_a_shard=rows_a_shard, hashes=hashes, **options)
                if form == "sealed":
                    write_manifest(folder / form / corpus)

    def spoil(self) -> None:
        """One corruption, and what came of it."""
        form, place = self.chance.choice(FORMS), self.chance.choice(PLACES)
        trial = self.folder / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        trial.mkdir()
        for corpus in ("source", "other"):
            (trial / corpus).symlink_to(self.folder / form / corpus)
        hit, local, remote = self._prepare(trial, place)
        path = self._choose(hit)
        what = {".mds": "shard", ".zstd": "packed shard", ".json": path.stem}[path.suffix]
        what = "mark" if path.parent.name == MARKS else what
        kind = self.chance.choice({"index": OF_INDEX, "corpus": OF_JSON, "mark": OF_MARKS}.get(what, OF_SHARDS))
        if kind in (take_siblings, swap_shards) and not _alike(path):
            return
        if kind is take_anothers and not (path.parent.parent / "other" / path.name).exists():
            return
        before = _content(hit)
        kind(path, self.chance)
        if _content(hit) != before:
            self._judge(local, remote, place=place, form=form, what=what, kind=kind.__name__)

    def _prepare(self, trial: Path, place: str) -> tuple[Path, Path, Path | None]:
        """(the folder to be hit, the folder to read, its remote); what can be verified often was, and is marked."""
        source, corpus = trial / "source", trial / "corpus"
        _copy(source, corpus)
        local, remote = {
            "local": (corpus, None),
            "cache": (corpus, source),
            "remote": (trial / "cache", corpus),
            "kept": (trial / "cache", corpus),
        }[place]
        if place == "kept" or (place != "remote" and self.chance.random() < 0.6):
            assert _read(local, remote) is None
        return corpus, local, remote

    def _choose(self, hit: Path) -> Path:
        """A file of the folder: of any sort as often as of another."""
        sorts: dict[str, list[Path]] = {}
        for path in sorted(path for path in hit.rglob("*") if path.is_file() and path.name != ".lock"):
            sort = path.parent.name if path.parent.name == MARKS else path.suffix
            sorts.setdefault(path.name if sort == ".json" else sort, []).append(path)
        return self.chance.choice(sorts[self.chance.choice(sorted(sorts))])

    def _judge(self, local: Path, remote: Path | None, *, place: str, form: str, what: str, kind: str) -> None:
        case = f"{form} {what} in {place}: {kind}"
        try:
            error = _read(local, remote)
        except Exception as wrong:
            raise AssertionError(f"{case}: {wrong!r}") from wrong
        outcome = "right" if error is None else "reported"
        allowed = _allowed(place=place, form=form, what=what, kind=kind, unpacked=any(local.glob("*.mds")))
        assert outcome in allowed, f"{case}: {outcome}, not {allowed}: {error}"
        assert error is None or str(local.parent) in error, f"{case}: does not say where: {error}"
        self.outcomes[f"{what:12} {kind:26} {outcome}"] += 1


def _allowed(*, place: str, form: str, what: str, kind: str, unpacked: bool) -> set[str]:
    if place == "cache" or what == "mark" or (form == "packed" and what == "shard"):
        return {"right"}
    is_lost = what == "corpus" and kind == "delete"
    is_plain = what == "index" and form != "sealed" and kind not in ("lose_hash_and_flip", "reinterpret")
    is_spare = what.endswith("shard") and (place == "kept" or (form == "packed" and unpacked))
    return {"right", "reported"} if is_lost or is_plain or is_spare else {"reported"}


def _read(local: Path, remote: Path | None) -> str | None:
    """What is reported when every row is read; None: every row was as it had been written."""
    try:
        corpus = open_corpus(local, None if remote is None else str(remote))
        reader = RowReader([corpus])
        rows = reader.read(np.arange(min(corpus.num_samples, 2 * NUM_ROWS)))
    except MixerError as error:
        return str(error)
    assert np.array_equal(rows, ROWS), f"{local} served wrong rows"
    assert rows.dtype == ROWS.dtype
    return None


def _copy(folder: Path, target: Path) -> None:
    shutil.copytree(folder, target, dirs_exist_ok=True)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_corruptions_are_reported_or_repaired(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=SEED)
    for _ in range(600):
        campaign.spoil()
    assert sum(campaign.outcomes.values()) > 500


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_thousand_corruptions(tmp_path: Path) -> None:
    campaign, begin = Campaign(tmp_path, seed=SEED + 1), time.monotonic()
    while sum(campaign.outcomes.values()) < 10_000:
        campaign.spoil()
    print(f"\n10,000 corruptions in {time.monotonic() - begin:.0f} s; no wrong row served")
    for outcome, count in sorted(campaign.outcomes.items()):
        print(f"{count:6} {outcome}")
