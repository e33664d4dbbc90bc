"""A run from wherever it is kept: its YAML file, a ledger exported by the service, or the service itself.

    cfg.yaml                                   what would be trained
    ledger.jsonl                               JSON lines, as `switchpoint-service export` writes them
    http://127.0.0.1:8321/v1/runs/ID           a run that is served; its name may stand for the id
    http://127.0.0.1:8321                      the only run that is served there

Of a ledger or a service come the definition and every revision; plans are then made here, by the same code as of a
YAML file. Standard library and pydantic only.
"""

import http.client
import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from pydantic import BaseModel, NonNegativeInt, PositiveInt, StrictStr, ValidationError

from mixer.errors import MixerError
from mixer.ledger import Ledger, Revision
from mixer.plan import ORDER_VERSION, Corpus
from mixer.runfile import PlannedRun, load_run
from mixer.schedule import Schedule

FORMAT = "switchpoint-ledger"
VERSIONS = (1, 2)  # the second has the record of events too, which decides nothing here
TIMEOUT_S = 30
MAX_BYTES = 2**28  # of an answer: shard sizes of some ten million shards

_RUN = re.compile(r"(?P<base>.*)/v1/runs/(?P<run>[^/]+)")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # what RFC 6750 lets a bearer token hold


class _Corpus(BaseModel):
    shard_sizes: list[NonNegativeInt]
    max_epochs: PositiveInt | None = None
    then: StrictStr = "refuse"
    seq_len: PositiveInt | None = None


class _Definition(BaseModel):
    name: StrictStr
    data_seed: NonNegativeInt
    global_batch_size: PositiveInt
    seq_len: PositiveInt
    num_steps: PositiveInt
    shuffle_window: PositiveInt
    num_groups: PositiveInt = 1
    corpora: dict[StrictStr, _Corpus]
    schedule: dict[str, Any]


class _Kept(BaseModel):
    """A run as the service keeps it. What later versions add is passed over: the order has a version of its own."""

    order_version: int
    frontier: NonNegativeInt
    step: NonNegativeInt | None
    definition: _Definition
    revisions: list[Revision]


def open_run(
    source: str, *, sizes: Mapping[str, str] | None = None, token: str | None = None, token_over_http: bool = False
) -> PlannedRun:
    """The run that `source` names.

    `sizes` are for a YAML file (see `load_run`). `token` is sent to a service; over plain HTTP only to this machine, or
    with `token_over_http`. Raises MixerError for what is wrong with source or answer, OSError where nobody answers.
    """
    if re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE):
        return _served(_Service(source, token, token_over_http=token_over_http))
    lines = _ledger_lines(Path(source))
    return load_run(source, sizes) if lines is None else _exported(source, lines)


def _ledger_lines(path: Path) -> list[str] | None:
    """The lines of an exported ledger, or None of any other file (which the YAML's reader then complains about)."""
    try:
        with path.open("rb") as file:
            if not re.match(rb'\s*\{"format": *"' + FORMAT.encode(), file.read(80)):
                return None
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None


def _exported(path: str, lines: list[str]) -> PlannedRun:
    try:
        items = [json.loads(line) for line in lines]
        head, rest, end = items[0], items[1:-1], items[-1]["end"]
        kinds = {"revision": "revisions", "progress": "progress", "event": "events"}
        counts = {name: sum(kind in item for item in rest) for kind, name in kinds.items()}
        whole = {name: end.get(name, 0) for name in counts} == counts and len(rest) == sum(counts.values())
    except (ValueError, LookupError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise MixerError(f"{path} is not a whole {FORMAT}, its last line must count what it holds: export it again")
    if head.get("version") not in VERSIONS:
        raise MixerError(f"{path} is a {FORMAT} of version {head.get('version')}, this program reads versions 1 and 2")
    return _kept({**head, "revisions": [item["revision"] for item in rest if "revision" in item]}, path)


def _served(service: "_Service") -> PlannedRun:
    run = service.run or service.only_run()
    found = service.ledger(run) if re.fullmatch("[0-9a-f]{1,32}", run) else None
    if found is None:
        named = [str(each.get("id")) for each in service.runs() if each.get("name") == run]
        found = service.ledger(named[0]) if named else None
    if found is None:
        raise MixerError(f"{service.base} has no run {run!r}; it has {service.list_runs()}")
    return _kept(found, service.base)


def _kept(obj: Mapping[str, Any], where: str) -> PlannedRun:
    try:
        kept = _Kept.model_validate(obj)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f".{part}" for part in first["loc"])
        raise MixerError(f"{where} does not hold a run as this program knows it: {first['msg']} @ ${place}") from error
    if kept.order_version != ORDER_VERSION:
        raise MixerError(
            f"the run in {where} has version {kept.order_version} of the sample order, this program makes version "
            f"{ORDER_VERSION}: use the one that the run was made with"
        )
    definition = kept.definition
    sizes = {name: getattr(definition, name) for name in ("num_steps", "global_batch_size", "seq_len")}
    ledger = Ledger(base=Schedule.from_dict(definition.schedule, **sizes)).extend(kept.revisions)
    return PlannedRun(
        name=definition.name,
        schedule=ledger.schedule,
        corpora={name: Corpus(**dict(corpus)) for name, corpus in definition.corpora.items()},
        data_seed=definition.data_seed,
        shuffle_window=definition.shuffle_window,
        num_groups=definition.num_groups,
        ledger=ledger,
        frontier=kept.frontier,
        step=kept.step,
    )


class _StayHere(HTTPRedirectHandler):
    """A redirect is no answer: following it could carry the token to another machine."""

    def redirect_request(self, *args: Any) -> None:
        return None


class _Service:
    """One address of a service, and what is asked of it. The token is in no message.

    `run` is the run that the address names, or None; `base` the rest of it.
    """

    def __init__(self, url: str, token: str | None, *, token_over_http: bool) -> None:
        parts = _split(url)
        named = _RUN.fullmatch(parts.path.rstrip("/"))
        if parts.username or parts.password or parts.query or parts.fragment:
            raise MixerError(
                "an address of a service is host, port and path alone; a token goes into SWITCHPOINT_TOKEN"
            )
        host = parts.hostname or ""
        local = is_loopback(host)
        if token and parts.scheme.lower() == "http" and not local and not token_over_http:
            raise MixerError(f"the token would go to {host} unencrypted: use https, a tunnel, or --token-over-http")
        if token and not _TOKEN.fullmatch(token):
            raise MixerError("SWITCHPOINT_TOKEN holds characters that a bearer token cannot have")
        self.base = f"{parts.scheme}://{parts.netloc}{named['base'] if named else parts.path.rstrip('/')}"
        self.run = unquote(named["run"]) if named else None
        self._headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._opener: OpenerDirector = build_opener(_StayHere, *([ProxyHandler({})] if local else []))

    def ledger(self, run: str) -> dict[str, Any] | None:
        """The ledger of the run with this id, or None if there is no such run."""
        return self._get(f"/v1/runs/{quote(run, safe='')}/ledger", absent="unknown-run")

    def runs(self) -> list[dict[str, Any]]:
        """Head of every run."""
        found: list[dict[str, Any]] = []
        after: Any = 0
        while after is not None:
            page = self._get(f"/v1/runs?after={int(after)}") or {}
            found += page.get("runs") or []
            after = page.get("next")
        return found

    def only_run(self) -> str:
        """The id of the run, if the service has only one."""
        runs = self.runs()
        if len(runs) != 1:
            raise MixerError(f"say which run: {self.base}/v1/runs/ID, or its name; there are {self.list_runs()}")
        return str(runs[0]["id"])

    def list_runs(self) -> str:
        """The newest runs, for a message."""
        shown = [f"{run.get('id')} ({run.get('name')})" for run in self.runs()]
        return ", ".join([*(["…"] if len(shown) > 10 else []), *shown[-10:]]) or "none"

    def _get(self, path: str, absent: str | None = None) -> dict[str, Any] | None:
        """The JSON object at `path`, or None where the answer is the problem `absent`."""
        try:
            with self._opener.open(Request(self.base + path, headers=self._headers), timeout=TIMEOUT_S) as answer:
                body = answer.read(MAX_BYTES + 1)
        except HTTPError as error:
            problem = _as_object(error.read(MAX_BYTES)) or {}
            if absent and problem.get("type") == f"urn:switchpoint:problem:{absent}":
                return None
            raise self._refusal(error, problem) from error
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise OSError(
                f"cannot reach {self.base}: {reason or type(reason).__name__}; is a service running there?"
            ) from error
        found = _as_object(body)
        if found is None or len(body) > MAX_BYTES:
            raise self._stranger()
        return found

    def _refusal(self, error: HTTPError, problem: Mapping[str, Any]) -> Exception:
        detail = str(problem.get("detail", error.reason))
        if error.code == 401:
            held = "does not know the token in" if "Authorization" in self._headers else "wants a token: put it into"
            return MixerError(f"{self.base} {held} SWITCHPOINT_TOKEN")
        if 300 <= error.code < 400:
            return MixerError(f"{self.base} sends on to {error.headers.get('Location')}: give that address")
        if "type" not in problem or problem["type"] == "urn:switchpoint:problem:not-found":
            return self._stranger() if error.code < 500 else OSError(f"{self.base} answers {error.code}: {detail}")
        return OSError(f"{self.base}: {detail}") if error.code >= 500 else MixerError(f"{self.base}: {detail}")

    def _stranger(self) -> MixerError:
        return MixerError(
            f"{self.base} does not answer as a switchpoint service of this version does: check the address"
        )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme.lower() in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise MixerError("a service has an address like http://127.0.0.1:8321/v1/runs/ID; this is none")


def _as_object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine. A name other than localhost counts as another."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
