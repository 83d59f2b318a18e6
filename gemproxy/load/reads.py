"""How much one read of a connection takes. Knows nothing of what is read."""

from __future__ import annotations

import asyncio
from typing import Any

READ_SIZE = 1 << 14  # bytes; asyncio's own 256 KiB have room for 40,000 chunks of one byte: 0.1 s of parsing
HEAD_READ_SIZE = 1 << 13  # bytes of what may be no more than a head: 300 clients at once send those
CRUMB_SIZE = 1 << 12  # bytes, from who sends such chunks indeed


def read_little(transport: asyncio.BaseTransport, most: int = READ_SIZE) -> None:
    """Have a connection take no more than ``most`` bytes in one go, so that others get their turn in between.

    asyncio has no setting for it: the number stands in the transport, behind that of TLS in the one below. uvloop's
    transports have none.
    """
    inner: Any = getattr(transport, "_ssl_protocol", None)
    below: Any = transport if inner is None else getattr(inner, "_transport", None)
    if hasattr(below, "max_size"):
        below.max_size = most
