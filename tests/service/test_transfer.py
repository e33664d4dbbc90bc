"""service.transfer: what an exported ledger holds, and which files are refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.chain import link, replay
from service.errors import LedgerFileError, OrderVersionError
from service.runs import Runs
from service.schemas import ProgressIn, RevisionIn, RunIn
from service.store import Store
from service.transfer import export_ledger, import_ledger
from tests.service.conftest import Database, edit_body, report_body, run_body

BOTH_DATABASES = True

Items = list[dict[str, Any]]


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    """A ledger with a superseded revision, one in force, and two reports."""
    store = Store(tmp_path / "a.db")
    runs = Runs(store, plan_cache_size=4)
    run_id = runs.create(RunIn.model_validate(run_body()), actor="test")[0].row.id
    runs.revise(run_id, RevisionIn.model_validate(edit_body()), parent=0, actor="test")
    runs.report(run_id, ProgressIn.model_validate(report_body(600, 620, metrics={"loss": None})), actor="test")
    runs.revise(run_id, RevisionIn.model_validate(edit_body(effective_step=700)), parent=0, actor="test")
    runs.report(run_id, ProgressIn.model_validate(report_body(610, 630, counts={"c4": 9760})), actor="test")
    found = list(export_ledger(store, run_id))
    store.close()
    return found


@pytest.fixture
def target(database: Database) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


@pytest.fixture
def changed_lines(tmp_path: Path) -> list[str]:
    """A ledger whose second revision changes corpora and leaves the weights as they are."""
    store = Store(tmp_path / "c.db")
    runs = Runs(store, plan_cache_size=4)
    body = run_body()
    body["schedule"]["changes"] = [{"start": "9ba", "corpora": {"c4": {"skip": {"samples": 5}}}}]
    run_id = runs.create(RunIn.model_validate(body), actor="test")[0].row.id
    runs.revise(run_id, RevisionIn.model_validate(edit_body()), parent=0, actor="test")
    corpora = {"web": {"rename": {"from": "code"}}, "c4": {"quarantine": {"samples": [5, [7, 9]]}}}
    runs.revise(
        run_id, RevisionIn.model_validate(edit_body(1, 600, mixture=None, corpora=corpora)), parent=1, actor="test"
    )
    found = list(export_ledger(store, run_id))
    store.close()
    return found


def test_changes_of_corpora(changed_lines: list[str], target: Store) -> None:
    first, second = (item["revision"] for item in map(json.loads, changed_lines) if "revision" in item)
    assert "corpora" not in first  # as it was written before there were any
    assert second["schedule"] is None
    assert second["corpora"]["c4"] == {"quarantine": {"samples": [[5, 6], [7, 9]]}}
    row = import_ledger(target, changed_lines)
    assert list(export_ledger(target, row.id)) == changed_lines
    plan = Runs(target, plan_cache_size=4).state(row.id).plan
    assert plan.counts(600) == {"c4": 8, "web": 8}
    assert plan.steps_of("c4", 5, start=600) == []


def test_batch_sizes(target: Store, tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db")
    runs = Runs(store, plan_cache_size=4)
    body = run_body()
    body["schedule"]["batch_sizes"] = [{"start": "9ba", "global_batch_size": 24}]
    run_id = runs.create(RunIn.model_validate(body), actor="test")[0].row.id
    edits = [edit_body(), edit_body(1, 600, mixture=None, global_batch_size=32)]
    for parent, edit in enumerate(edits):
        runs.revise(run_id, RevisionIn.model_validate(edit), parent=parent, actor="test")
    lines = list(export_ledger(store, run_id))
    schedule = runs.state(run_id).plan.schedule
    store.close()
    first, second = (item["revision"] for item in map(json.loads, lines) if "revision" in item)
    assert "global_batch_size" not in first  # as it was written before it could change
    assert (second["schedule"], second["global_batch_size"]) == (None, 32)
    row = import_ledger(target, lines)
    assert list(export_ledger(target, row.id)) == lines
    assert Runs(target, plan_cache_size=4).state(row.id).plan.schedule == schedule
    assert [tuple(found) for found in schedule.batch_sizes] == [(9, 24, 144), (600, 32, 144 + 591 * 24)]
    second["global_batch_size"] = 0
    with pytest.raises(LedgerFileError, match=r"line 6: .* @ \$.global_batch_size"):
        import_ledger(target, [*lines[:5], json.dumps({"revision": second}), *lines[6:]])


def test_lines(lines: list[str]) -> None:
    items = [json.loads(line) for line in lines]
    assert [next(iter(item)) for item in items] == [
        "format",
        *["event"] * 5,
        "revision",
        "revision",
        "progress",
        "progress",
        "end",
    ]
    head = items[5]["event"]["hash"]
    assert items[-1] == {"end": {"events": 5, "revisions": 2, "progress": 2, "head": head}}
    kinds = [item["event"]["kind"] for item in items[1:6]]
    assert kinds == ["created", "revised", "reported", "revised", "reported"]


def test_import_gives_the_same_export(lines: list[str], target: Store) -> None:
    row = import_ledger(target, lines)
    assert (row.revision, row.newest, row.frontier, row.step) == (2, 2, 630, 610)
    assert list(export_ledger(target, row.id)) == lines


def test_an_imported_run_goes_on(lines: list[str], target: Store) -> None:
    row = import_ledger(target, lines)
    runs = Runs(target, plan_cache_size=4)
    made, _ = runs.revise(row.id, RevisionIn.model_validate(edit_body(effective_step=800)), parent=2, actor="test")
    assert made["number"] == 3


def change(*path: Any, value: Any) -> Callable[[Items], Items]:
    def apply(items: Items) -> Items:
        target: Any = items
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value
        return items

    return apply


@pytest.mark.parametrize(
    ("corpora", "problem"),
    [
        ({"c4": {"burn": {}}}, r"line 6: expected one of add, .* @ \$.revision.corpora.c4"),
        ({"c4": {"skip": {"samples": "x"}}}, r"line 6: .* @ \$.revision.corpora.c4.skip.samples"),
        ({"c5": {"skip": {"samples": 1}}}, "not sound: there is no corpus 'c5'"),
        (5, r"line 6: .* @ \$.corpora"),
    ],
)
def test_changes_that_cannot_be(changed_lines: list[str], target: Store, corpora: Any, problem: str) -> None:
    item = json.loads(changed_lines[5])
    item["revision"]["corpora"] = corpora
    with pytest.raises(LedgerFileError, match=problem):
        import_ledger(target, [*changed_lines[:5], json.dumps(item), *changed_lines[6:]])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda items: items[:-1], "the file is not whole"),
        (lambda items: items[:2] + items[3:], "the file is not whole"),
        (lambda items: [], "not a switchpoint-ledger"),
        (change(0, "version", value=3), "not a switchpoint-ledger of version 1 or 2"),
        (change(0, "definition", "num_steps", value="many"), r"line 1: .* @ \$.definition.num_steps"),
        (change(0, "definition", "schedule", "phases", 0, "mixture", value={"c5": 1.0}), "unknown corpus 'c5'"),
        (change(6, value={"note": 1}), "line 7: this is neither an event, a revision nor progress"),
        (change(6, "revision", "number", value=2), "must rise"),
        (change(7, "revision", "number", value=5), "not sound"),
        (change(7, "revision", "schedule", value={"phases": []}), "not sound"),
        (change(8, "progress", "step", value=None), r"line 9: .* @ \$.step"),
    ],
)
def test_damage_is_refused_and_stores_nothing(
    lines: list[str], target: Store, damage: Callable[[Items], Items], problem: str
) -> None:
    damaged = [json.dumps(item) for item in damage([json.loads(line) for line in lines])]
    with pytest.raises(LedgerFileError, match=problem):
        import_ledger(target, damaged)
    with target.read() as tx:
        assert tx.totals()["runs"] == 0


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (change(2, "event", "actor", value="nobody"), "event 2 does not have the hash"),
        (change(3, "event", "body", "frontier", value=500), "event 3 does not have the hash"),
        (lambda items: [*items[:2], items[3], items[2], *items[4:]], "event 2 is missing"),
        (change(0, "frontier", value=640), "does not add up to .*: frontier differs"),
        (change(0, "definition", "data_seed", value=18), "does not add up to .*: definition differs"),
        (change(0, "limits", value={"c4": {"min": 0.1}}), "does not add up to .*: limits differs"),
        (change(6, "revision", "superseded", value="another reason"), "does not add up to .*: superseded differs"),
        (change(7, "revision", "author", value="eve"), "does not add up to .*: revisions differs"),
    ],
)
def test_the_record_tells_what_was_changed(
    lines: list[str], target: Store, damage: Callable[[Items], Items], problem: str
) -> None:
    test_damage_is_refused_and_stores_nothing(lines, target, damage, problem)


def test_a_record_that_was_forged_whole(lines: list[str], target: Store) -> None:
    """Whoever makes new hashes for all of it is told from the head that somebody wrote down; and it must make sense."""
    items = [json.loads(line) for line in lines]
    items[2]["event"]["body"]["effective_step"] = 650  # of a revision that took effect at 500
    events, head = [item["event"] for item in items[1:6]], ""
    for event in events:
        head = event["hash"] = link(head, items[0]["id"], event)
    items[-1]["end"]["head"] = head
    assert head != json.loads(lines[5])["event"]["hash"]
    with pytest.raises(LedgerFileError, match="revisions differs"):
        import_ledger(target, [json.dumps(item) for item in items])
    events[2]["body"]["frontier"] = 900  # the next revision would be of a frozen step
    head = ""
    for event in events:
        head = event["hash"] = link(head, items[0]["id"], event)
    items[-1]["end"]["head"] = head
    with pytest.raises(LedgerFileError, match=r"event 4 \(revised\): step 700 was frozen"):
        import_ledger(target, [json.dumps(item) for item in items])


def test_a_file_of_the_first_version(lines: list[str], target: Store) -> None:
    """It had no events: the record says what is known."""
    items = [json.loads(line) for line in lines if "event" not in json.loads(line)]
    head = {name: value for name, value in items[0].items() if name not in ("limits", "claim", "parent")}
    first = [head | {"version": 1}, *items[1:-1], {"end": {"revisions": 2, "progress": 2}}]
    row = import_ledger(target, [json.dumps(item) for item in first])
    assert (row.revision, row.newest, row.frontier, row.step) == (2, 2, 630, 610)
    with target.read() as tx:
        events = tx.events(row.key)
    assert [event["kind"] for event in events] == ["created", "revised", "revised", "reported"]
    again = replay(row.id, events)
    assert (again.frontier, again.step, list(again.superseded)) == (630, 610, [1])
    assert (again.head, again.seq) == (row.head, row.seq)


def test_a_line_cut_short(lines: list[str], target: Store) -> None:
    with pytest.raises(LedgerFileError, match="line 11: this is not JSON"):
        import_ledger(target, [*lines[:-1], lines[-1][:-3]])


def test_another_order_version(lines: list[str], target: Store) -> None:
    head = json.loads(lines[0]) | {"order_version": 999}
    with pytest.raises(OrderVersionError, match=r"version 999, .* import and serve the file with the release that"):
        import_ledger(target, [json.dumps(head), *lines[1:]])
