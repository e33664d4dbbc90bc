"""How a service stops: first it says that it is not ready, then its streams end and its server waits for the rest."""

import asyncio
from dataclasses import dataclass, field

__all__ = ["Stopping"]


@dataclass(kw_only=True)
class Stopping:
    """What has been asked of one application so far. For one event loop."""

    asked: bool = False  # not ready from here on, but everything is still answered
    now: asyncio.Event = field(default_factory=asyncio.Event)  # streams end
