"""One request on its way through the server: what is gathered of it for its log line, and what its answer carries.

Holds no header, key or body of the client's, but a digest of its key: nothing secret and no prompt can reach the log
through it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from aiohttp import web
from msgspec import Struct

from gemproxy.converter.api import Api, Format
from gemproxy.converter.openai import OPENAI, WHOLE
from gemproxy.converter.transcript import Usage
from gemproxy.errors import Failure

LONGEST_WORD = 200  # characters of what a client chose, in a line of the log or a message
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Context(Struct):
    """Times are seconds on ``clock``, the loop's own."""

    id: str
    clock: Callable[[], float]
    started: float
    method: str
    path: str
    client: str = "-"
    mark: str = ""  # of the client's key (``auth.Caller``)
    model: str = "-"
    stream: bool = False
    credential: str = "-"
    attempts: int = 0
    first_byte: float | None = None
    usage: Usage | None = None
    finish: str = "-"
    status: int = 0
    error: str = ""
    api: Api = OPENAI
    format: Format = WHOLE
    failure_event: Callable[[Failure], bytes | None] | None = None  # of an answer that has begun
    response: web.StreamResponse | None = None  # a stream whose status is committed
    headers: dict[str, str] = {}  # what every answer to this request carries


class RandomIds:
    """Ids that nobody guesses or meets twice: 96 random bits, drawn many at a time (a system call for each is 1 us)."""

    def __init__(self) -> None:
        self._stock: list[str] = []

    def __call__(self) -> str:
        """Return a new id of 24 hexadecimal digits."""
        try:
            return self._stock.pop()
        except IndexError:  # asked for and not looked at before: an answer may be read in a thread beside the loop
            digits = os.urandom(12 * 256).hex()
            self._stock = [digits[place : place + 24] for place in range(0, len(digits), 24)]
            return self._stock.pop()


_new_id = RandomIds()


def request_id(given: str | None) -> str:
    """Return the client's own id if it is harmless, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return "req_" + _new_id()


def shortened(word: str, most: int = LONGEST_WORD) -> str:
    """Return a client's word as far as a line of the log has room for it."""
    return word if len(word) <= most else word[:most] + "..."
