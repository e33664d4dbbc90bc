"""HTTP by hand: requests that no client would send, byte by byte."""

import json
import re
import socket
from dataclasses import dataclass
from typing import Any

__all__ = ["Reply", "request", "send"]


@dataclass(frozen=True)
class Reply:
    """What came back; `status` is 0 where the server hung up without a word."""

    status: int
    headers: str
    body: bytes

    @property
    def problem(self) -> str:
        """The name of the problem, "" where the body is none (what uvicorn refuses before the service sees it)."""
        if "application/problem+json" not in self.headers:
            return ""
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        return str(found["type"]).removeprefix("urn:switchpoint:problem:")


def request(method: str, target: str, body: bytes = b"", *headers: str) -> bytes:
    """A request as bytes; `target` and `headers` go out as they stand, and Content-Length is right."""
    lines = [f"{method} {target} HTTP/1.1", *headers]
    if not any(line.lower().startswith("host:") for line in headers):
        lines.append("Host: 127.0.0.1")
    if body and not any(line.lower().startswith(("content-length:", "transfer-encoding:")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def send(url: str, *pieces: bytes) -> Reply:
    """Send `pieces` one after another and read one answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            pass  # it was refused before all of it was sent: the answer is there to be read
        try:
            while not _complete(received) and (more := connection.recv(65536)):
                received += more
        except ConnectionResetError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.1 (\d+)", head)
    return Reply(int(status[1]) if status else 0, head.decode("latin-1"), body)


def _complete(received: bytes) -> bool:
    head, mark, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    return bool(mark) and length is not None and len(body) >= int(length[1])
