"""Logs on standard error, a line each: JSON for machines, or text for people. Only entry points call `configure`.

A record may carry `fields` (`logger.info("...", extra={"fields": {...}})`), which become keys of the JSON object, or
key=value after the text. Whoever logs sees to it that no secret is among them.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

__all__ = ["FORMATS", "LEVELS", "Format", "Level", "configure"]

Format = Literal["json", "text"]
FORMATS: tuple[Format, ...] = ("json", "text")
Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")
QUIET = ("alembic", "uvicorn", "asyncio")  # libraries that say at info what is of no use here


def configure(*, form: Format, level: Level) -> None:
    """Send every record of this process from `level` up to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _Json(logging.Formatter):
    """One JSON object a line, in ASCII, so that no text can end the line or fake another."""

    def format(self, record: logging.LogRecord) -> str:
        found = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        found |= {"message": record.getMessage(), **_fields(record)}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found, default=str)


class _Text(logging.Formatter):
    """One line a record, and a traceback below it where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items() if value is not None)
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = f"{_time(record)} {record.levelname.lower():7} {record.name}: {message}{fields}"
        return line if not record.exc_info else f"{line}\n{self.formatException(record.exc_info)}"
