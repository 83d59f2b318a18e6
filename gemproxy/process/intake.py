"""(edge) A connection's parser, with an end to what it keeps.

In: bytes. Out: the requests that begin in them, as aiohttp's parser finds them, and how many there were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gemproxy.errors import ClientFault
from gemproxy.load.reads import CRUMB_SIZE, HEAD_READ_SIZE, READ_SIZE
from gemproxy.process.dismissal import HEAD, LAST_CHUNK, failure_of

STEP = 1 << 14  # bytes parsed at once of what is more than a head
NOTHING: tuple[Sequence[Any], bool, bytes] = ((), False, b"")


class Intake:
    """A connection's parser, which takes no more after a fault, or where it can make nothing of what comes.

    That is what it keeps: a head, trailers, the extension of a chunk. Their bytes are counted since the last request or
    piece of a body. ``last`` says that the body of a request cannot be read on: it is the connection's last. ``asked``
    is the number of requests that came, be it to be refused. ``dismiss`` may answer a head that does not end; it
    returns whether it has.
    """

    __slots__ = (
        *("_chunked", "_crumbs", "_dismiss", "_ended", "_kept", "_parser"),
        *("asked", "body", "deaf", "last", "message_consumed"),
    )

    def __init__(self, parser: Any, dismiss: Callable[[], bool]) -> None:
        self.asked = 0
        self.deaf = self.last = False
        self._crumbs = False  # a body came in chunks so small that most of what was read only parted them
        self._dismiss = dismiss
        self._chunked = False  # the body of the last request comes in chunks
        self._ended = True
        self._parser = parser
        self.message_consumed = parser.message_consumed  # a count, which does no harm behind the last request either
        self._kept = 0
        self.body: StreamReader = EMPTY_PAYLOAD  # of the last request

    @property
    def pace(self) -> int:
        """Return how many bytes to read at once."""
        if self._crumbs:
            return CRUMB_SIZE
        return HEAD_READ_SIZE if self.body.is_eof() else READ_SIZE

    def feed_data(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        """Return the requests that begin in these bytes, as aiohttp's own; raises ``HttpProcessingError``."""
        if self.deaf:
            return NOTHING
        found: list[Any] = []
        try:
            fed = self._feed(data) if len(data) <= HEAD else self._feed_in_steps(data, found)
        except HttpProcessingError as fault:
            self.deaf, self._parser = True, None
            if self.body.is_eof():
                self.asked += 1
                raise  # aiohttp answers it when its turn comes
            self._break(failure_of(fault))
            fed = found, False, b""
        self.asked += len(fed[0])
        return fed

    def pause_reading(self) -> None:
        """Parse no further, as aiohttp's own."""
        if not self.deaf:
            self._parser.pause_reading()

    def set_upgraded(self, upgraded: bool) -> None:
        """Go on after another protocol was declined, as aiohttp's own."""
        if not self.deaf:
            self._parser.set_upgraded(upgraded)

    def _feed_in_steps(self, data: bytes, found: list[Any]) -> tuple[Sequence[Any], bool, bytes]:
        """Parse much at once so that what is kept of it is counted before it is too much."""
        start = 0
        while start < len(data):
            end = start + (STEP if self.body.is_eof() else HEAD)  # a body is not kept here, and costs less in one
            requests, upgraded, rest = self._feed(data[start:end])
            found += requests
            if upgraded:
                return found, True, rest + data[end:]
            start = end
        return found, False, b""

    def _feed(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        body, before = self.body, self.body.total_bytes
        self._ended = body.is_eof()
        found: tuple[Sequence[Any], bool, bytes] = self._parser.feed_data(data)
        if len(found[0]) == 1 and not (self._kept or self._chunked or found[0][0][0].chunked):
            self.body = found[0][0][1]  # nearly always
            return found
        gained = body.total_bytes - before
        if 0 < gained < len(data) // 2 > CRUMB_SIZE:
            self._crumbs = True
        kept = 0 if gained else self._kept + len(data)
        if kept > HEAD and (not found[0] or _length(found[0][0][0]) > HEAD):
            if self._dismiss():
                self.deaf, self._parser = True, None
                return NOTHING
            raise LineTooLong(b"", HEAD)
        if trailed := self._trailed(found[0], body, data):
            self.deaf, self._parser = True, None
            self.last = True
            found = (found[0][: trailed - 1], False, b"")
        if found[0]:
            self.body, kept = found[0][-1][1], 0
            self._chunked = found[0][-1][0].chunked
        self._kept = kept
        return found

    def _trailed(self, found: Sequence[Any], body: StreamReader, data: bytes) -> int:
        """Return 1 plus the number of new requests up to one whose body in chunks may have ended in trailers; 0: none.

        aiohttp's parser takes those for headers of the next request on the connection, which may be another client's:
        what came with them is served, and nothing after it.
        """
        if data.endswith(LAST_CHUNK):
            return 0
        if self._chunked and not self._ended and body.is_eof():
            return 1
        return next((place + 2 for place, (head, payload) in enumerate(found) if head.chunked and payload.is_eof()), 0)

    def _break(self, fault: ClientFault) -> None:
        """Let whoever reads the body hear of the fault at once, and the connection end with that request's answer."""
        self.body.set_exception(ClientFault(fault.message, status=fault.status, code=fault.code))
        self.body.feed_eof()
        self.last = True


def _length(request: Any) -> int:
    """Return the bytes of a request's head, but for its line."""
    return sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
