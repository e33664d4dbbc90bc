"""service.logs: a line for each record, whatever is in it."""

import json
import logging
from collections.abc import Iterator

import pytest

from service import logs


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Gives the root logger back what it had."""
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's own, which `force` would close
    yield
    root.handlers[:] = kept
    root.setLevel(level)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form="json", level="info")
    log = logging.getLogger("service.test")
    log.debug("left out")
    log.info("two\nlines of %s", "ü", extra={"fields": {"status": 200, "actor": "ada"}})
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "logger": "service.test",
        "message": "two\nlines of ü",
        "status": 200,
        "actor": "ada",
    }
    assert "ValueError: no" in second["exception"]


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form="text", level="warning")
    log = logging.getLogger("service.test")
    log.info("left out")
    log.warning("two\nlines", extra={"fields": {"status": 200, "actor": None}})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("warning service.test: two\\nlines status=200")


def test_libraries_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form="text", level="debug")
    for name in ("uvicorn.error", "alembic.runtime.migration"):
        logging.getLogger(name).info("Context impl")
    assert capsys.readouterr().err == ""
