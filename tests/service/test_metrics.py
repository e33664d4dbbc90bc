"""service.metrics: what is counted, under which labels, and that each application counts for itself."""

from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics
from service.settings import Settings
from tests.service.conftest import edit_body, report_body, run_body
from tests.service.processes import serve_in_thread

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """(name, labels) → value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, metric: str, /, **labels: str) -> float | None:
    return found.get((metric, frozenset(labels.items())))


def test_requests_are_counted_by_route() -> None:
    metrics = Metrics()
    for seconds in (0.25, 0.5):
        metrics.answered(method="GET", route="/v1/runs/{run_id}", status=200, seconds=seconds)
    metrics.answered(method="GET", route="/v1/runs/{run_id}/events", status=200, seconds=None)
    metrics.answered(method="BREW", route="none", status=405, seconds=0.1)
    found = samples(metrics.render().decode())
    labels = {"method": "GET", "route": "/v1/runs/{run_id}"}
    assert value(found, "switchpoint_requests_total", **labels, status="200") == 2
    assert value(found, "switchpoint_request_seconds_sum", **labels) == 0.75
    assert value(found, "switchpoint_request_seconds_bucket", **labels, le="0.25") == 1
    assert value(found, "switchpoint_requests_total", method="other", route="none", status="405") == 1
    assert value(found, "switchpoint_request_seconds_count", method="GET", route="/v1/runs/{run_id}/events") is None
    assert value(samples(Metrics().render().decode()), "switchpoint_requests_total", **labels, status="200") is None


def test_what_a_service_shows(tmp_path: Path) -> None:
    with (
        serve_in_thread(Settings(database=tmp_path / "a.db")) as url,
        httpx.Client(base_url=url) as client,
    ):
        run_id = client.post("/v1/runs", json=run_body(name='a "quoted" run')).json()["id"]
        run = f"/v1/runs/{run_id}"
        assert client.post(f"{run}/progress", json=report_body(7, 20)).status_code == 200
        assert client.post(f"{run}/revisions?dry_run=true", json=edit_body()).status_code == 200
        assert client.post(f"{run}/revisions", json=edit_body()).status_code == 201
        assert client.post(f"{run}/revisions", json=edit_body()).status_code == 409
        assert client.post(f"{run}/revisions", json=edit_body(1, effective_step=3)).status_code == 409
        assert client.post(f"{run}/revisions", json={}).status_code == 422
        assert client.post(f"{run}/progress", json=report_body(8, 20, known_revision=5)).status_code == 409
        assert client.get(f"/{run_id}").status_code == 404
        text = client.get("/metrics").text
    found, labels = samples(text), {"run": run_id, "name": 'a "quoted" run'}
    outcomes = {
        name: {dict(labels)["outcome"]: count for (metric, labels), count in found.items() if metric == name}
        for name in ("switchpoint_edits_total", "switchpoint_reports_total")
    }
    assert outcomes == {
        "switchpoint_edits_total": {
            "accepted": 1,
            "previewed": 1,
            "stale-parent": 1,
            "frozen-step": 1,
            "invalid-request": 1,
        },
        "switchpoint_reports_total": {"accepted": 1, "revision-not-in-force": 1},
    }
    assert value(found, "switchpoint_run_frontier", **labels) == 20
    assert value(found, "switchpoint_run_step", **labels) == 7
    assert value(found, "switchpoint_run_num_steps", **labels) == 1000
    assert value(found, "switchpoint_run_revision", **labels) == 1
    assert [value(found, f"switchpoint_{name}") for name in ("runs", "revisions", "revisions_superseded")] == [1, 1, 0]
    assert value(found, "switchpoint_database_up") == 1
    assert (value(found, "switchpoint_transaction_seconds_count", kind="write") or 0) >= 4
    assert value(found, "switchpoint_requests_total", method="GET", route="none", status="404") == 1
    assert "_created" not in text
    assert not [key for key in found if "request" in key[0] and run_id in str(key)]
    (build,) = (dict(labels) for (name, labels) in found if name == "switchpoint_build_info")
    assert set(build) == {"version", "python", "order_version"}


def test_a_database_that_does_not_answer_is_shown_as_that(tmp_path: Path) -> None:
    from service.store import Store

    store, metrics = Store(tmp_path / "a.db"), Metrics()
    metrics.watch(store, max_runs=10)
    assert value(samples(metrics.render().decode()), "switchpoint_runs") == 0
    with store.write() as tx:
        tx._connection.exec_driver_sql("ALTER TABLE runs RENAME TO gone")
    found = samples(metrics.render().decode())
    assert value(found, "switchpoint_database_up") == 0
    assert value(found, "switchpoint_runs") is None
    store.close()
