"""(edge) How the log is written: one line a record to stderr, plain or JSON. Decides nothing about what is said."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import datetime
import logging
import os
import sys
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import TextIO

import msgspec

from gemproxy.upstream.redaction import beginning, redact

LONGEST = 4_000  # characters of a line: no record of ours needs half of them
MOMENT = 0.01  # seconds that a line waits for others; more would keep more of what it tells out of the caches
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_READ = 8 * LONGEST  # characters of a message that are looked at
# systemd reads the priority from the line itself (sd-daemon(3))
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def configure(level: str, form: str) -> None:
    """Send gemproxy's and its libraries' records to stderr; ``level`` and ``form`` as ``[log]`` has them."""
    for unused in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, unused, False)  # a quarter of the cost of a record, and no line shows any of it
    handler = Batches(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else Plain(journal="JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gemproxy").setLevel(LEVELS[level])
    access = logging.getLogger("gemproxy.access")
    access.handlers[:], access.propagate = [handler], False  # one line a request: the way up to the root costs 3 us


class Batches(logging.StreamHandler[TextIO]):
    """Writes the lines of a moment together: one system call for many requests. Warnings go out at once.

    They are put into words then, too: no request waits for its own.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._records: deque[logging.LogRecord] = deque()
        self._timer: asyncio.TimerHandle | None = None
        atexit.register(self.flush)

    def handle(self, record: logging.LogRecord) -> bool:
        """Keep a record for a moment; without the lock, which only writing needs."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record for a moment."""
        self._records.append(record)
        if record.levelno >= logging.WARNING:
            self.flush()
        elif self._timer is None:
            self._later()

    def flush(self) -> None:
        """Write what is kept."""
        self.acquire()
        try:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            lines = "".join([self.format(record) + "\n" for record in self._taken()])
            # a full disk, a reader that left, a closed stream: lines are lost, but nobody's answer
            with contextlib.suppress(OSError, ValueError):
                self.stream.write(lines)
                self.stream.flush()
        finally:
            self.release()

    def _taken(self) -> Iterator[logging.LogRecord]:
        while self._records:  # one by one: other threads may add some meanwhile
            yield self._records.popleft()

    def _later(self) -> None:
        try:
            self._timer = asyncio.get_running_loop().call_later(MOMENT, self.flush)
        except RuntimeError:  # no loop here: a thread, or before the start
            self.flush()


class Plain(logging.Formatter):
    """``2026-11-23T03:00:00.000Z INFO gemproxy.access id=… …``; under the journal, its priority instead of the time."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return one record; what follows a traceback's first line stays behind it."""
        text = message(record)
        if self._journal:
            return f"<{_PRIORITY.get(record.levelno, 6)}>{record.name} {text}"
        return f"{timestamp(record)} {record.levelname} {record.name} {text}"


class JsonLines(logging.Formatter):
    """One JSON object a line; the fields of an access line are keys of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one record."""
        fields: dict[str, object] = {
            "time": timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        known = getattr(record, "fields", None)
        if isinstance(known, dict):
            fields |= {key: harmless(value) if isinstance(value, str) else value for key, value in known.items()}
        else:
            fields["message"] = message(record)
        return msgspec.json.encode(fields).decode()


def message(record: logging.LogRecord) -> str:
    """Return what a record says, with its traceback, and without anything that looks like a secret."""
    text = record.getMessage()
    if hasattr(record, "exchange"):
        return text  # an access line: built from names and numbers alone, so it is not searched again
    lines = [redact(beginning(text, _READ))]  # before line ends are escaped and the end is cut off
    if record.exc_info:
        lines += redact(logging.Formatter().formatException(record.exc_info)).split("\n")
    return "\n".join(map(harmless, lines))


def harmless(text: str) -> str:
    """Return a text that cannot end its line or steer a terminal: a client may have chosen a part of it."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "..."
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def timestamp(record: logging.LogRecord) -> str:
    """Return a record's time in UTC, ISO 8601 with milliseconds."""
    return f"{_second(int(record.created))}.{int(record.created % 1 * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    # the same for every line of a second: put into words once
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
