"""Twenty-four kinds of forbidden call, on both databases: each is refused by its name, and nothing is stored."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from service.settings import Settings
from service.tokens import parse_tokens
from tests.service.conftest import DATABASES, Database, contents, edit_body, open_engine, report_body, run_body
from tests.service.processes import serve_in_thread
from tests.service.raw import Reply, request, send

LIMIT_BYTES = 2**16
SECRETS = {scope: f"{scope}-0123456789abcdef" for scope in ("read", "write", "trainer", "admin")}
READERS = {"read", "write", "trainer", "admin"}
OPEN = {"getHealth", "getReadiness"}  # whoever can reach the service may ask whether it lives
ALLOWED: dict[str, set[str]] = {  # an operation that is not here fails the test: say who may call it
    "createRun": {"write", "trainer"},
    "listRuns": READERS,
    "getRun": READERS,
    "getSchedule": READERS,
    "getLedger": READERS,
    "getWeights": READERS,
    "getForecast": READERS,
    "getBatch": READERS,
    "getReads": READERS,
    "listRevisions": READERS,
    "createRevision": {"write"},
    "reportProgress": {"trainer"},
    "listProgress": READERS,
    "getMetrics": READERS,
    "claimRun": {"trainer"},
    "setLimits": {"admin"},
    "forkRun": {"write", "trainer"},
    "listEvents": READERS,
    "streamEvents": READERS,
    "listAllEvents": {"admin"},
}


@dataclass(frozen=True)
class Guarded:
    """A service with tokens, one run, and a client of each scope."""

    url: str
    run: str  # /v1/runs/...
    clients: dict[str, httpx.Client]
    stranger: httpx.Client
    operations: list[tuple[str, str, str, bool]]  # (id, method, path, takes a body)
    engine: sa.Engine

    def post(self, path: str, body: bytes | Any, *headers: str, scope: str = "write") -> Reply:
        """POST by hand: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {line.partition(":")[0].lower() for line in headers}
        extra = [] if "content-type" in given else ["Content-Type: application/json"]
        extra += [] if "authorization" in given else [f"Authorization: Bearer {SECRETS[scope]}"]
        return send(self.url, request("POST", path, data, *extra, *headers))

    def get(self, target: str, *headers: str) -> Reply:
        """GET by hand: the target goes out as it stands."""
        return send(self.url, request("GET", target, b"", f"Authorization: Bearer {SECRETS['read']}", *headers))

    def edit(self, body: bytes | Any, *headers: str) -> Reply:
        return self.post(f"{self.run}/revisions", body, *headers)

    def report(self, body: bytes | Any, *headers: str) -> Reply:
        return self.post(f"{self.run}/progress", body, *headers, scope="trainer")


@pytest.fixture(scope="module", params=DATABASES)
def guarded(request: pytest.FixtureRequest, make_database: Callable[[str], Database]) -> Iterator[Guarded]:
    database = make_database(request.param)
    tokens = parse_tokens("\n".join(f"{scope}:{scope}r:{secret}" for scope, secret in SECRETS.items()))
    limits = {"max_body_bytes": LIMIT_BYTES, "wrong_tokens_per_minute": 1e6}  # wrong tokens are what is tried here
    with serve_in_thread(Settings(database=database, tokens=tokens, **limits)) as url:
        clients = {
            scope: httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"})
            for scope, secret in SECRETS.items()
        }
        run = f"/v1/runs/{clients['write'].post('/v1/runs', json=run_body()).json()['id']}"
        document = clients["read"].get("/openapi.json").json()
        found = [
            (operation["operationId"], method.upper(), path, "requestBody" in operation)
            for path, item in document["paths"].items()
            for method, operation in item.items()
        ]
        stranger = httpx.Client(base_url=url)
        engine = open_engine(database)
        yield Guarded(url, run, clients, stranger, found, engine)
        engine.dispose()
        for client in (stranger, *clients.values()):
            client.close()


@pytest.fixture(autouse=True)
def nothing_is_stored(guarded: Guarded) -> Iterator[None]:
    """Whatever a test here sends, the database holds what it held."""
    before = contents(guarded.engine)
    yield
    assert contents(guarded.engine) == before


def refused(reply: Reply, status: int, name: str) -> None:
    assert (reply.status, reply.problem) == (status, name), reply


def hung_up(reply: Reply) -> None:
    """Refused by the HTTP server itself, before the service saw a request."""
    assert reply.status in (0, 400), reply


def filled(guarded: Guarded, path: str) -> str:
    """An address of an operation, for the run there is."""
    values = {"run_id": guarded.run.rpartition("/")[2], "step": "1", "corpus": "c4", "sample_id": "1"}
    return path.format(**values)


def valid_edit(**changes: Any) -> dict[str, Any]:
    return edit_body(0, 500, **changes)


# -- 1 to 3: who


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Basic cmVhZDpyZWFk", SECRETS["write"], f"Token {SECRETS['write']}"],
)
def test_no_token(guarded: Guarded, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for name, method, path, has_body in guarded.operations:
        if name not in OPEN:
            body = {"json": {}} if has_body else {}
            answer = guarded.stranger.request(method, filled(guarded, path), headers=headers, **body)
            assert answer.status_code == 401, (name, answer.text)
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("secret", ["0" * 20, SECRETS["write"] + "x", SECRETS["write"][:-1], SECRETS["write"].upper()])
def test_wrong_token(guarded: Guarded, secret: str) -> None:
    for name, method, path, has_body in guarded.operations:
        if name not in OPEN:
            body = {"json": {}} if has_body else {}
            headers = {"Authorization": f"Bearer {secret}"}
            answer = guarded.stranger.request(method, filled(guarded, path), headers=headers, **body)
            assert answer.status_code == 401, (name, answer.text)
            assert secret not in answer.text


def test_wrong_scope(guarded: Guarded) -> None:
    """For every operation of the document and every scope; right ones get as far as the body, which is wrong."""
    for (name, method, path, has_body), scope in itertools.product(guarded.operations, SECRETS):
        if name in OPEN:
            continue
        body = {"json": {"nothing": "known"}} if has_body else {}
        if scope in ALLOWED[name] and (method == "GET" and path.endswith("/events")):
            continue  # a stream without an end
        answer = guarded.clients[scope].request(method, filled(guarded, path), **body)
        if scope in ALLOWED[name]:
            assert answer.status_code == (422 if has_body else 200), (name, scope, answer.text)
        else:
            assert answer.status_code == 403, (name, scope, answer.text)
            assert set(answer.json()["allowed_scopes"]) == ALLOWED[name]


# -- 4 to 7: where


@pytest.mark.parametrize(
    "target",
    [
        "/v1/runs/../runs",
        "/v1/runs/%2e%2e/runs",
        "/v1/runs/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/runs/..%5c..%5cetc",
        "/../../../../etc/passwd",
        "//etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1//runs",
        "/v1/./runs",
        "/v1/runs/",
        "/v1/runs;a=b",
        "http://evil.example/v1/runs",
        "*",
    ],
)
def test_path_tricks(guarded: Guarded, target: str) -> None:
    reply = guarded.get(target)
    assert reply.status == 404, reply
    assert reply.problem in ("not-found", "unknown-run")


def test_encoded_slashes(guarded: Guarded) -> None:
    """What a proxy takes for one address may not be another here."""
    for target in (f"{guarded.run}%2fledger", f"{guarded.run}%2Frevisions", f"/v1%2fruns{guarded.run[8:]}"):
        refused(guarded.get(target), 404, "not-found")
    refused(guarded.post(f"{guarded.run}%2frevisions", valid_edit()), 404, "not-found")


@pytest.mark.parametrize("target", ["/v1/runs/%00", "/v1/runs/a%00b/ledger", "/v1/runs/%0d%0aSet-Cookie:%20a=b"])
def test_control_characters_in_an_address(guarded: Guarded, target: str) -> None:
    reply = guarded.get(target)
    refused(reply, 422, "invalid-request")
    assert "set-cookie:" not in reply.headers.lower()


def test_ids_that_are_none(guarded: Guarded) -> None:
    """Very long ones, and what would be SQL if anybody pasted it together."""
    refused(guarded.get(f"/v1/runs/{'a' * 5000}"), 422, "invalid-request")
    for text in ("'%20OR%20'1'='1", "1;%20DROP%20TABLE%20runs;--", "%22%20UNION%20SELECT%20*--", "%25", "_" * 12):
        refused(guarded.get(f"/v1/runs/{text}"), 404, "unknown-run")
        refused(guarded.post(f"/v1/runs/{text}/revisions", valid_edit()), 404, "unknown-run")
    refused(guarded.get(f"{guarded.run}/samples/c4'%20OR%201=1--/1"), 404, "not-in-run")
    refused(guarded.get(f"{guarded.run}/samples/%ff%fe/1"), 404, "not-in-run")


# -- 8 to 15: bodies


def test_a_body_that_is_declared_too_large(guarded: Guarded) -> None:
    """Refused by its header: not a byte of it is waited for."""
    for length in (LIMIT_BYTES + 1, 10**9, 10**19):
        head = request("POST", f"{guarded.run}/revisions", b"", f"Content-Length: {length}", *json_headers())
        refused(send(guarded.url, head), 413, "body-too-large")


def test_a_body_that_grows_too_large(guarded: Guarded) -> None:
    """In chunks, so no header tells; refused while it comes, though it would be valid JSON to the end."""
    head = request("POST", f"{guarded.run}/revisions", b"", "Transfer-Encoding: chunked", *json_headers())
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    refused(send(guarded.url, head, *[chunk] * 5), 413, "body-too-large")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[1,",
        b"'a'",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"",
        b"null",
        b"[]",
        b"1",
        b'"text"',
        b"{} {}",
        b"\x00",
        b"undefined",
    ],
)
def test_malformed_json(guarded: Guarded, body: bytes) -> None:
    refused(guarded.edit(body), 422, "invalid-request")
    refused(guarded.post("/v1/runs", body), 422, "invalid-request")
    refused(guarded.report(body), 422, "invalid-request")


@pytest.mark.parametrize("encoded", [b"\xff", b'{"a": "\xc3\x28"}', json.dumps({}).encode("utf-16"), b"\xed\xa0\x80"])
def test_invalid_utf8(guarded: Guarded, encoded: bytes) -> None:
    refused(guarded.edit(encoded), 400, "bad-request")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        "application/json; charset=utf-16",
        "application/jsonp",
        "json",
        "",
    ],
)
def test_wrong_content_type(guarded: Guarded, kind: str) -> None:
    """Also what a page of another site may send without being asked first."""
    refused(guarded.edit(valid_edit(), f"Content-Type: {kind}"), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("text", "replacement"),
    [
        ('"parent": 0', '"parent": 0, "parent": 0'),
        ('"c4": 0.5', '"c4": 0.5, "c4": 0.5'),
        ('"c4": 0.5', '"c4": NaN'),
        ('"c4": 0.5', '"c4": Infinity'),
        ('"c4": 0.5', '"c4": 1e999'),
        ('"c4": 0.5', f'"c4": {"9" * 5000}'),
        ('"c4": 0.5', f'"c4": {"9" * 4000}'),
        ('"effective_step": 500', '"effective_step": NaN'),
        ('"effective_step": 500', '"effective_step": 500.0'),
        ('"effective_step": 500', '"effective_step": 5e2'),
        ('"effective_step": 500', '"effective_step": "500"'),
        ('"effective_step": 500', '"effective_step": true'),
    ],
)
def test_json_with_two_meanings(guarded: Guarded, text: str, replacement: str) -> None:
    """Keys given twice, numbers that are none, too large, or of another type."""
    body = json.dumps(valid_edit())
    assert text in body
    reply = guarded.edit(body.replace(text, replacement).encode())
    assert reply.status == 422, reply
    assert reply.problem in ("invalid-request", "invalid-schedule")


@pytest.mark.parametrize("depth", [20, 300, 990, 10_000])
def test_a_recursion_bomb(guarded: Guarded, depth: int) -> None:
    groups = b'{"weight": 1, "parts": {"c4": ' * depth + b"1" + b"}}" * depth
    lists = b"[" * depth + b"]" * depth
    for inner in (groups[: LIMIT_BYTES - 200], lists):
        for place in ('"mixture": {"g": %s}', '"corpora": {"c4": {"skip": %s}}', '"ramp": %s', '"unknown": %s'):
            what = place.encode() % inner
            body = b'{"parent": 0, "effective_step": 500, "reason": "r", "author": "a", ' + what + b"}"
            reply = guarded.edit(body)
            assert reply.status in (413, 422), (reply, place)


def test_unknown_fields(guarded: Guarded) -> None:
    for name in ("extra", "__proto__", "constructor", "number", "superseded", "run_key", "Parent", ""):
        refused(guarded.edit(valid_edit(**{name: 1})), 422, "invalid-request")
        refused(guarded.post("/v1/runs", run_body(**{name: 1})), 422, "invalid-request")
        refused(guarded.report(report_body(1, 2, **{name: 1})), 422, "invalid-request")
    for name in ("dryrun", "dry-run", "x", "%00"):
        refused(guarded.post(f"{guarded.run}/revisions?{name}=true", valid_edit()), 422, "invalid-request")
    refused(guarded.post(f"{guarded.run}/revisions?dry_run=true&dry_run=false", valid_edit()), 422, "invalid-request")
    refused(guarded.post(f"{guarded.run}/revisions?dry_run=maybe", valid_edit()), 422, "invalid-request")


def test_text_that_no_database_keeps(guarded: Guarded) -> None:
    for text in ("a\0b", "\ud800"):
        refused(guarded.edit(valid_edit(reason=text)), 422, "invalid-request")
        refused(guarded.edit(valid_edit(author=text)), 422, "invalid-request")
        refused(guarded.edit(valid_edit(mixture={"c4": 1.0, text: 0.0})), 422, "invalid-request")
        refused(guarded.edit(valid_edit(corpora={"c4": {"quarantine": {"samples": [text]}}})), 422, "invalid-request")
        refused(guarded.post("/v1/runs", run_body(name=text)), 422, "invalid-request")
        refused(guarded.report(report_body(1, 2, metrics={text: 1.0})), 422, "invalid-request")


# -- 16 to 21: headers and the protocol


def json_headers(scope: str = "write") -> tuple[str, str]:
    return f"Authorization: Bearer {SECRETS[scope]}", "Content-Type: application/json"


def test_header_injection(guarded: Guarded) -> None:
    hung_up(guarded.edit(valid_edit(), "X-Trace: a\0b"))
    hung_up(guarded.edit(valid_edit(), "Bad Name: x"))
    hung_up(guarded.edit(valid_edit(), "X-Long: " + "a" * 300_000))
    reply = guarded.edit(valid_edit(), 'If-Match: "0"\t\t"1"')
    refused(reply, 422, "invalid-request")
    refused(
        guarded.edit(valid_edit(), f"Authorization: Bearer {SECRETS['write']}", "Authorization: Bearer x"),
        400,
        "bad-request",
    )


def test_method_override(guarded: Guarded) -> None:
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "post", "G%45T"):
        data = request(method, f"{guarded.run}/revisions", json.dumps(valid_edit()).encode(), *json_headers())
        refused(send(guarded.url, data), 405, "method-not-allowed")
    for name in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        assert guarded.get(f"{guarded.run}/revisions", f"{name}: POST").status == 200  # read, and nothing else
    refused(guarded.get(f"{guarded.run}/revisions?_method=POST"), 422, "invalid-request")


@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: http://evil.example",),
        ("Origin: null",),
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site", "Origin: http://evil.example"),
        ("Origin: http://127.0.0.1.evil.example", "Content-Type: text/plain"),
    ],
)
def test_a_page_of_another_site(guarded: Guarded, headers: tuple[str, ...]) -> None:
    """Though its browser may hold a token of somebody who trusts us."""
    refused(guarded.edit(valid_edit(), *headers), 403, "cross-site")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "10.0.0.1", ""])
def test_host_spoofing(api: httpx.Client, run: str, host: str) -> None:
    """Where everything is open, a stranger's name that was made to point here is no way in."""
    url, before = str(api.base_url), api.get(f"{run}/audit").json()
    for method, path, body in (
        ("GET", run, b""),
        ("GET", "/", b""),
        ("POST", f"{run}/revisions", json.dumps(edit_body()).encode()),
    ):
        reply = send(url, request(method, path, body, f"Host: {host}", "Content-Type: application/json"))
        refused(reply, 421, "host")
    assert api.get(f"{run}/audit").json() == before


def test_two_lengths(guarded: Guarded) -> None:
    """Where two servers in a row may disagree on where a request ends, the second could be a smuggled one."""
    body = json.dumps(valid_edit()).encode()
    path, length = f"{guarded.run}/revisions", f"Content-Length: {len(body)}"
    hung_up(send(guarded.url, request("POST", path, body, length, "Content-Length: 5", *json_headers())))
    chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    both = request("POST", path, chunked, length, "Transfer-Encoding: chunked", *json_headers())
    assert send(guarded.url, both).status == 400
    for wrong in ("-1", "+5", "0x10", "5, 6", "", "1e3", "٣".encode().decode("latin-1")):
        hung_up(send(guarded.url, request("POST", path, body, f"Content-Length: {wrong}", *json_headers())))
    for coding in ("gzip, chunked", "chunked, chunked", "xchunked", "identity"):
        reply = send(guarded.url, request("POST", path, chunked, f"Transfer-Encoding: {coding}", *json_headers()))
        assert reply.status in (0, 400, 501), reply
    hung_up(send(guarded.url, b"GET /healthz HTTP/1.1\r\n\r\n"))  # no host
    hung_up(send(guarded.url, b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"))
    hung_up(send(guarded.url, b"\x16\x03\x01\x00\xa5\x01\x00\x00\r\n\r\n"))  # TLS to a plain port


@pytest.mark.parametrize(
    "tag", ["x", "3", '"1', 'W/"0"', '"0","1"', "*", '"-1"', '"00"', '"0x0"', '"' + "9" * 30 + '"', ""]
)
def test_bad_if_match(guarded: Guarded, tag: str) -> None:
    refused(guarded.edit(edit_body(None, 500), f"If-Match: {tag}"), 422, "invalid-request")


def test_if_match_against_the_body(guarded: Guarded) -> None:
    refused(guarded.edit(edit_body(7, 500), 'If-Match: "0"'), 422, "invalid-request")
    refused(guarded.edit(edit_body(None, 500), 'If-Match: "0"', 'If-Match: "1"'), 400, "bad-request")
    refused(guarded.edit(edit_body(None, 500), 'If-Match: "7"'), 409, "stale-parent")


@pytest.mark.parametrize("key", ["", "a" * 201, "\xff\xfe", "a\tb"])
def test_bad_idempotency_key(guarded: Guarded, key: str) -> None:
    refused(guarded.edit(valid_edit(), f"Idempotency-Key: {key}"), 422, "invalid-request")
    refused(guarded.edit(valid_edit(), "Idempotency-Key: a", "Idempotency-Key: b"), 400, "bad-request")


@pytest.mark.parametrize("number", ["", "x", "-1", "+1", "1.0", "1e3", "9" * 30, "1\t2", "\xb2"])
def test_bad_last_event_id(guarded: Guarded, number: str) -> None:
    refused(guarded.get(f"{guarded.run}/events", f"Last-Event-ID: {number}"), 422, "invalid-request")


# -- 22 to 24: values


@pytest.mark.parametrize("number", [-1, 2**63, 2**64, 10**30, "1.5", "0x10", "", "NaN", "\u0661"])
def test_numbers_out_of_range(guarded: Guarded, number: int | str) -> None:
    value = str(number) if str(number).isascii() else "%D9%A1"
    for target in (f"/batches/{value}", f"/samples/c4/{value}", f"/revisions?after={value}", f"/weights?step={value}"):
        reply = guarded.get(guarded.run + target)
        assert (reply.status, reply.problem) in ((422, "invalid-request"), (404, "not-found")), (target, reply)
    if isinstance(number, int):
        for body in (edit_body(number, 500), edit_body(0, number), valid_edit(global_batch_size=number)):
            refused(guarded.edit(body), 422, "invalid-request")
        for name in ("step", "freeze_through", "known_revision", "decided_through"):
            refused(guarded.report({**report_body(1, 2), name: number}), 422, "invalid-request")


def test_too_many(guarded: Guarded) -> None:
    corpora = {f"c{index}": {"shard_sizes": [1]} for index in range(257)}
    refused(guarded.post("/v1/runs", run_body(corpora=corpora)), 422, "invalid-request")
    phases = [{"start": f"{index}ba", "mixture": {"c4": 1.0}} for index in range(1001)]
    refused(guarded.post("/v1/runs", run_body(schedule={"phases": phases})), 422, "invalid-request")
    refused(guarded.edit(valid_edit(mixture=None, schedule={"phases": phases})), 422, "invalid-request")
    refused(guarded.report(report_body(1, 2, superseded=[0] * 10_001)), 422, "invalid-request")
    refused(
        guarded.report(report_body(1, 2, metrics={f"m{index}": 1.0 for index in range(1001)})), 422, "invalid-request"
    )
    refused(guarded.report(report_body(1, 2, counts={f"c{index}": 1 for index in range(257)})), 422, "invalid-request")


def test_texts_of_the_wrong_length(guarded: Guarded) -> None:
    for name in ("", "a" * 201, "line\nbreak", "tab\t"):
        refused(guarded.post("/v1/runs", run_body(name=name)), 422, "invalid-request")
        refused(guarded.post("/v1/runs", run_body(corpora={name: {"shard_sizes": [1]}})), 422, "invalid-request")
        refused(guarded.report(report_body(1, 2, metrics={name: 1.0})), 422, "invalid-request")
    refused(guarded.post("/v1/runs", run_body(corpora={"a/b": {"shard_sizes": [1]}})), 422, "invalid-request")
    for field in ("author", "reason"):
        refused(guarded.edit({**valid_edit(), field: ""}), 422, "invalid-request")
        refused(guarded.edit({**valid_edit(), field: "a" * 10_001}), 422, "invalid-request")
        refused(
            guarded.edit({key: value for key, value in valid_edit().items() if key != field}), 422, "invalid-request"
        )


def test_claims_and_limits_that_are_none(guarded: Guarded) -> None:
    refused(guarded.report(report_body(1, 2, claim=7)), 409, "claim-lost")
    for claim in (True, "1", 1.0, -1, 2**63):
        refused(guarded.report(report_body(1, 2, claim=claim)), 422, "invalid-request")
    for body in ({"trainer": "", "step": 0}, {"trainer": "a", "step": -1}, {"trainer": "a\0", "step": 0}, {"step": 0}):
        refused(guarded.post(f"{guarded.run}/claim", body, scope="trainer"), 422, "invalid-request")
    for limit in ({"min": 0.9, "max": 0.1}, {"min": -0.1}, {"max": 1.1}, {"max": float("nan")}, {"median": 0.5}):
        for name in ("c4", "c5"):
            body = {"limits": {name: limit}, "reason": "why"}
            data = request("PUT", f"{guarded.run}/limits", json.dumps(body).encode(), *json_headers("admin"))
            refused(send(guarded.url, data), 422, "invalid-request")
    for step in (-1, 1001, 2**63):
        reply = guarded.post(f"{guarded.run}/fork", {"name": "f", "step": step, "author": "a", "reason": "r"})
        assert reply.status == 422, reply
