"""A folder served as Google Cloud Storage serves a bucket: the few calls of its JSON API that reading takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.mixer.storage.servers import serving


@contextmanager
def gcs_server(folder: Path) -> Iterator[str]:
    """Serve each folder of `folder` as a bucket; gives what STORAGE_EMULATOR_HOST must say."""

    class Handler(_Handler):
        root = folder

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        if found := re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)", address.path):
            self._object(found[1], unquote(found[2]), media=query.get("alt") == "media")
        elif found := re.fullmatch(r"/storage/v1/b/([^/]+)/o/?", address.path):
            self._list(found[1], query.get("prefix", ""), query.get("delimiter"))
        elif (found := re.fullmatch(r"/storage/v1/b/([^/]+)", address.path)) and (self.root / found[1]).is_dir():
            self._send(json.dumps({"name": found[1], "kind": "storage#bucket"}).encode())
        else:
            self._send(b'{"error": {"code": 404, "message": "not found"}}', 404)

    def _object(self, bucket: str, name: str, *, media: bool) -> None:
        path = self.root / bucket / name
        if not path.is_file():
            self._send(b'{"error": {"code": 404, "message": "No such object"}}', 404)
        elif not media:
            self._send(json.dumps(self._describe(bucket, path)).encode())
        elif found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            self._send(path.read_bytes()[int(found[1]) : int(found[2]) + 1], 206)
        else:
            self._send(path.read_bytes())

    def _list(self, bucket: str, prefix: str, delimiter: str | None) -> None:
        if not (self.root / bucket).is_dir():
            self._send(b'{"error": {"code": 404, "message": "The specified bucket does not exist."}}', 404)
            return
        items, prefixes = [], set()
        for path in sorted((self.root / bucket).rglob("*")):
            name = path.relative_to(self.root / bucket).as_posix()
            if path.is_file() and name.startswith(prefix):
                head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
                if found:
                    prefixes.add(prefix + head + found)
                else:
                    items.append(self._describe(bucket, path))
        self._send(json.dumps({"items": items, "prefixes": sorted(prefixes)}).encode())

    def _describe(self, bucket: str, path: Path) -> dict[str, str]:
        data = path.read_bytes()
        return {
            "kind": "storage#object",
            "name": path.relative_to(self.root / bucket).as_posix(),
            "bucket": bucket,
            "size": str(len(data)),
            "generation": str(int(sha256(data).hexdigest()[:12], 16)),
            "updated": "2026-01-01T00:00:00.000Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
        }

    def _send(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
