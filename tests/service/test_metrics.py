"""service.metrics: Prometheus' text format."""

from service.metrics import RequestMetrics, render


def test_render() -> None:
    text = render("a_total", "counter", "How many.", [({"x": 'q"\\\n'}, 3), ({}, 0.5)])
    assert text == '# HELP a_total How many.\n# TYPE a_total counter\na_total{x="q\\"\\\\\\n"} 3\na_total 0.5\n'


def test_requests_are_counted_by_route() -> None:
    metrics = RequestMetrics()
    for seconds in (0.25, 0.5):
        metrics.observe(method="GET", route="/v1/runs/{run_id}", status=200, seconds=seconds)
    requests, total = metrics.samples()
    labels = {"method": "GET", "route": "/v1/runs/{run_id}", "status": "200"}
    assert requests == [(labels, 2)]
    assert total == [(labels, 0.75)]
