"""One request as the operator sees it: gathered on the way, written as one log line at the end.

Holds no header, key or body: nothing secret and no prompt can reach the log through it.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable

from aiohttp import web
from msgspec import Struct

from gemproxy.converter.events import Usage

log = logging.getLogger("gemproxy.access")
_LEVEL_NAMES = {level: logging.getLevelName(level) for level in (logging.DEBUG, logging.INFO)}
wall_clock = time.time  # noqa: TID251 - as the standard library stamps its records
LONGEST = 200  # characters of what a client chose, in a line of the log or a message
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Exchange(Struct):
    """Times are seconds on ``clock``, the loop's own."""

    id: str
    clock: Callable[[], float]
    started: float
    method: str
    path: str
    client: str = "-"
    model: str = "-"
    stream: bool = False
    credential: str = "-"
    attempts: int = 0
    first_byte: float | None = None
    usage: Usage | None = None
    finish: str = "-"
    status: int = 0
    error: str = ""
    response: web.StreamResponse | None = None  # a stream whose status is committed
    headers: dict[str, str] = {}  # what every answer to this request carries

    def line(self, ended: float) -> str:
        """Return the log line; its names and order are those of ``fields``, which costs three times as much."""
        usage, first = self.usage, self.first_byte
        return (
            f"id={self.id} client={self.client} method={self.method} path={self.path} status={self.status} "
            f"model={self.model} stream={'true' if self.stream else 'false'} credential={self.credential} "
            f"attempts={self.attempts} first_ms={'-' if first is None else math.ceil((first - self.started) * 1000)} "
            f"total_ms={math.ceil((ended - self.started) * 1000)} tokens_in={'-' if usage is None else usage.prompt} "
            f"tokens_out={'-' if usage is None else usage.completion} finish={self.finish} error={self.error or '-'}"
        )

    def fields(self, ended: float) -> dict[str, str | int]:
        """Return what the log line tells."""
        usage, first = self.usage, self.first_byte
        return {
            "id": self.id,
            "client": self.client,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "model": self.model,
            "stream": "true" if self.stream else "false",
            "credential": self.credential,
            "attempts": self.attempts,
            "first_ms": "-" if first is None else math.ceil((first - self.started) * 1000),
            "total_ms": math.ceil((ended - self.started) * 1000),
            "tokens_in": "-" if usage is None else usage.prompt,
            "tokens_out": "-" if usage is None else usage.completion,
            "finish": self.finish,
            "error": self.error or "-",
        }

    def write(self, ended: float) -> None:
        """Write the line; quiet probes (``/health``, ``/ready``) only at level debug."""
        level = logging.DEBUG if self.path in ("/health", "/ready") and self.status < 400 else logging.INFO
        if log.isEnabledFor(level):
            # handed over ready-made: Logger.log would look for its caller in the stack, at twice the cost of the rest
            log.callHandlers(Access(level, self, ended))


class Access(logging.LogRecord):
    """A record of one request, for handlers that know it by its ``fields`` and for those that want a message."""

    def __init__(self, level: int, exchange: Exchange, ended: float) -> None:
        # LogRecord's own would look for threads, processes and file names: 6 us for what no line shows
        self.name, self.filename, self.lineno = log.name, "", 0  # where other formatters look for them
        self.levelno, self.levelname, self.created = level, _LEVEL_NAMES[level], wall_clock()
        self.exchange, self.ended = exchange, ended

    @property
    def fields(self) -> dict[str, str | int]:
        """Return names and values, for lines that are no text."""
        return self.exchange.fields(self.ended)

    def getMessage(self) -> str:  # noqa: N802 - the standard library's name
        """Return ``key=value`` pairs on one line, whatever a client put into a path or a model's name."""
        line = self.exchange.line(self.ended)
        if line.isprintable() and line.count(" ") == _BLANKS and '"' not in line:
            return line
        return " ".join([f"{key}={_plain(value)}" for key, value in self.fields.items()])


for _name, _value in vars(logging.LogRecord(log.name, logging.INFO, "", 0, "", None, None)).items():
    setattr(Access, _name, _value)  # what else a record has stands in the class: in each it would be a kilobyte


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


def shortened(word: str, most: int = LONGEST) -> str:
    """Return a client's word as far as a line of the log has room for it."""
    return word if len(word) <= most else word[:most] + "..."


def _plain(value: str | int) -> str:
    text = str(value)
    # one line stays one line, whatever a client put into a path or model name
    return (
        text
        if text.isprintable() and " " not in text and '"' not in text
        else ascii(text[:LONGEST]).replace(" ", "\\x20")
    )


_BLANKS = len(Exchange("", float, 0.0, "", "").fields(0.0)) - 1  # between the fields of a harmless line
