"""What is measured, and the rows of the table that show it."""

from dataclasses import dataclass, field
from typing import Any

from data import WEIGHTS
from systems import Loading
from table import Ratio, Row

TITLES = {"ours": "ours", "streaming": "mosaicml-streaming", "litdata": "LitData", "limit": "the limit"}
READERS = ("ours", "streaming", "litdata")
WRITERS = {"ours": "ours", "streaming": "ours", "litdata": "litdata"}  # whose files a system reads
LIMITS = {"seconds": 60, "gib": 8}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    shard_rows: int
    huge_shards: int
    huge_shard_rows: int
    huge_steps: tuple[int, ...]
    steps: tuple[int, ...]
    rates: tuple[tuple[int, int], ...]  # (batch, num_workers)
    seconds: float
    repeats: int
    cold_batches: int
    huge_systems: tuple[str, ...] = READERS


FULL = Sizes(
    shard_rows=16_368,  # 64 MiB, the default of MDS and of LitData
    huge_shards=61_036,
    huge_shard_rows=16_384,
    huge_steps=(0, 10**4, 10**6),
    steps=(0, 10**6),
    rates=((64, 0), (64, 2), (1024, 0), (1024, 2)),
    seconds=3,
    repeats=5,
    cold_batches=64,
)
QUICK = Sizes(
    shard_rows=512,
    huge_shards=600,
    huge_shard_rows=512,
    huge_steps=(10**6,),
    steps=(0,),
    rates=((64, 0),),
    seconds=0.5,
    repeats=1,
    cold_batches=8,
    huge_systems=("ours",),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A task of `case.py` for some systems: `source` is six, huge or remote; a state is of `step`, if any."""

    name: str
    task: str
    source: str
    loading: Loading
    request: dict[str, Any] = field(default_factory=dict)
    systems: tuple[str, ...] = READERS
    step: int | None = None


BIG = Loading(batch=1024, num_workers=0)


def checks() -> list[Case]:
    return [Case(name="verify", task="verify", source="six", loading=BIG, request={"num_batches": 8})]


def rates(sizes: Sizes) -> list[Case]:
    found = []
    for batch, num_workers in sizes.rates:
        loading = Loading(batch=batch, num_workers=num_workers)
        systems = READERS if num_workers else (*READERS, "limit")
        request = {"seconds": sizes.seconds}
        name = f"rate {batch} {num_workers}"
        found.append(Case(name=name, task="rate", source="six", loading=loading, systems=systems, request=request))
    return found


def firsts(sizes: Sizes) -> list[Case]:
    found = []
    for source, steps, systems in (
        ("six", sizes.steps, READERS),
        ("huge", sizes.huge_steps, sizes.huge_systems),
    ):
        how = {"task": "first", "source": source, "loading": BIG}
        limits = {"limits": LIMITS} if source == "huge" else {}
        for step in steps:
            name = f"first {source} {step}"
            anew = {**limits, "anew": True}  # first, for it leaves marks for what comes then
            found.append(Case(name=f"{name} anew", step=step, request=anew, systems=("ours",), **how))
            found.append(Case(name=name, step=step, request=limits, systems=systems, **how))
    return found


def colds(sizes: Sizes) -> list[Case]:
    request = {"num_batches": sizes.cold_batches}
    return [Case(name="cold", task="cold", source="remote", loading=BIG, request=request)]


def kill() -> Case:
    loading = Loading(batch=64, num_workers=2)
    return Case(name="kill", task="hold", source="six", loading=loading, request={"num_batches": 20})


def rows(sizes: Sizes) -> list[Row]:
    return [*_rate_rows(sizes), *_first_rows(sizes), *_cold_rows(sizes), _kill_row()]


def _rate_rows(sizes: Sizes) -> list[Row]:
    found = []
    for batch, num_workers in sizes.rates:
        case, how = f"rate {batch} {num_workers}", f"{num_workers} workers" if num_workers else "one process"
        found += [
            Row(label=f"samples/s, batch {batch:,}, {how}: steady", case=case, key="rate"),
            Row(label="… from the first batch on", case=case, key="early"),
            Row(label="… CPU time, ms per million tokens", case=case, key="cpu"),
        ]
    return found


def _first_rows(sizes: Sizes) -> list[Row]:
    huge = f"one corpus of {sizes.huge_shards * sizes.huge_shard_rows:,} samples"
    cases = [("six", step, "six corpora") for step in sizes.steps]
    cases += [("huge", step, huge) for step in sizes.huge_steps]
    found = []
    for source, step, corpora in cases:
        case, where = f"first {source} {step}", f"resumed at step {step:,}" if step else "at step 0"
        found += [
            Row(label=f"first batch of {BIG.batch:,}, {corpora}, {where} (s)", case=case, key="seconds"),
            Row(label="… when shards have yet to be verified by their hashes (s)", case=f"{case} anew", key="seconds"),
            Row(label="… memory above import (MiB)", case=case, key="mib"),
            Row(label="… of which pages of files, shared with every process", case=case, key="file_mib"),
            Row(label="… at its peak", case=case, key="peak_mib"),
        ]
    return found


def _cold_rows(sizes: Sizes) -> list[Row]:
    what = f"{sizes.cold_batches} batches of {BIG.batch:,}"
    return [
        Row(label="S3, empty cache: first batch (s)", case="cold", key="first"),
        Row(label=f"… {what} (s)", case="cold", key="seconds"),
        Row(label="… samples/s", case="cold", key="rate"),
        Row(label="… on local disk then (MiB)", case="cold", key="mib"),
    ]


def _kill_row() -> Row:
    return Row(label="left behind after kill -9", case="kill", text=left_behind)


def left_behind(result: dict) -> str:
    if not result["segments"] and not result["files"]:
        return "nothing"
    return f"{result['segments']} shared memory segments ({result['bytes']:,} bytes), {result['files']} files"


def ratios() -> list[Ratio]:
    return [
        Ratio(label="ours / mosaicml-streaming, batch 64, one process", case="rate 64 0", other="streaming", goal=40),
        Ratio(label="ours / LitData, batch 64, one process", case="rate 64 0", other="litdata", goal=4),
        Ratio(label="ours / the limit, batch 1,024", case="rate 1024 0", other="limit", goal=0.5, unit="%"),
    ]


def shares_off(found: list[int]) -> float:
    """The largest distance of a corpus's share from its weight."""
    return max(abs(n / sum(found) - weight) for n, weight in zip(found, WEIGHTS, strict=True))
