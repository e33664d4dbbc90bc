"""A folder served as the hub serves data sets and models: tree, revisions and files by range, over real HTTP.

Layout: FOLDER/datasets/OWNER/NAME/... and FOLDER/OWNER/NAME/... for models; each has the one revision `main` (and any
other name given for it). `Served.broken` lets that many answers of files break off in their middle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.mixer.storage.servers import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Served:
    """What the server is asked and how it misbehaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.requests: list[str] = []
        self.broken = 0
        self.status: int | None = None


@contextmanager
def hub_server(folder: Path) -> Iterator[Served]:
    """Serve `folder` until the end of the block; `Served.url` is what HF_ENDPOINT must say."""
    served = Served(folder)

    class Handler(_Handler):
        state = served

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as served.url:
        yield served


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Served

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/(datasets|models)/([^/]+/[^/]+)/paths-info/(.+)", path):
            repo = self._repo(found[1], found[2])
            if self.headers.get("Content-Type", "").startswith("application/json"):
                asked = json.loads(body)["paths"]
            else:
                asked = parse_qs(body)["paths"]
            asked = [asked] if isinstance(asked, str) else asked
            self._json([_entry(repo, repo / name) for name in asked if (repo / name).exists()])
        else:
            self._json({"error": "not found"}, 404)

    def _repo(self, kind: str, name: str) -> Path:
        return self.state.folder / ("datasets" if kind == "datasets" else ".") / name

    def _answer(self, *, with_body: bool) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.state.requests.append(f"{self.command} {path}")
        if self.state.status:
            self._json({"error": "refused"}, self.state.status, with_body=with_body)
            return
        if found := re.fullmatch(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/revision/(.+?))?", path):
            repo = self._repo(found[1], found[2])
            if repo.is_dir():
                self._json(
                    {"id": found[2], "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "siblings": []}
                )
            else:
                self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif found := re.fullmatch(r"/api/(datasets|models)/([^/]+/[^/]+)/tree/(refs/convert/\w+|[^/]+)/?(.*)", path):
            repo = self._repo(found[1], found[2])
            below = repo / found[4]
            if not below.is_dir():
                self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
                return
            deep = parse_qs(address.query).get("recursive", ["false"])[0].lower() in ("true", "1")
            entries = sorted(below.rglob("*") if deep else below.iterdir())
            self._json([_entry(repo, entry) for entry in entries])
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/(refs/convert/\w+|[^/]+)/(.+)", path):
            self._file(self._repo((found[1] or "models")[:8], found[2]) / found[4], with_body=with_body)
        else:
            self._json({"error": "not found"}, 404)

    def _file(self, file: Path, *, with_body: bool) -> None:
        if not file.is_file():
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"}, with_body=with_body)
            return
        data = file.read_bytes()
        part, status, extra = data, 200, {}
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1)
            part, status = data[start : end + 1], 206
            extra = {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
        self.send_response(status)
        for key, value in {**extra, "ETag": f'"{sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}.items():
            self.send_header(key, value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if with_body and self.state.broken > 0 and len(part) > 1:
            self.state.broken -= 1
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
        elif with_body:
            self.wfile.write(part)

    def _json(
        self, value: object, status: int = 200, headers: dict[str, str] | None = None, *, with_body: bool = True
    ) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", "X-Repo-Commit": COMMIT, **(headers or {})}.items():
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body and self.command != "HEAD":
            self.wfile.write(body)


def _entry(repo: Path, path: Path) -> dict[str, object]:
    name = path.relative_to(repo).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": sha1(name.encode()).hexdigest(), "size": 0, "path": name}
    data = path.read_bytes()
    return {"type": "file", "oid": sha1(b"blob %d\0" % len(data) + data).hexdigest(), "size": len(data), "path": name}
