"""(edge) What stands before HTTP: how many connections there may be, and how long one may take to say what it wants.

Nobody has shown a key yet: what is kept of a head that does not end, of requests that wait behind another, or of
answers that are not taken, is bounded here. aiohttp has no hook for any of it, nor one that tells an idle connection
from one whose request is on its way; so its connection is refined, by as few of its own fields as that takes
(docs/aiohttp.md), and where one of them is missing ``plain`` serves.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

from gemproxy import descriptors
from gemproxy.aiohttp_parts import PLAIN
from gemproxy.errors import Failure
from gemproxy.load.reads import HEAD_READ_SIZE, read_little
from gemproxy.process.dismissal import FULL, LATE, LINGER, TOO_LONG, Refusal, dismiss, has_come
from gemproxy.process.intake import Intake
from gemproxy.process.listener import Listener
from gemproxy.process.plain import PlainConnection, watch
from gemproxy.process.watched import Watched, options_of

BACKLOG = 1024
QUEUED = 2  # requests behind the one that is answered; with more the connection is read no further


class GuardedSite(web.SockSite):
    """A listening socket whose connections are counted and watched.

    ``limit`` gives the most connections there may be (0: any number), ``carried`` those that there are descriptors for,
    ``patience`` the seconds that headers may take, ``send`` those for which a client may leave its answers untaken.
    ``shared``: another process holds the socket, too, and takes what waits in its queue.
    """

    __slots__ = ("_carried", "_frame", "_held", "_limit", "_listener", "_patience", "_refused", "_send", "shared")

    def __init__(
        self,
        runner: web.AppRunner,
        sock: socket.socket,
        *,
        limit: Callable[[], int],
        patience: Callable[[], float],
        send: Callable[[], float] = lambda: 60.0,
        carried: int = sys.maxsize,
    ) -> None:
        super().__init__(runner, sock, backlog=BACKLOG)
        self._frame = runner
        self._held = sock
        self._limit = limit
        self._carried = carried
        self._refused: set[Refusal] = set()
        self._patience = patience
        self._send = send
        self.shared = False

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        self._listener = Listener(self._held, self._connection, self._room)
        self._listener.start(BACKLOG)
        if PLAIN and self._frame.server is not None:
            watch(self._frame.server)

    async def stop(self) -> None:
        """Accept no more; what was accepted is served, and so is what waits if nobody else would take it."""
        self._listener.stop()
        if not self.shared:
            self._listener.take_all(BACKLOG)
        self._listener.close()  # in this very turn: what waits in its queue is reset
        await self._listener.settle()
        await super().stop()

    @property
    def address(self) -> Any:
        """Return what it listens on: an address as the socket names it, or a path."""
        return self._listener.address

    def _connection(self, refused: Failure | None) -> asyncio.Protocol:
        server, loop = self._frame.server, asyncio.get_running_loop()
        refused = refused or self._full(self._count())
        if refused is not None or server is None:
            self._listener.refusals.count(refused or FULL, loop.time())
            return Refusal(refused or FULL, self._refused)
        made = PlainConnection if PLAIN else Connection
        connection = made(server, loop=loop, **options_of(self._frame))
        connection.patience, connection.send = self._patience(), self._send()
        return connection

    def _count(self) -> int:
        """Return how many connections there are; some were accepted a moment ago, and nobody else knows of them yet."""
        server = self._frame.server
        coming = [one for one in self._listener.opening if isinstance(one, Watched) and one.transport is None]
        return len(coming) + (0 if server is None else len(server.connections))

    def _room(self) -> bool:
        """Return whether who is refused would take no descriptor that whoever is served has yet to open."""
        return self._count() + len(self._refused) - descriptors.RESERVE_UNDER_WAY < self._carried

    def _full(self, count: int) -> Failure | None:
        if 0 < self._limit() <= count:
            return FULL
        return descriptors.NONE_LEFT if count >= self._carried else None


class Connection(Watched):
    """One client's connection, which knows whether anything is under way on it."""

    __slots__ = ("_answered", "_late", "_pauses", "_retired")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._answered = 0  # requests
        self._pauses = False  # whether reading was ever paused
        self._retired = False
        self._late: asyncio.TimerHandle | None = None
        self._parser: Any = Intake(self._parser, self._dismiss_long_head)
        self._max_msg_queue_size, self._msg_queue_resume_size = QUEUED, QUEUED - 1

    @property
    def busy(self) -> bool:
        """True while a request is being answered or waits for it, or what is left of its body is read past."""
        parser = self._parser
        return parser is None or parser.asked != self._answered or not parser.body.is_eof()

    @property
    def speaking(self) -> bool:
        """True if a request may be on its way: nothing was said yet, or half of it."""
        return self._late is not None and not self.busy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first headers."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes; headers that do not come to an end are waited for only so long."""
        super().data_received(data)
        if len(data) >= HEAD_READ_SIZE and self.transport is not None:
            read_little(self.transport, self._parser.pace)
        if self.busy is (self._late is None):
            return
        if self.busy:
            self._heard()
        else:
            self._wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._heard()
        super().connection_lost(exc)

    def pause_reading(self) -> None:
        """Read no further for now."""
        self._pauses = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on; aiohttp does so after every piece, which is 3 % of a small request.

        After a first pause it has to: the parser may have kept a piece without saying so.
        """
        if self._pauses:
            super().resume_reading(resume_parser)

    def retire(self) -> None:
        """Close the connection at once if it is idle, else after the answer under way: its client may not know yet.

        A request that has come and was not read yet is under way, too.
        """
        self._retired = True
        if not self.busy and not self.speaking and self.transport is not None and not has_come(self.transport):
            self.transport.close()

    def interrupt(self) -> None:
        """Have the request under way cancelled, as if its client had left."""
        task = self._task_handler
        if self._current_request is not None and task is not None:
            task.cancel()
            task.uncancel()  # it is the handler within that must hear of it; the connection goes on to its end

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer; after the last one to a client that may still be sending, take that for a while."""
        done = await super().finish_response(request, resp, start_time)
        self._answered += 1
        parser, transport = self._parser, self.transport
        if parser is None or transport is None or parser.asked != self._answered:
            return done
        if self._retired or parser.last:
            self.close()
        if parser.deaf and not transport.is_closing():
            transport.write_eof()
            await asyncio.sleep(LINGER)  # or until the client closes
        return done

    def _wait(self) -> None:
        if self._parser.last:
            self.close()  # what was left of the last body has been read past
        elif not self._parser.deaf:
            self._late = asyncio.get_running_loop().call_later(self.patience, self._give_up)

    def _heard(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self.busy and self.transport is not None:
            self._parser.deaf = True
            dismiss(self.transport, LATE)

    def _dismiss_long_head(self) -> bool:
        """Answer at once where nothing is under way: in aiohttp's way 300 of them would take a tenth of a second."""
        if self.busy or self.transport is None:
            return False
        self._heard()
        dismiss(self.transport, TOO_LONG)
        return True


def connections(runner: web.AppRunner) -> Iterator[Watched]:
    """Yield the open connections."""
    for connection in runner.server.connections if runner.server is not None else ():
        if isinstance(connection, Watched):
            yield connection
