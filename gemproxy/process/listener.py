"""(edge) Connections of a listening socket, taken while there are file descriptors for them.

asyncio's own server cannot be paused, and out of descriptors it logs a traceback for each of its tries.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection

from gemproxy import descriptors
from gemproxy.errors import Failure
from gemproxy.tasks import spawn

log = logging.getLogger("gemproxy.server")
ACCEPTS_PER_TURN = 16  # connections in one turn of the loop: each costs 0.25 ms
SHORTAGE_PAUSE = 0.1  # seconds in which none is taken when descriptors are few; they wait in the kernel's queue
REPORT_INTERVAL = 1.0


class Refusals:
    """Tells the log of connections that are refused or must wait: one line a second at most, with their number."""

    def __init__(self) -> None:
        self._count = 0
        self._told = float("-inf")

    def count(self, failure: Failure, now: float) -> None:
        """Count one more; ``now`` in seconds."""
        self._count += 1
        if now - self._told >= REPORT_INTERVAL:
            told = "connections refused or kept waiting since the last such line: %d. %s"
            log.warning(told, self._count, failure.message)
            self._count, self._told = 0, now


class Listener:
    """Takes the connections of one listening socket; what becomes of them is not its affair.

    ``make`` returns the protocol of a connection, given why it must be refused, if it must. ``room`` says whether one
    may be taken, be it to be refused.
    """

    def __init__(
        self,
        sock: socket.socket,
        make: Callable[[Failure | None], asyncio.Protocol],
        room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.address = sock.getsockname()
        self._sock = sock
        self._make = make
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._opening: dict[asyncio.Task[object], asyncio.Protocol] = {}
        self._pause: asyncio.TimerHandle | None = None
        self.refusals = Refusals()
        self._few = descriptors.allowed() - descriptors.RESERVE_UNDER_WAY

    @property
    def opening(self) -> Collection[asyncio.Protocol]:
        """Return those that were taken a moment ago, and may have no transport yet."""
        return self._opening.values()

    def start(self, backlog: int) -> None:
        """Listen."""
        self._sock.setblocking(False)
        self._sock.listen(backlog)
        self._loop.add_reader(self._sock, self._take)

    def stop(self) -> None:
        """Leave what waits in the queue to others who hold the socket."""
        self._loop.remove_reader(self._sock)
        if self._pause is not None:
            self._pause.cancel()

    def take_all(self, most: int) -> None:
        """Take what waits in the queue, as far as there are descriptors: nobody else would."""
        while most > 0 and self._take_one():
            most -= 1

    async def settle(self) -> None:
        """Wait until whoever was taken has a transport."""
        if self._opening:
            await asyncio.wait(self._opening)

    def close(self) -> None:
        """Close the socket: the kernel resets what waits in its queue."""
        self.stop()
        self._sock.close()

    def _take(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if not self._take_one():
                return

    def _take_one(self) -> bool:
        """Take a connection; returns whether another one may be taken now."""
        if not self._room():
            self._wait()
            return False
        try:
            line, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as fault:
            if fault.errno not in descriptors.SHORTAGES:
                raise
            self.refusals.count(descriptors.NONE_LEFT, self._loop.time())
            self._wait()
            return False
        line.setblocking(False)
        few = line.fileno() >= self._few
        protocol = self._make(descriptors.NONE_LEFT if few else None)
        opening: asyncio.Task[object] = spawn(
            self._loop.connect_accepted_socket(lambda: protocol, line), name="connection"
        )
        self._opening[opening] = protocol
        opening.add_done_callback(self._opening.pop)
        if few:
            self._wait()
        return not few

    def _wait(self) -> None:
        self.stop()
        self._pause = self._loop.call_later(SHORTAGE_PAUSE, self._loop.add_reader, self._sock, self._take)
