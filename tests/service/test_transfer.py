"""service.transfer: what an exported ledger holds, and which files are refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import LedgerFileError, OrderVersionError
from service.runs import Runs
from service.schemas import ProgressIn, RevisionIn, RunIn
from service.store import Store
from service.transfer import export_ledger, import_ledger
from tests.service.conftest import edit_body, report_body, run_body

Items = list[dict[str, Any]]


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    """A ledger with a superseded revision, one in force, and two reports."""
    store = Store(tmp_path / "a.db")
    runs = Runs(store, plan_cache_size=4)
    run_id = runs.create(RunIn.model_validate(run_body()))[0].row.id
    runs.revise(run_id, RevisionIn.model_validate(edit_body()), parent=0)
    runs.report(run_id, ProgressIn.model_validate(report_body(600, 620, metrics={"loss": None})))
    runs.revise(run_id, RevisionIn.model_validate(edit_body(effective_step=700)), parent=0)
    runs.report(run_id, ProgressIn.model_validate(report_body(610, 630, counts={"c4": 9760})))
    found = list(export_ledger(store, run_id))
    store.close()
    return found


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "b.db")
    yield store
    store.close()


@pytest.fixture
def changed_lines(tmp_path: Path) -> list[str]:
    """A ledger whose second revision changes corpora and leaves the weights as they are."""
    store = Store(tmp_path / "c.db")
    runs = Runs(store, plan_cache_size=4)
    body = run_body()
    body["schedule"]["changes"] = [{"start": "9ba", "corpora": {"c4": {"skip": {"samples": 5}}}}]
    run_id = runs.create(RunIn.model_validate(body))[0].row.id
    runs.revise(run_id, RevisionIn.model_validate(edit_body()), parent=0)
    corpora = {"web": {"rename": {"from": "code"}}, "c4": {"quarantine": {"samples": [5, [7, 9]]}}}
    runs.revise(run_id, RevisionIn.model_validate(edit_body(1, 600, mixture=None, corpora=corpora)), parent=1)
    found = list(export_ledger(store, run_id))
    store.close()
    return found


def test_changes_of_corpora(changed_lines: list[str], target: Store) -> None:
    first, second = (json.loads(line)["revision"] for line in changed_lines[1:3])
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
    run_id = runs.create(RunIn.model_validate(body))[0].row.id
    edits = [edit_body(), edit_body(1, 600, mixture=None, global_batch_size=32)]
    for parent, edit in enumerate(edits):
        runs.revise(run_id, RevisionIn.model_validate(edit), parent=parent)
    lines = list(export_ledger(store, run_id))
    schedule = runs.state(run_id).plan.schedule
    store.close()
    first, second = (json.loads(line)["revision"] for line in lines[1:3])
    assert "global_batch_size" not in first  # as it was written before it could change
    assert (second["schedule"], second["global_batch_size"]) == (None, 32)
    row = import_ledger(target, lines)
    assert list(export_ledger(target, row.id)) == lines
    assert Runs(target, plan_cache_size=4).state(row.id).plan.schedule == schedule
    assert [tuple(found) for found in schedule.batch_sizes] == [(9, 24, 144), (600, 32, 144 + 591 * 24)]
    second["global_batch_size"] = 0
    with pytest.raises(LedgerFileError, match=r"line 3: .* @ \$.global_batch_size"):
        import_ledger(target, [*lines[:2], json.dumps({"revision": second}), *lines[3:]])


def test_lines(lines: list[str]) -> None:
    items = [json.loads(line) for line in lines]
    assert [next(iter(item)) for item in items] == [
        "format",
        "revision",
        "revision",
        "progress",
        "progress",
        "end",
    ]
    assert items[-1] == {"end": {"revisions": 2, "progress": 2}}


def test_import_gives_the_same_export(lines: list[str], target: Store) -> None:
    row = import_ledger(target, lines)
    assert (row.revision, row.newest, row.frontier, row.step) == (2, 2, 630, 610)
    assert list(export_ledger(target, row.id)) == lines


def test_an_imported_run_goes_on(lines: list[str], target: Store) -> None:
    row = import_ledger(target, lines)
    runs = Runs(target, plan_cache_size=4)
    made, _ = runs.revise(row.id, RevisionIn.model_validate(edit_body(effective_step=800)), parent=2)
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
        ({"c4": {"burn": {}}}, r"line 3: expected one of add, .* @ \$.revision.corpora.c4"),
        ({"c4": {"skip": {"samples": "x"}}}, r"line 3: .* @ \$.revision.corpora.c4.skip.samples"),
        ({"c5": {"skip": {"samples": 1}}}, "not sound: there is no corpus 'c5'"),
        (5, r"line 3: .* @ \$.corpora"),
    ],
)
def test_changes_that_cannot_be(changed_lines: list[str], target: Store, corpora: Any, problem: str) -> None:
    item = json.loads(changed_lines[2])
    item["revision"]["corpora"] = corpora
    with pytest.raises(LedgerFileError, match=problem):
        import_ledger(target, [*changed_lines[:2], json.dumps(item), *changed_lines[3:]])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda items: items[:-1], "the file is not whole"),
        (lambda items: items[:2] + items[3:], "the file is not whole"),
        (lambda items: [], "not a switchpoint-ledger"),
        (change(0, "version", value=2), "not a switchpoint-ledger of version 1"),
        (change(0, "definition", "num_steps", value="many"), r"line 1: .* @ \$.definition.num_steps"),
        (change(0, "definition", "schedule", "phases", 0, "mixture", value={"c5": 1.0}), "unknown corpus 'c5'"),
        (change(1, value={"note": 1}), "line 2: this is neither a revision nor progress"),
        (change(1, "revision", "number", value=2), "must rise"),
        (change(2, "revision", "number", value=5), "not sound"),
        (change(2, "revision", "schedule", value={"phases": []}), "not sound"),
        (change(3, "progress", "step", value=None), r"line 4: .* @ \$.step"),
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


def test_a_line_cut_short(lines: list[str], target: Store) -> None:
    with pytest.raises(LedgerFileError, match="line 6: this is not JSON"):
        import_ledger(target, [*lines[:-1], lines[-1][:-3]])


def test_another_order_version(lines: list[str], target: Store) -> None:
    head = json.loads(lines[0]) | {"order_version": 999}
    with pytest.raises(OrderVersionError, match=r"version 999, .* import and serve the file with the release that"):
        import_ledger(target, [json.dumps(head), *lines[1:]])
