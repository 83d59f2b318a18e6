"""(edge) An answer under way: from its first content, which commits it, to its end.

In: the upstream's response and a transcript. Out: the client's bytes, as they come. It owns the lease.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import aiohttp
from msgspec import Struct

from gemproxy import errors
from gemproxy.converter.transcript import Transcript, Usage
from gemproxy.dispatch.faults import FAULTS, Refused, verdict_on
from gemproxy.errors import Failure, UpstreamFault
from gemproxy.load.budget import Hold
from gemproxy.load.burden import Burden
from gemproxy.load.weigh import SMALL_SIZE
from gemproxy.pool.queue import Queue
from gemproxy.pool.slot import Lease
from gemproxy.transport.client import Incoming
from gemproxy.transport.idle import IdleTimer
from gemproxy.transport.tap import Arrivals
from gemproxy.upstream.dialect import OK, Dialect, Verdict

UNCOUNTED_SIZE = 1 << 12  # bytes of an answer, before a look at what is held for them: 350 KB at worst (probabilities)


class Limits(Struct, frozen=True):
    """``rotation.*`` and ``timeouts.*``, in seconds."""

    attempts: int = 6
    budget: float = 30.0
    first: float = 300.0
    idle: float = 120.0


class Answer:
    """An upstream answer, from its first content to its end. Owns the lease: ``close`` gives it back.

    ``head`` holds the client's bytes that committed the content; ``pour`` gives the rest.
    """

    def __init__(
        self,
        queue: Queue,
        limits: Limits,
        clock: Callable[[], float],
        lease: Lease,
        dialect: Dialect,
        response: Incoming,
        transcript: Transcript,
        burden: Burden,
    ) -> None:
        self.lease = lease
        self.transcript = transcript
        self._burden = burden
        self._hold: Hold | None = None  # of what is held of the answer, once that is much
        self._uncounted = 0  # bytes that came since it was looked at
        self.attempts = 0
        self.head = b""
        self._watch = IdleTimer(limits.idle, self._give_up)
        self._queue = queue
        self._limits = limits
        self._clock = clock
        self._dialect = dialect
        self._response = response
        self._ended = False
        self._full = False
        self._verdict: Verdict | None = None  # stays None when the client leaves: costs the credential nothing
        self._closed = False
        self._arrivals: Arrivals | None = None

    @property
    def credential(self) -> str:
        """Return the name of the credential that serves."""
        return self.lease.slot.name

    @property
    def usage(self) -> Usage:
        """Return the tokens counted so far."""
        return self.transcript.usage

    @property
    def reasons(self) -> Sequence[str]:
        """Return why the answer ended, a word for each choice."""
        return self.transcript.reasons

    def failure_event(self, failure: Failure) -> bytes | None:
        """Return how a stream ends that fails now; None: nothing depends on what it has told."""
        return self.transcript.failure_event(failure)

    async def begin(self) -> None:
        """Read until the content commit; raises ``Refused``. Until bytes came out, the attempt may be repeated."""
        begun = False
        try:
            await self._pump(self._begun)
            begun = True  # the client may leave between the first bytes and here
        except FAULTS as fault:
            raise Refused(self._judge(fault)) from None
        finally:
            if not begun:
                self._response.close()
                self._watch.close()
                self._let_go()

    async def pour(self, take: Callable[[bytes], object]) -> bool:
        """Give ``take`` the client's bytes behind ``head`` the moment each piece arrives.

        Returns True at the end of the answer, and False when ``take`` returned something true: it is full, and the
        rest waits for another ``pour``. Raises ``UpstreamFault`` when the answer breaks off.
        """
        try:
            self.transcript.check()
            await self._pump(take)
        except FAULTS as fault:
            self._verdict = self._judge(fault)
            self.close()  # it rests from now on, which the failure must know
            raise self._broken(self._verdict) from None
        ended = self._ended and not self.transcript.broken  # what is broken is told once the client has the rest
        if ended:
            self._verdict = OK
        return ended

    def whole(self) -> bytes:
        """Return a unary answer, which ``begin`` has read to its end."""
        self.transcript.check()
        self._verdict = OK
        return self.head

    def close(self) -> None:
        """Give the lease back with what happened, and end the upstream request if it still runs."""
        if not self._closed:
            self._closed = True
            self._watch.close()
            self._let_go()
            if not self._ended:  # else its connection went back to the pool with the last byte
                self._response.close()
            self._queue.report(self.lease, self._verdict)

    def _begun(self, data: bytes) -> bool:
        self.head = data
        return True

    async def _pump(self, take: Callable[[bytes], object]) -> None:
        """Hand on what comes until the answer has ended or ``take`` is full; what takes long is done elsewhere."""
        self._full = False
        while True:
            if not self._look(take):
                await self._arrive(take)
            if self._full or not self.transcript.heavy:
                return
            data = await self._burden.run(self.transcript.work)
            self._count()
            if data and take(data):
                return
            self.transcript.check()

    async def _arrive(self, take: Callable[[bytes], object]) -> None:
        """Wait until ``_look``, called as pieces come, says that it is all for now; raises what it raises."""
        connection = self._response.connection
        if connection is None or connection.transport is None:
            raise aiohttp.ClientConnectionError("the connection was closed")
        self._arrivals = Arrivals(partial(self._look, take))
        try:
            await self._arrivals.watch(connection.transport)
        finally:
            self._watch.stop()
            self._arrivals = None

    def _look(self, take: Callable[[bytes], object]) -> bool:
        """Hand on what is there; returns whether that is all for now.

        That is, the answer has ended, ``take`` is full, or what comes next takes long.
        """
        content, transcript = self._response.content, self.transcript
        while not (self._ended or transcript.heavy):
            piece = content.read_nowait()
            if piece:
                data = transcript.feed(piece)
            elif content.is_eof():
                self._ended = True
                data = transcript.finish()
            else:
                self._watch.start()
                return False
            self._uncounted += len(piece)
            if self._uncounted > UNCOUNTED_SIZE or self._hold is not None:
                self._count()
            if data and take(data):
                self._full = True
                return True
            transcript.check()
        return True

    def _count(self) -> None:
        """Count what is held of the answer. Raises ``Overload``; a little is counted with the request."""
        held, self._uncounted = self.transcript.held, 0
        if self._hold is None:
            if held <= SMALL_SIZE:
                return
            self._hold = self._burden.hold.another()
        self._hold.resize(held if held > SMALL_SIZE else 0)

    def _let_go(self) -> None:
        if self._hold is not None:
            self._hold.close()
            self._hold = None

    def _give_up(self) -> None:
        # an exception of its own: aiohttp raises one and the same object for every closed response, whose traceback
        # would keep all that ever stalled alive
        self._response.content.set_exception(aiohttp.ServerTimeoutError("idle"))
        self._response.close()
        if self._arrivals is not None:
            self._arrivals.notify()

    def _judge(self, fault: Exception) -> Verdict:
        verdict = verdict_on(self._silent() if self._watch.expired else fault, self._dialect, self._clock())
        errors.forget_way(fault)
        return verdict

    def _silent(self) -> UpstreamFault:
        return errors.timeout(f"The upstream fell silent for timeouts.idle = {self._limits.idle:g} s.")

    def _broken(self, verdict: Verdict) -> UpstreamFault:
        return UpstreamFault(
            verdict.message or "The upstream broke off the answer.",
            status=verdict.status if verdict.status >= 500 else 502,
            code=verdict.code or "upstream_error",
            retry_after=self._wait() if verdict.status == 429 else None,
        )

    def _wait(self) -> float | None:
        """Return the seconds until somebody may serve; None: at once, or nobody knows."""
        return self._queue.rotator.earliest(self.lease.model) or None
