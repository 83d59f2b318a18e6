"""(edge) How much memory comes of JSON, a request's body or what an earlier one left, and in whose share it is."""

from __future__ import annotations

from aiohttp import web

from gemproxy.converter.bounds import Bounds, weighed
from gemproxy.load.burden import Burden
from gemproxy.server.auth import ANYONE, Caller

MIN_WEIGHED = 1 << 11  # bytes; of fewer come 70 KiB at the worst, and to count them costs a small request 1 %
# Bytes of memory that come of an object, and of a delimiter (``load.weigh``). Of large texts those within strings are
# counted as well: rather too many.
OBJECT_BYTES, DELIMITER_BYTES = 100, 32


def owner(request: web.Request, caller: Caller) -> str:
    """Return whose share of memory a request takes: its client's, without keys its address's."""
    return caller.name if caller is not ANYONE else request.remote or "-"


async def weigh(text: bytes, burden: Burden, bounds: Bounds) -> None:
    """Count a JSON text that is held besides the body, and what comes of it. Raises as ``weigh_body`` does."""
    burden.hold.more(len(text))
    await weigh_body(text, burden, bounds)


async def weigh_body(body: bytes, burden: Burden, bounds: Bounds) -> None:
    """Count what comes of a body, which is counted already. Raises ``ClientFault`` and ``Overload``."""
    if len(body) > MIN_WEIGHED and not burden.heavy:
        burden.hold.more(OBJECT_BYTES * body.count(b"{"))
    if burden.heavy:
        burden.hold.more(DELIMITER_BYTES * await burden.run(weighed, body, bounds))
