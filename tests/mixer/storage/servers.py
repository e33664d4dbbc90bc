"""Real HTTP in front of remote shards: S3, a hub of data sets, and a link to either that can fail and be slow."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BUCKET = "corpora"
HIDDEN = {"transfer-encoding", "connection", "content-length", "server", "date"}


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    """The server's address, while it serves in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class Link(ThreadingHTTPServer):
    """Passes requests on to the server at `address`, and notes them.

    `calls` says them in order, as "GET /bucket/key". A call uses up the first of the `faults` (part of a call, what
    happens then) that is meant for it. Bodies pass at `bytes_per_s`, and none before `gate` is set.
    """

    daemon_threads = True

    def __init__(self, address: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.address = address.removeprefix("http://")
        self.open()

    def open(self) -> None:
        """As at the beginning: nothing has come, nothing fails, nothing waits."""
        self.calls: list[str] = []
        self.faults: list[tuple[str, Callable[[_Passing], None]]] = []
        self.bytes_per_s: float | None = None
        self.gate = threading.Event()
        self.gate.set()

    def fail(self, *faults: "Callable[[_Passing], None]", of: str = "") -> None:
        """Let the next requests that have `of` in them fail, each in one of these ways."""
        self.faults += [(of, fault) for fault in faults]

    def count(self, verb: str = "GET") -> Counter[str]:
        """File name → how often it was asked for."""
        return Counter(call.rpartition("/")[2] for call in list(self.calls) if call.startswith(verb))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no news."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Link

    def do_GET(self) -> None:
        call = f"{self.command} {self.path}"
        self.server.calls.append(call)
        meant = next((fault for fault in self.server.faults if fault[0] in call), None)
        if meant is None:
            self.answer(*self.ask())
        else:
            self.server.faults.remove(meant)
            meant[1](self)

    do_HEAD = do_PUT = do_POST = do_GET

    def ask(self) -> tuple[int, Mapping[str, str], bytes, int]:
        """Status, headers and body that the server behind gives, and the length that it says."""
        connection = HTTPConnection(self.server.address, timeout=30)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {**dict(self.headers), "Connection": "close"}
        connection.request(self.command, self.path, body or None, headers)
        found = connection.getresponse()
        content = found.read()
        length = int(found.headers.get("Content-Length") or len(content))
        connection.close()
        return found.status, found.headers, content, length

    def answer(self, status: int, headers: Mapping[str, str], body: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in HIDDEN:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.send_body(body)

    def send_body(self, body: bytes) -> None:
        if body:
            self.server.gate.wait(30)
        rate = self.server.bytes_per_s
        piece = max(1, int(rate / 20)) if rate else len(body) or 1
        for start in range(0, len(body), piece):
            self.wfile.write(body[start : start + piece])
            self.wfile.flush()
            if rate:
                time.sleep(piece / rate)  # this is what makes the link slow

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the terminal."""


def busy(request: _Passing) -> None:
    """503."""
    request.answer(503, {}, b"", 0)


def refused(request: _Passing) -> None:
    """403."""
    request.answer(403, {}, b"", 0)


def reset(request: _Passing) -> None:
    """The connection breaks off without a word."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()
    request.close_connection = True


def cut(request: _Passing) -> None:
    """Half of the body, then the end."""
    status, headers, body, length = request.ask()
    request.answer(status, headers, body[: len(body) // 2], length)
    request.connection.shutdown(socket.SHUT_RDWR)
    request.close_connection = True


def damage(request: _Passing) -> None:
    """All of the body, with one byte changed, and no word of S3's own checksum."""
    status, headers, body, length = request.ask()
    place = len(body) - 3
    unchecked = {name: value for name, value in headers.items() if "checksum" not in name.lower()}
    request.answer(status, unchecked, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :], length)


class S3:
    """A bucket behind a link; `link.open()` before each use."""

    def __init__(self, link: Link, url: str, direct: str) -> None:
        self.link, self.url = link, url
        import boto3

        self.client = boto3.session.Session().client("s3", endpoint_url=direct)
        self.client.create_bucket(Bucket=BUCKET)

    def upload(self, folder: Path, name: str) -> str:
        """The address of a remote folder that holds what `folder` does."""
        for path in folder.iterdir():
            if path.is_file() and not path.name.startswith("."):
                self.client.upload_file(str(path), BUCKET, f"{name}/{path.name}")
        return f"s3://{BUCKET}/{name}"

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)


@contextmanager
def serve_s3() -> Iterator[S3]:
    from moto.server import ThreadedMotoServer

    behind = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    behind.start()
    direct = "http://{}:{}".format(*behind.get_host_and_port())
    link = Link(direct)
    try:
        with serving(link) as url:
            yield S3(link, url, direct)
    finally:
        behind.stop()


class Hub(ThreadingHTTPServer):
    """Answers as huggingface.co does for the data set org/name at main: `files` path → content."""

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Hosting)
        self.files = files


class _Hosting(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        path = self.path.partition("/resolve/main/")[2]
        content = self.server.files.get(path)
        self.send_response(404 if content is None else 200)
        self.send_header("X-Repo-Commit", "0" * 40)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command == "GET" and content:
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the terminal."""
