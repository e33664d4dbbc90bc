"""What `switchpoint-mixer` says: each answer as data for programs and as lines for people. Nothing is printed here."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mixer.changes import Change
from mixer.comparing import Comparison, Reads
from mixer.documents import Passage
from mixer.ledger import Revision
from mixer.plan import Batch, Forecast, Plan
from mixer.provenance import Provenance, Read
from mixer.runfile import PlannedRun
from mixer.schedule import Phase, Schedule
from mixer.solving import Answer, Need, Solver, Use
from mixer.weights import UNIT

SHOWN = 16  # slots of a batch, stretches of a comparison: unless all are asked for


@dataclass(frozen=True, kw_only=True)
class Report:
    """One answer: `data` is JSON-able, `lines` are the same as text."""

    data: Any
    lines: Sequence[str]


def show(run: PlannedRun) -> Report:
    """The phases of the schedule and its batch sizes; of a run with a ledger its state and revisions too."""
    schedule = run.schedule
    data = {"run": run.name, **schedule.to_dict()}
    rows = [
        [
            f"{phase.start:,}",
            tokens(schedule.tokens_before(phase.start)),
            _mixture({name: weight / UNIT for name, weight in phase.mixture.items()}) + _context(phase),
            f"{phase.ramp.shape} over {phase.ramp.length:,}" if phase.ramp else "",
        ]
        for phase in schedule.phases
    ]
    sizes = sorted({row.size for row in schedule.batching.rows})
    size = f"{sizes[0]:,} to {sizes[-1]:,}" if len(sizes) > 1 else f"{sizes[0]:,}"
    lengths = sorted({context.seq_len for context in schedule.contexts})
    length = " or ".join(f"{length:,}" for length in lengths)
    lines = [
        f"{run.name}: {schedule.num_steps:,} steps x {size} samples x {length} tokens = "
        f"{tokens(schedule.num_tokens)} tokens"
    ]
    changes = [*_batch_sizes(schedule), *_changes(schedule.changes)]
    if run.ledger is not None:
        revisions = run.ledger.revisions
        data |= {"revision": run.ledger.in_force, "frontier": run.frontier, "step": run.step}
        data |= {"revisions": [revision.to_dict() for revision in revisions]}
        trained = "no step reported" if run.step is None else f"{run.step:,} steps trained"
        lines.append(f"revision {run.ledger.in_force} in force; {trained}; frozen below step {run.frontier or 0:,}")
        lines += [*table(["from step", "tokens", "mixture", "ramp"], rows), *changes]
        return Report(data=data, lines=[*lines, *_history(revisions)])
    return Report(data=data, lines=[*lines, *table(["from step", "tokens", "mixture", "ramp"], rows), *changes])


def _batch_sizes(schedule: Schedule) -> list[str]:
    rows = [
        [f"{row.start:,}", tokens(schedule.tokens_before(row.start)), f"{row.size:,}"] for row in schedule.batching.rows
    ]
    return table(["from step", "tokens", ">global batch size"], rows) if schedule.batch_sizes else []


def _changes(changes: Sequence[Change]) -> list[str]:
    rows = [
        [f"{change.step:,}", change.name, change.verb, _cut(json.dumps(change.arguments), 60)] for change in changes
    ]
    return table(["from step", "corpus", "change", ""], rows) if rows else []


def _history(revisions: Sequence[Revision]) -> list[str]:
    rows = [
        [
            str(revision.number),
            f"{revision.effective_step:,}",
            revision.author,
            revision.time[:16].replace("T", " "),
            _cut(revision.reason, 60),
            _cut(f"superseded: {revision.superseded}", 80) if revision.superseded else "",
        ]
        for revision in revisions
    ]
    return ["", *table(["revision", "from step", "author", "made", "reason", ""], rows)] if rows else []


def forecast(plan: Plan, step: int) -> Report:
    """What is read below `step`, and where each corpus first repeats."""
    found = plan.forecast(step)
    rows = [
        [name, f"{f.samples:,}", tokens(f.tokens), f"{f.epochs:.3f}", _step(f.first_repeat_step)]
        for name, f in found.items()
    ]
    lines = [f"below step {step:,}:"]
    lines += table(["corpus", ">samples", ">tokens", ">epochs", ">repeats from step"], rows)
    lines += [
        f"warning: {name} is read again from step {f.first_repeat_step:,} on; to avoid it use it from step "
        f"{f.earliest_start:,} on, or at an average weight of at most {f.largest_weight:.4g}"
        for name, f in found.items()
        if f.first_repeat_step is not None
    ]
    return Report(data={"step": step, "corpora": {name: vars(f) for name, f in found.items()}}, lines=lines)


def what_if(solver: Solver, uses: Iterable[Use]) -> Report:
    """For each use how often it would read its corpus, and the start and weight that would keep to the limit."""
    data, rows, notes = [], [], []
    for use in uses:
        answer = solver.what_if(use)
        first = solver.earliest_start(replace(use, start=None))
        most = solver.largest_weight(replace(use, weight=None))
        start, weight = first.use.start if first else None, most.use.weight if most else None
        data.append({**_data(answer), "earliest_start": start, "largest_weight": weight and weight / UNIT})
        before = tokens(solver.schedule.tokens_before(use.start or 0))
        rows.append([use.corpus, _weight(use.weight), _step(use.start), before, *_reading(answer.forecast)])
        rows[-1] += ["none" if start is None else _step(start), _weight(weight)]
        notes += [*_too_often(answer, solver.max_epochs), *_others(answer)]
    head = ["corpus", ">weight", ">from step", ">tokens before", *_READING, ">earliest start", ">largest weight"]
    return Report(data=data, lines=[*table(head, rows), *dict.fromkeys(notes)])


def earliest_start(solver: Solver, uses: Iterable[Use]) -> Report:
    """For each use the earliest step from which it keeps to the limit."""
    data, rows, notes = [], [], []
    for use in uses:
        answer = solver.earliest_start(use)
        weight = "as written" if use.weight is None else _weight(use.weight)
        if answer is None:
            data.append({**_asked(use), "start": None})
            rows.append([use.corpus, weight, "none", "", "", "", ""])
            notes.append(f"{use.corpus}: even in its last step alone it would be read {_times(solver)}")
            continue
        start = answer.use.start or 0
        data.append(_data(answer))
        before = tokens(solver.schedule.tokens_before(start))
        rows.append([use.corpus, weight, _step(start), before, *_reading(answer.forecast)[:-1]])
        notes += _others(answer)
    head = ["corpus", ">weight", ">earliest start", ">tokens before", *_READING[:-1]]
    return Report(data=data, lines=[*table(head, rows), *dict.fromkeys(notes)])


def largest_weight(solver: Solver, uses: Iterable[Use]) -> Report:
    """For each use the largest weight with which it keeps to the limit."""
    data, rows, notes = [], [], []
    for use in uses:
        answer = solver.largest_weight(use)
        if answer is None:
            data.append({**_asked(use), "weight": None})
            rows.append([use.corpus, "" if use.start is None else _step(use.start), "none", "", "", ""])
            notes.append(f"{use.corpus}: even at the smallest weight it would be read {_times(solver)}")
            continue
        data.append(_data(answer))
        rows.append([use.corpus, _step(answer.use.start), _weight(answer.use.weight), *_reading(answer.forecast)[:-1]])
        notes += _others(answer)
    head = ["corpus", ">from step", ">largest weight", *_READING[:-1]]
    return Report(data=data, lines=[*table(head, rows), *dict.fromkeys(notes)])


_READING = [">samples", ">tokens", ">epochs", ">repeats from step"]


def _reading(found: Forecast) -> list[str]:
    return [f"{found.samples:,}", tokens(found.tokens), f"{found.epochs:.3f}", _step(found.first_repeat_step)]


def _asked(use: Use) -> dict[str, Any]:
    ramp = use.ramp and {"shape": use.ramp.shape, "length": use.ramp.length}
    return {
        "corpus": use.corpus,
        "weight": None if use.weight is None else use.weight / UNIT,
        "start": use.start,
        "end": use.end,
        "ramp": ramp,
    }


def _data(answer: Answer) -> dict[str, Any]:
    kept = ("samples", "tokens", "epochs", "first_repeat_step")
    repeats = {name: f.first_repeat_step for name, f in answer.forecasts.items() if f.first_repeat_step is not None}
    return {**_asked(answer.use), **{name: getattr(answer.forecast, name) for name in kept}, "repeats": repeats}


def _too_often(answer: Answer, max_epochs: int) -> list[str]:
    epochs = answer.forecast.epochs
    return [f"warning: {_said(answer.use)} is read {epochs:.1f} times"] if epochs > max_epochs else []


def _said(use: Use) -> str:
    weight = "" if use.weight is None else f" at {_weight(use.weight)}"
    return f"{use.corpus}{weight} from step {use.start or 0:,} on"


def _others(answer: Answer) -> list[str]:
    use = answer.use
    return [
        f"note: with {_said(use)}, {name} is read again from step {found.first_repeat_step:,} on"
        for name, found in answer.forecasts.items()
        if name != use.corpus and found.first_repeat_step is not None
    ]


def _times(solver: Solver) -> str:
    return "again" if solver.max_epochs == 1 else f"more than {solver.max_epochs} times"


def needed_by(needs: Mapping[str, Need], step: int) -> Report:
    """What must be on disk for every step below `step`."""
    rows = [
        [
            name,
            f"{need.samples:,}",
            tokens(need.tokens),
            f"{need.epochs:.3f}",
            f"{need.shards:,} of {need.num_shards:,}",
            "" if need.bytes is None else f"{need.bytes / 1e9:,.3f}",
        ]
        for name, need in needs.items()
    ]
    head = ["corpus", ">samples", ">tokens read", ">epochs", ">shards", ">GB"]
    lines = [f"needed on disk below step {step:,} (whole shuffle windows):", *table(head, rows)]
    return Report(data={"step": step, "corpora": {name: vars(need) for name, need in needs.items()}}, lines=lines)


def batch(plan: Plan, found: Batch, provenance: Provenance, *, documents: bool, every: bool) -> Report:
    """What stands in each slot of a step, if asked for with its source documents; as text the first, or `every` one."""
    names = [plan.names[index] for index in found.corpus.tolist()]
    places = provenance.places(found, range(len(names)))
    columns: dict[str, list[Any]] = {
        "ordinal": found.ordinal.tolist(),
        "epoch": found.epoch.tolist(),
        "sample_id": found.sample_id.tolist(),
        "shard": [place.shard for place in places],
        "row": [place.row for place in places],
    }
    if documents:
        columns["documents"] = [
            [_passage(passage) for passage in provenance.passages(found, slot)] for slot in range(len(names))
        ]
    counts = ", ".join(f"{count:,} of {name}" for name, count in sorted(Counter(names).items()))
    rows = [
        [str(slot), *(_documents(cell) if isinstance(cell, list) else str(cell) for cell in cells)]
        for slot, cells in enumerate(zip(names, *columns.values(), strict=True))
    ]
    lines = [f"step {found.step:,}: {counts}"]
    lines += _shortened(["slot", "corpus", *columns], rows, every)
    return Report(data={"step": found.step, "corpus": names, **columns}, lines=lines)


def _passage(passage: Passage) -> dict[str, Any]:
    document = passage.document
    return {"source": document.source, "record": document.record, "start": passage.start, "end": passage.end}


def _documents(passages: list[dict[str, Any]]) -> str:
    """Sources with their records: a.jsonl:17-19 b.jsonl:1."""
    sources: dict[str, list[int]] = {}
    for passage in passages:
        sources.setdefault(passage["source"].rpartition("/")[2], []).append(passage["record"])
    return " ".join(f"{name}:{_range(records)}" for name, records in sources.items())


def _range(records: list[int]) -> str:
    return str(records[0]) if len(records) == 1 else f"{records[0]}-{records[-1]}"


def locate(
    asked: tuple[str, list[list[int]], tuple[str, int, int] | None],
    reads: Sequence[Read],
    *,
    start: int,
    end: int,
    trained: int | None,
) -> Report:
    """The steps and slots of [start, end) that read these samples of a corpus, or a document that lies in them.

    `trained`: the first step that has not been trained, if that is known.
    """
    corpus, samples, document = asked
    times = "once" if len(reads) == 1 else f"{len(reads):,} times"
    what = f"sample {samples[0][0]:,}" if document is None else f"{document[0]} {_records(document)}"
    head, names = ["step", "slot"], {read.corpus for read in reads} - {corpus}
    lines = [f"{corpus} {what}: read {times} from {start:,} to {end:,}"]
    if document is not None:
        head = ["step", "slot", "sample_id"]
        clause = json.dumps({corpus: {"quarantine": {"samples": samples}}})
        where = ", ".join(f"{low:,} to {high - 1:,}" if high - low > 1 else f"{low:,}" for low, high in samples)
        lines.append(f"it lies in the samples {where}" if samples else "none of its tokens are in a sample")
        lines += [f"to leave these out from a step on, the change is  corpora: {clause}"] if samples else []
    rows = [
        [f"{read.step:,}", str(read.slot)]
        + ([f"{read.sample_id:,}"] if document is not None else [])
        + ([read.corpus] if names else [])
        + ([] if trained is None else ["read" if read.step < trained else "will be"])
        for read in reads
    ]
    lines += table([*head, *(["as"] if names else []), *([] if trained is None else ["when"])], rows)
    data = [{name: value for name, value in vars(read).items() if name in head} for read in reads]
    return Report(data=data if document is None else {"samples": samples, "reads": data}, lines=lines)


def _records(document: tuple[str, int, int]) -> str:
    _, first, end = document
    return f"record {first:,}" if end - first == 1 else f"records {first:,} to {end - 1:,}"


def diff(found: Comparison, names: tuple[str, str], *, every: bool) -> Report:
    """Two runs beside each other."""
    end = min(found.num_steps)
    lines = [f"A: {names[0]}", f"B: {names[1]}"]
    if found.num_steps[0] != found.num_steps[1]:
        lines.append(f"A has {found.num_steps[0]:,} steps, B {found.num_steps[1]:,}: compared below step {end:,}")
    if found.first_difference is None:
        lines.append("the weights are the same in every step")
    else:
        lines.append(f"the weights differ from step {found.first_difference:,} on:")
        rows = [[f"{s.start:,}", f"{s.end:,}", _change(*s.a), _change(*s.b)] for s in found.stretches]
        lines += _shortened(["from step", "to", "A", "B"], rows, every)
    if found.first_other_size is not None:
        lines.append(f"the batch sizes differ from step {found.first_other_size:,} on")
    if found.same_below:
        lines.append(f"below step {found.same_below:,} both read the same samples in the same slots")
    lines += ["", f"read below step {found.step:,}, in samples:"]
    head = ["corpus", ">A", ">B", ">both", ">only A", ">only B", ">epochs A", ">epochs B", ">A repeats", ">B repeats"]
    lines += table(head, [[name, *_beside(reads, found.seq_len)] for name, reads in found.corpora.items()])
    return Report(data={"a": names[0], "b": names[1], **found.to_dict()}, lines=lines)


def _context(phase: Phase) -> str:
    """What a phase says of its rows and positions; nothing where they go on."""
    rope = f", rope {phase.rope.kind} x {phase.rope.factor:g}" if phase.rope else ""
    return (f", rows of {phase.seq_len:,} tokens" if phase.seq_len else "") + rope


def _beside(reads: Reads, seq_len: int) -> list[str]:
    def only(samples: int | None) -> str:
        return "?" if samples is None else f"{samples:,} ({tokens(samples * seq_len)})" if samples else "0"

    return [
        f"{reads.a:,}",
        f"{reads.b:,}",
        "?" if reads.common is None else f"{reads.common:,}",
        only(reads.only_a),
        only(reads.only_b),
        f"{reads.a_epochs:.3f}",
        f"{reads.b_epochs:.3f}",
        _step(reads.a_first_repeat),
        _step(reads.b_first_repeat),
    ]


def _change(first: Mapping[str, float], last: Mapping[str, float]) -> str:
    return _mixture(first) if first == last else f"{_mixture(first)} → {_mixture(last)}"


def _shortened(head: list[str], rows: list[list[str]], every: bool) -> list[str]:
    shown = len(rows) if every else SHOWN
    more = [f"… and {len(rows) - shown:,} more (--all)"] if shown < len(rows) else []
    return [*table(head, rows[:shown]), *more]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns; a heading that begins with > has its column to the right."""
    right = [cell.startswith(">") for cell in head]
    cells = [[cell.removeprefix(">") for cell in head], *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  " + "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]  # fmt: skip


def tokens(count: int) -> str:
    """A number of tokens, short: 12.6B."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return f"{count:,}"


def _mixture(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight)


def _weight(weight: int | None) -> str:
    """All nine digits, as far as they are not 0: as a schedule would have to say it."""
    if weight is None:
        return "none"
    return f"{weight // UNIT}.{weight % UNIT:09d}".rstrip("0").rstrip(".")


def _step(step: int | None) -> str:
    return "never" if step is None else f"{step:,}"


def _cut(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"
