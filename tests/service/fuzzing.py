"""Hooks of schemathesis: half of what it draws meets the run that there is, so that it gets beyond "no such run".

Read by schemathesis in a process of its own (`SCHEMATHESIS_HOOKS`); `FUZZED_RUN` is the id of the run.
"""

import os
import zlib
from typing import Any

import schemathesis

from tests.service.conftest import edit_body, report_body, run_body

RUN = os.environ["FUZZED_RUN"]
VALID = {
    "createRun": run_body,
    "createRevision": lambda: edit_body(None, 900, mixture={"c4": 0.5, "math": 0.5}),
    "reportProgress": lambda: report_body(1, 2),
    "claimRun": lambda: {"trainer": "host:folder", "step": 3},
    "forkRun": lambda: {"name": "fork", "step": 5, "author": "ada", "reason": "another try"},
    "setLimits": lambda: {"limits": {"c4": {"min": 0.1}}, "reason": "never without it"},
}


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Ids that exist, mostly."""
    if path_parameters is None:
        return None
    found = dict(path_parameters)
    for name, value in (("run_id", RUN), ("corpus", "c4")):
        if name in found and _draw(found, 4):
            found[name] = value
    return found


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """A valid body with one field of what was drawn, or what was drawn as it is."""
    valid = VALID.get(context.operation.definition.raw.get("operationId"))
    if valid is None or not isinstance(body, dict) or _draw(body, 3) == 0:
        return body
    names = sorted(body)
    kept = {names[_draw(body, len(names))]: body[names[_draw(body, len(names))]]} if names and _draw(body, 5) else {}
    return {**valid(), **kept}


def _draw(value: object, one_of: int) -> int:
    """A number below `one_of`, the same for the same value."""
    return zlib.crc32(repr(value).encode(errors="replace")) % one_of
