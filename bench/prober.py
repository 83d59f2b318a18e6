"""Asks one small question again and again, and tells how long the longest answer took.

A process of its own (``python -m bench.prober PORT EVERY_MS KIND``), with raw sockets and a high priority, so that what
it sees is the server's doing. Takes lines on standard input; each is answered with what was ``Seen`` since the last, as
JSON, also while an answer is still missing: then its age counts.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec import Struct

from bench import heavy

KEY = "sk-bench-neighbour"
HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_PAUSE = 0.005  # seconds before a connection is tried anew
_END = b"\r\n\r\n"


class Seen(Struct):
    """What came of the questions of a while. ``wrong``: another status than 200; times in seconds."""

    asked: int = 0
    wrong: int = 0
    lost: int = 0  # connections that broke
    worst: float = 0.0
    middle: float = 0.0  # the median
    rank99: float = 0.0

    def and_then(self, later: Seen) -> Seen:
        """Return both as one; the ranks are those of the longer one."""
        more = later if later.asked > self.asked else self
        return Seen(
            self.asked + later.asked,
            self.wrong + later.wrong,
            self.lost + later.lost,
            max(self.worst, later.worst),
            more.middle,
            more.rank99,
        )


def chat() -> bytes:
    """Return a small chat request of another client."""
    body = heavy.question()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


QUESTIONS: dict[str, Callable[[], bytes]] = {"health": lambda: HEALTH, "chat": chat}


class Prober:
    """Asks ``port`` every so many seconds; a late answer does not make it hurry."""

    def __init__(self, port: int, question: bytes, every: float) -> None:
        self._port = port
        self._question = question
        self._every = every
        self._socket: socket.socket | None = None
        self._answer = b""
        self._sent: float | None = None
        self._next = time.monotonic()
        self._took: list[float] = []
        self._wrong = self._lost = 0

    def seen(self) -> Seen:
        """Return what was seen since the last call."""
        took, self._took = sorted(self._took), []
        wrong, self._wrong, lost, self._lost = self._wrong, 0, self._lost, 0
        open_ = time.monotonic() - self._sent if self._sent is not None else 0.0
        if not took:
            return Seen(0, wrong, lost, open_)
        worst = max(took[-1], open_)
        return Seen(len(took), wrong, lost, worst, took[len(took) // 2], took[int(len(took) * 0.99)])

    def run(self, orders: int, obey: Callable[[], bool]) -> None:
        """Ask until ``obey`` says that it is enough; it is called whenever ``orders``, a descriptor, can be read."""
        while True:
            self._ask()
            waiting: list[int | socket.socket] = [orders]
            if self._socket is not None:
                waiting.append(self._socket)
            ready, _, _ = select.select(waiting, [], [], max(self._until() - time.monotonic(), 0.0))
            if self._socket is not None and self._socket in ready:
                self._hear(self._socket)
            if orders in ready and not obey():
                return

    def _until(self) -> float:
        """Return when there is something to do without having heard anything."""
        return time.monotonic() + 1.0 if self._sent is not None and self._socket is not None else self._next

    def _ask(self) -> None:
        now = time.monotonic()
        if now < self._next or (self._sent is not None and self._socket is not None):
            return
        self._sent = now if self._sent is None else self._sent
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=1.0)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(self._question)
        except OSError:
            self._break()

    def _hear(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._break()
            return
        self._answer += data
        if self._sent is not None and _whole(self._answer):
            now = time.monotonic()
            self._took.append(now - self._sent)
            self._wrong += not self._answer.startswith(b"HTTP/1.1 200")
            self._next = max(self._sent + self._every, now)
            self._answer, self._sent = b"", None

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._answer = None, b""

    def _break(self) -> None:
        self.close()
        self._lost += 1
        self._next = time.monotonic() + _PAUSE


def _whole(answer: bytes) -> bool:
    head, end, body = answer.partition(_END)
    if not end:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
    return True


def hurry() -> None:
    """Come before everybody else on this machine, as far as we may."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def main() -> None:
    """Ask until standard input ends."""
    port, every, kind = sys.argv[1:]
    prober = Prober(int(port), QUESTIONS[kind](), float(every) / 1000)

    def obey() -> bool:
        order = os.read(0, 1 << 10)
        if order:
            print(msgspec.json.encode(prober.seen()).decode(), flush=True)
        return bool(order)

    hurry()
    prober.run(0, obey)


if __name__ == "__main__":
    main()
