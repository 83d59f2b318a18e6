"""How much one request may hold, whatever API it comes by. Pure."""

from __future__ import annotations

from msgspec import Struct

from gemproxy.errors import ClientFault
from gemproxy.load import weigh


class Bounds(Struct, frozen=True):
    """``server.max_values``, ``max_messages``, ``max_parts`` and ``max_calls``: what one request may hold of each."""

    values: int = 1_000_000
    messages: int = 10_000
    parts: int = 100_000
    calls: int = 10_000


BOUNDS = Bounds()


def weighed(body: bytes, bounds: Bounds) -> int:
    """Return how many delimiters a body holds (``weigh``), before it is decoded; raises ``ClientFault`` if too many."""
    found = weigh.delimiters(body, bounds.values)
    if found > bounds.values:
        raise ClientFault(
            f"The body holds more values than server.max_values = {bounds.values} allows.", code="request_too_large"
        )
    return found
