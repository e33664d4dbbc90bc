"""The addresses of the page: `/` and `/page/<file>`, from memory, compressed where the client takes it.

Only the files that were there when the first was asked for are given out: no path is made from a request. What the
page may load and speak to is this service alone, by its Content-Security-Policy; nothing is evaluated from text.
"""

import gzip
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Response

from service.errors import NotInRunError

__all__ = ["page"]

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # plotly.js lays out its plots by style attributes
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PLOTLY = "plotly.min.js"  # as index.html names it; given out under an address that names its content


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of the page. An immutable one has an address that changes with its content."""

    media_type: str
    body: bytes
    immutable: bool = False

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()[:16]

    @cached_property
    def packed(self) -> bytes:
        return gzip.compress(self.body, 6, mtime=0)


page = APIRouter(include_in_schema=False)
Accepted = Annotated[str, Header(alias="accept-encoding")]
Known = Annotated[str | None, Header(alias="if-none-match")]


@page.api_route("/", methods=["GET", "HEAD"])
def get_page(accept_encoding: Accepted = "", if_none_match: Known = None) -> Response:
    """The page."""
    return _answer(_assets()["index.html"], accept_encoding, if_none_match)


@page.api_route("/page/{name}", methods=["GET", "HEAD"])
def get_asset(name: str, accept_encoding: Accepted = "", if_none_match: Known = None) -> Response:
    """One of its files."""
    asset = _assets().get(name)
    if asset is None:
        raise NotInRunError(f"the page has no file {name!r}")
    return _answer(asset, accept_encoding, if_none_match)


@cache
def _assets() -> Mapping[str, Asset]:
    """Name → file; index.html names plotly.js by its content."""
    assets = {
        path.name: Asset(media_type=MEDIA_TYPES[path.suffix], body=path.read_bytes())
        for path in sorted(STATIC.iterdir())
        if path.suffix in MEDIA_TYPES
    }
    plotly = Asset(media_type=MEDIA_TYPES[".js"], body=_plotly().read_bytes(), immutable=True)
    address = f"plotly-{plotly.digest}.min.js"
    index = assets["index.html"]
    body = index.body.replace(PLOTLY.encode(), address.encode())
    return {**assets, "index.html": Asset(media_type=index.media_type, body=body), address: plotly}


def _plotly() -> Path:
    """Where the installed package keeps plotly.js; it is found without being imported, which takes its time."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the page needs the package plotly: install switchpoint[service]")
    return Path(spec.origin).parent / "package_data" / PLOTLY


def _answer(asset: Asset, accepted: str, known: str | None) -> Response:
    tag = f'"{asset.digest}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "public, max-age=31536000, immutable" if asset.immutable else "no-cache",
        "Content-Security-Policy": POLICY,
        "Vary": "Accept-Encoding",
    }
    if known is not None and tag in [part.strip().removeprefix("W/") for part in known.split(",")]:
        return Response(status_code=304, headers=headers)
    body = asset.body
    if "gzip" in [part.split(";")[0].strip() for part in accepted.lower().split(",")]:
        body, headers["Content-Encoding"] = asset.packed, "gzip"
    return Response(body, headers=headers, media_type=asset.media_type)
