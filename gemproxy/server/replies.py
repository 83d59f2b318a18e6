"""JSON answers of our own making, and times in them."""

from __future__ import annotations

import datetime

import msgspec
from aiohttp import web

JSON = "application/json"


def as_json(value: object, status: int = 200) -> web.Response:
    """Return an answer of these values."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=JSON)


def timestamp(now: float) -> str:
    """Return a moment in seconds since 1970 as ISO 8601 writes it, to the millisecond, in UTC."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
