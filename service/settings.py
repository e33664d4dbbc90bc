"""The settings of one service: validated once, frozen, passed on explicitly. Reads no environment."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.tokens import Token

__all__ = ["Settings"]


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-fA-F:]+\](:[0-9]{1,5})?", text):
        raise ValueError(f"an origin is a scheme, a host and perhaps a port, like https://example.org; found {text!r}")
    return text


Origin = Annotated[str, AfterValidator(_origin)]


class Settings(BaseModel):
    """What `create_app` needs. Unknown names and values out of range raise `pydantic.ValidationError`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: Path | str
    """The SQLite file, made when absent, whose folder must exist; or a URL, `postgresql://user@host/name`."""
    tokens: tuple[Token, ...] = ()
    """Who may do what, beside the tokens in the database. None anywhere: all is open, under this machine's names."""
    rate_limit: float = Field(default=1000, ge=0)
    """Requests a second of one token, or of one address without a token; 0 sets no limit."""
    wrong_tokens_per_minute: float = Field(default=10, gt=0)
    """How many wrong tokens of one address are answered 401; twice as many at once after a rest, then 429."""
    cors_origins: tuple[Origin, ...] = ()
    """Sites whose pages may use this service from the browser, like `https://plots.example.org`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose X-Forwarded-For is believed."""
    request_timeout_s: float = Field(default=30, gt=0)
    """How long the head of a request may take to come, and then its body."""
    shutdown_delay_s: float = Field(default=0, ge=0)
    """How long, asked to stop, it says that it is not ready but still answers, so that balancers can turn away."""
    shutdown_grace_s: float = Field(default=30, ge=0)
    """How long requests that have begun may then still take."""
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    """The largest request body; 10^6 shard sizes take about 6 MB."""
    max_points: int = Field(default=10_000, ge=2)
    """The most steps one answer of weights may hold."""
    max_page: int = Field(default=10_000, ge=1)
    """The most entries (runs, revisions, reports, slots, reads) one answer may hold."""
    plan_cache_size: int = Field(default=64, ge=1)
    """Plans kept in memory; each costs one entry a shard."""
