"""The settings of one service: validated once, frozen, passed on explicitly. Reads no environment."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from service.tokens import Token

__all__ = ["Settings"]


class Settings(BaseModel):
    """What `create_app` needs. Unknown names and values out of range raise `pydantic.ValidationError`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: Path | str
    """The SQLite file, made when absent, whose folder must exist; or a URL, `postgresql://user@host/name`."""
    tokens: tuple[Token, ...] = ()
    """Who may do what. Empty: everything is open, which is for loopback only."""
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    """The largest request body; 10^6 shard sizes take about 6 MB."""
    max_points: int = Field(default=10_000, ge=2)
    """The most steps one answer of weights may hold."""
    max_page: int = Field(default=10_000, ge=1)
    """The most entries (runs, revisions, reports, slots, reads) one answer may hold."""
    plan_cache_size: int = Field(default=64, ge=1)
    """Plans kept in memory; each costs one entry a shard."""
