"""What every request must be before its operation sees it, and what every operation may answer.

    the address     no encoded slash (what reads it before us may take it for another address), no unknown or repeated
                    parameter (a misspelt `dry_run` would store an edit)
    the headers     one length, one of each that decides something; a body is `application/json`
    the body        JSON as RFC 8259 has it: UTF-8, no key twice, no text that a database cannot keep (the character
                    NUL, halves of surrogate pairs)

`Route` is the route class of every router; it also documents the problems that follow from the form of an operation,
so that none can be forgotten.
"""

import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service import problems
from service.errors import InvalidRequestError
from service.schemas import ProblemOut

__all__ = ["PROBLEM", "Route", "read_json"]

PROBLEM: dict[str, Any] = {
    "description": "a problem, RFC 9457",
    "content": {problems.MEDIA_TYPE: {"schema": ProblemOut.model_json_schema()}},
}
ONCE = frozenset((b"authorization", b"content-length", b"content-type", b"host", b"idempotency-key", b"if-match"))


class Route(APIRoute):
    """An operation behind the checks of this module, with the problems that its form brings documented."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        found = {400, 401, 403, 421, 422, 429}
        if self.param_convertors:
            found |= {404, 409}  # 409 for reading, too: a run of another version of the sample order
        if self.body_field is not None:
            found |= {408, 409, 413, 415}
        self.responses = {**dict.fromkeys(sorted(found), PROBLEM), **self.responses}
        self._parameters = frozenset(_query_parameters(self.dependant))

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, on a request whose form has been checked."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            self._check(request)
            return await handle(_Request(request.scope, request.receive))

        return checked

    def _check(self, request: Request) -> None:
        if b"%2f" in request.scope.get("raw_path", b"").lower():
            raise HTTPException(404, "an address has no encoded slash")
        names = [name for name, _ in request.scope["headers"]]
        for name in names:
            if name in ONCE and names.count(name) > 1:
                raise HTTPException(400, f"the header {name.decode()} is given more than once")
        if b"transfer-encoding" in names and b"content-length" in names:
            raise HTTPException(400, "a body has a Content-Length or is chunked, not both")
        if request.scope["query_string"]:
            self._check_query([key for key, _ in request.query_params.multi_items()])
        if self.body_field is not None:
            _check_content_type(request.headers.get("content-type"))

    def _check_query(self, keys: Sequence[str]) -> None:
        allowed = ", ".join(sorted(self._parameters)) or "none"
        unknown = [key for key in keys if key not in self._parameters]
        wrong = [f"there is no parameter {key!r}; there are: {allowed} @ $.{_plain(key)}" for key in unknown]
        wrong += [f"it is given more than once @ $.{key}" for key in self._parameters if keys.count(key) > 1]
        if wrong:
            raise InvalidRequestError(wrong)


class _Request(Request):
    async def json(self) -> Any:
        return read_json(await self.body())


def _query_parameters(dependant: Any) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _query_parameters(inner)


def _check_content_type(value: str | None) -> None:
    kind, _, options = (value or "").partition(";")
    charset = options.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise HTTPException(415, f"the body must be application/json in UTF-8, found {value or 'no Content-Type'}")


def read_json(data: bytes) -> Any:
    """The value of a JSON text; `InvalidRequestError` where it is none, or has a key twice or text no database keeps.

    HTTPException (400) where it is not even UTF-8.
    """
    try:
        text = data.decode()
        value = json.loads(text, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequestError([f"the body is not JSON: {error.msg} at {where} @ $"]) from None
    except RecursionError:
        raise InvalidRequestError(["the body is nested too deep @ $"]) from None
    except ValueError:  # Python reads no integer of more than 4,300 digits
        raise InvalidRequestError(["a number of the body has too many digits @ $"]) from None
    if "\\u" in text:
        for place, character in _unkeepable(value):
            raise InvalidRequestError(
                [f"a text has the character U+{ord(character):04X}, which cannot be kept @ {place}"]
            )
    return value


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidRequestError([f"the key {key[:200]!r} is given twice in one object @ $"])
            seen.add(key)
    return found


def _unkeepable(value: Any) -> Iterator[tuple[str, str]]:
    """(place, character) of what no database keeps: NUL, and halves of surrogate pairs."""
    pending = [("$", value)]
    while pending:
        place, found = pending.pop()
        if isinstance(found, dict):
            pending += [(place, key) for key in found] + [(f"{place}.{key}", item) for key, item in found.items()]
        elif isinstance(found, list):
            pending += [(f"{place}[{index}]", item) for index, item in enumerate(found)]
        elif isinstance(found, str):
            yield from ((_plain(place), c) for c in found if c == "\0" or "\ud800" <= c <= "\udfff")


def _plain(text: str) -> str:
    return text.encode(errors="replace").decode()
