"""(edge) How the log is written: one line a record to stderr, plain or JSON. Decides nothing about what is said.

In systemd's journal each line has its priority (``journalctl -p warning``), and a request's line an identifier of its
own (``journalctl -t gemproxy-access``): it goes over a second stream, since all lines of one have the same.
"""

from __future__ import annotations

import asyncio
import atexit
import datetime
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import TextIO

import msgspec

from gemproxy.redaction import beginning, redact

MAX_LINE = 4_000  # characters of a line: no record of ours needs half of them
BATCH_DELAY = 0.01  # seconds that a line waits for others; more would keep more of what it tells out of the caches
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
ACCESS = "gemproxy-access"
JOURNAL = "/run/systemd/journal/stdout"
_MAX_MESSAGE = 8 * MAX_LINE  # characters of a message that are looked at
# systemd reads the priority from the line itself (sd-daemon(3))
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def configure(level: str, form: str) -> None:
    """Send gemproxy's and its libraries' records to stderr; ``level`` and ``form`` as ``[log]`` has them."""
    for unused in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, unused, False)  # a quarter of the cost of a record, and no line shows any of it
    journal = to_journal(sys.stderr)
    handler = Batches(sys.stderr)
    handler.setFormatter(JsonLines(journal=journal) if form == "json" else Plain(journal=journal))
    stream = journal_stream(ACCESS) if journal else None
    requests = handler if stream is None else Batches(stream, sys.stderr)
    requests.setFormatter(handler.formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gemproxy").setLevel(LEVELS[level])
    access = logging.getLogger("gemproxy.access")
    access.handlers[:], access.propagate = [requests], False  # one line a request: the way up to the root costs 3 us


def to_journal(stream: TextIO) -> bool:
    """Return whether a stream leads to the journal; the variable alone may be inherited (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def journal_stream(identifier: str, path: str = JOURNAL) -> TextIO | None:
    """Return a stream of lines to the journal, as sd_journal_stream_fd(3) opens it; None: there is no journal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.connect(path)
            channel.shutdown(socket.SHUT_RD)
            # no unit of another, priority info unless a line has its own, no copies to syslog, kernel and console
            channel.sendall(f"{identifier}\n\n6\n1\n0\n0\n0\n".encode())
        except OSError:
            return None
        return os.fdopen(channel.detach(), "w", encoding="utf-8", errors="backslashreplace")


class Batches(logging.StreamHandler[TextIO]):
    """Writes the lines of a moment together: one system call for many requests. Warnings go out at once.

    They are put into words then, too: no request waits for its own. ``spare`` is written to once ``stream`` is lost.
    """

    def __init__(self, stream: TextIO, spare: TextIO | None = None) -> None:
        super().__init__(stream)
        self._spare = spare
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
            self._write(lines)
        finally:
            self.release()

    def _write(self, lines: str) -> None:
        # a full disk, a reader that left, a closed stream: lines are lost, but nobody's answer
        try:
            self.stream.write(lines)
            self.stream.flush()
        except (OSError, ValueError):
            if self._spare is not None:
                self.stream, self._spare = self._spare, None
                self._write(lines)

    def _taken(self) -> Iterator[logging.LogRecord]:
        while self._records:  # one by one: other threads may add some meanwhile
            yield self._records.popleft()

    def _later(self) -> None:
        try:
            self._timer = asyncio.get_running_loop().call_later(BATCH_DELAY, self.flush)
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
            return f"{_priority(record, journal=True)}{record.name} {text}"
        return f"{timestamp(record)} {record.levelname} {record.name} {text}"


class JsonLines(logging.Formatter):
    """One JSON object a line; the fields of an access line are keys of their own.

    The journal takes the priority before it away.
    """

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

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
        return _priority(record, journal=self._journal) + msgspec.json.encode(fields).decode()


def _priority(record: logging.LogRecord, *, journal: bool) -> str:
    return f"<{_PRIORITY.get(record.levelno, 6)}>" if journal else ""


def message(record: logging.LogRecord) -> str:
    """Return what a record says, with its traceback, and without anything that looks like a secret."""
    text = record.getMessage()
    if hasattr(record, "context"):
        return text  # an access line: built from names and numbers alone, so it is not searched again
    lines = [redact(beginning(text, _MAX_MESSAGE))]  # before line ends are escaped and the end is cut off
    if record.exc_info:
        lines += redact(logging.Formatter().formatException(record.exc_info)).split("\n")
    return "\n".join(map(harmless, lines))


def harmless(text: str) -> str:
    """Return a text that cannot end its line or steer a terminal: a client may have chosen a part of it."""
    if len(text) > MAX_LINE:
        text = text[:MAX_LINE] + "..."
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
