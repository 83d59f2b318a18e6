"""(edge) The attempt loop; the only place that posts to Gemini.

In: a neutral ``Call`` and a function that makes a transcoder for an attempt. Out: an ``Answer`` whose first content has
been seen. Until then anything that fails is tried elsewhere (``retry`` decides), pings or not; from then on a failure
can only be told. A credential never changes across that point. Must not know OpenAI's format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from functools import partial
from typing import Protocol

import aiohttp
from msgspec import Struct

from gemproxy import descriptors, errors
from gemproxy.converter.transcoder import ErrorFrame, Transcoder
from gemproxy.credentials.token_errors import TokenRefused
from gemproxy.dispatch.retry import BAD_ANSWER, Retry, Step
from gemproxy.errors import BadAnswer, ClientFault, Failure, NoCredential, UpstreamFault
from gemproxy.load.budget import Hold
from gemproxy.load.burden import Burden
from gemproxy.load.weigh import SMALL
from gemproxy.pool.queue import Pool
from gemproxy.pool.slot import Lease
from gemproxy.transport.client import Incoming, Poster, head
from gemproxy.transport.idle import IdleTimer
from gemproxy.transport.reaching import obstacle_of
from gemproxy.transport.tap import Arrivals
from gemproxy.upstream.aim import aimed
from gemproxy.upstream.dialect import OK, Action, Call, Dialect, Scope, Token, Verdict
from gemproxy.upstream.refusals.rules import NO_MODEL
from gemproxy.upstream.skew import Skew

UNCOUNTED = 1 << 12  # bytes of an answer, before a look at what is held for them: 350 KB at worst (probabilities)
MOST_OF_A_REFUSAL = 1 << 20  # bytes; an error body beyond this is cut: its head tells enough
FAULTS = (UpstreamFault, ErrorFrame, aiohttp.ClientError, OSError)  # of an answer that has begun to come
Listen = Callable[[Dialect], Transcoder]


class Tokens(Protocol):
    """What authenticates a slot. All raise ``TokenRefused`` with the verdict on the credential.

    What takes more than ``grace`` seconds goes on without the one who asked; ``without`` tells whom it concerns.
    """

    async def get(self, slot: str, grace: float) -> Token: ...
    async def refresh(self, slot: str, stale: Token, grace: float) -> Token: ...
    async def rediscover(self, slot: str) -> Token: ...
    def without(self) -> Set[str]: ...


class Refused(Exception):  # noqa: N818 - a verdict on its way to the loop, not a failure
    """An attempt came to nothing; the verdict says what that means."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class Limits(Struct, frozen=True):
    """``rotation.*`` and ``timeouts.*``, in seconds."""

    attempts: int = 6
    budget: float = 30.0
    first: float = 300.0
    idle: float = 120.0


class Dispatcher:
    """Takes calls to a credential that can serve them."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        pool: Pool,
        tokens: Tokens,
        dialects: Mapping[str, Dialect],
        limits: Limits,
        clock: Callable[[], float],
        skew: Skew | None = None,
    ) -> None:
        self.pool = pool
        self._skew = skew
        self.limits = limits
        self._post = Poster(session).post
        self._tokens = tokens
        self._dialects = dialects
        self._clock = clock

    async def open(
        self, call: Call, listen: Listen, burden: Burden, avoid: Iterable[str] = (), since: float | None = None
    ) -> Answer:
        """Return an answer whose content is committed; the caller must ``close`` it.

        ``burden`` is that of the request: it counts what is held of the answer, too, and does what takes long.
        ``avoid`` names slots to pass over; ``since`` is when, on the loop's clock, its request began, if another model
        was asked before. Raises a ``Failure`` when nobody could serve; 504 after ``timeouts.first``
        seconds without content.
        """
        task = asyncio.current_task()
        assert task is not None
        loop = task.get_loop()
        attempts, budget, peers = self.limits.attempts, self.limits.budget, self.pool.rotator.peers
        started = loop.time() if since is None else since
        retry = Retry(attempts=attempts, budget=budget, started=started, peers=peers)
        retry.tried.update(avoid)
        first = IdleTimer(self.limits.first, task.cancel, loop)  # asyncio.timeout would cost six times as much
        first.start()
        try:
            return await self._go(call, listen, burden, retry, first, loop.time)
        except asyncio.CancelledError:
            if not first.expired or task.uncancel():
                raise  # the client left
            raise retry.sign(self._silent()) from None
        except Failure as failure:
            retry.sign(failure)
            raise
        finally:
            first.close()

    async def _go(
        self,
        call: Call,
        listen: Listen,
        burden: Burden,
        retry: Retry,
        first: IdleTimer,
        time: Callable[[], float],
    ) -> Answer:
        while True:
            lease, grace = await self._lease(call, retry)
            retry.leased(lease.slot.name)
            answer = await self._serve(lease, grace, call, listen, burden, retry, first)
            if answer is not None:
                answer.attempts = retry.attempts
                return answer
            pause = retry.pause(lease.slot.dialect)
            if not retry.may_begin(time() + pause):  # else the client would wait for nothing
                raise retry.exhausted(self.pool.rotator.earliest(call.model, None, call.demand))
            await asyncio.sleep(pause)

    async def _lease(self, call: Call, retry: Retry) -> tuple[Lease, float]:
        """Return a lease, and how many seconds its token may be waited for before others are asked."""
        without = self._tokens.without()
        grace = retry.grace
        if retry.asked or without:
            for passed, grace in retry.choices(without):
                with suppress(NoCredential):  # who is busy is waited for only when nobody else is left
                    return self.pool.at_once(call.model, passed, None, call.demand), grace
        try:
            return await self.pool.acquire(call.model, retry.tried, None, call.demand), grace
        except NoCredential as none:
            if self.pool.rotator.missing(call.model):  # it is 404, not a matter of time
                raise _no_model(call.model) from None
            raise retry.outcome(none) from None

    async def _serve(
        self,
        lease: Lease,
        grace: float,
        call: Call,
        listen: Listen,
        burden: Burden,
        retry: Retry,
        first: IdleTimer,
    ) -> Answer | None:
        """Return the answer that owns the lease from now on, or None: the lease is reported, the next one may try."""
        dialect = self._dialects[lease.slot.dialect]
        verdict: Verdict | None = None
        answer: Answer | None = None
        token: Token | None = None
        step: Step | None = None
        try:
            while answer is None and step is not Step.MOVE:
                verdict = None  # what is reported if the client leaves now: nothing
                try:
                    if token is None:
                        token = await self._tokens.get(lease.slot.name, grace)
                    else:
                        token = await self._renewed(step, lease.slot.name, token, grace)
                    answer = await self._attempt(lease, dialect, call, token, listen, burden, retry)
                except (Refused, TokenRefused) as refused:
                    refusal = refused.verdict
                    verdict = await burden.run(aimed, refusal, call) if burden.heavy else aimed(refusal, call)
                    step = retry.next(lease.slot.name, dialect.name, verdict)
        except asyncio.CancelledError:
            if first.expired:
                verdict = self.verdict(dialect, self._silent())
            raise
        finally:
            if answer is None:
                self.pool.report(lease, verdict)
        return answer

    async def _renewed(self, step: Step | None, slot: str, token: Token, grace: float) -> Token:
        if step is Step.REFRESH:
            return await self._tokens.refresh(slot, token, grace)
        if step is Step.REDISCOVER:
            return await self._tokens.rediscover(slot)
        return token

    # ------------------------------------------------------------------------------------------------ one attempt

    async def _attempt(
        self,
        lease: Lease,
        dialect: Dialect,
        call: Call,
        token: Token,
        listen: Listen,
        burden: Burden,
        retry: Retry,
    ) -> Answer:
        asking = (call, token, self._clock(), retry.repairs.keys())
        request = await burden.run(dialect.ask, *asking) if burden.heavy else dialect.ask(*asking)
        try:
            response = await self._post(request)
        except FAULTS as fault:
            raise Refused(self.verdict(dialect, fault)) from None
        del request  # megabytes, perhaps: the upstream has them now
        if response.status != 200:
            raise Refused(await self._refusal(dialect, response))
        answer = Answer(self, lease, dialect, response, listen(dialect), burden)
        await answer.begin()
        if lease.probe:
            self.pool.confirm(lease)
        for repair, asker in retry.repairs.items():
            if asker == dialect.name:  # learnt from its cure: a refusal may have had another cause
                dialect.learn(call.model, repair, self._clock())
        return answer

    async def _refusal(self, dialect: Dialect, response: Incoming) -> Verdict:
        try:
            async with asyncio.timeout(self.limits.idle):
                body = await head(response, MOST_OF_A_REFUSAL)
        except (aiohttp.ClientError, OSError):
            body = b""  # the status alone still tells something
        finally:
            response.close()
        if self._skew is not None:  # of refusals only: these are few, and what a wrong clock does is among them
            self._skew.note(response.headers)
        return dialect.judge(response.status, response.headers, body, self._clock())

    def _silent(self) -> UpstreamFault:
        return errors.timeout(f"The upstream sent no content within timeouts.first = {self.limits.first:g} s.")

    def verdict(self, dialect: Dialect, fault: Exception) -> Verdict:
        """Return what a failure inside a 200 means."""
        if isinstance(fault, ErrorFrame):
            return dialect.judge(500, {}, fault.body, self._clock())  # the body's own code counts, if it tells one
        if isinstance(fault, BadAnswer):
            return Verdict(Action.RETRY, Scope.NONE, reason=BAD_ANSWER, message=fault.message)
        if isinstance(fault, Failure):
            return Verdict(
                Action.RETRY,
                Scope.UPSTREAM,
                reason="silent" if fault.status == 504 else "broken_answer",
                message=fault.message,
                status=fault.status,
                code=fault.code or "upstream_error",
            )
        return _unreachable(fault)


class Answer:
    """An upstream answer, from its first content to its end. Owns the lease: ``close`` gives it back.

    ``head`` holds the client's bytes that committed the content; ``pour`` gives the rest.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        lease: Lease,
        dialect: Dialect,
        response: Incoming,
        transcoder: Transcoder,
        burden: Burden,
    ) -> None:
        self.lease = lease
        self.transcoder = transcoder
        self._burden = burden
        self._hold: Hold | None = None  # of what is held of the answer, once that is much
        self._uncounted = 0  # bytes that came since it was looked at
        self.attempts = 0
        self.head = b""
        self._watch = IdleTimer(dispatcher.limits.idle, self._give_up)
        self._dispatcher = dispatcher
        self._dialect = dialect
        self._response = response
        self._ended = False
        self._full = False
        self._verdict: Verdict | None = None  # stays None when the client leaves: costs the credential nothing
        self._closed = False
        self._arrivals: Arrivals | None = None

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
            self.transcoder.check()
            await self._pump(take)
        except FAULTS as fault:
            self._verdict = self._judge(fault)
            raise self._broken(self._verdict) from None
        ended = self._ended and not self.transcoder.broken  # what is broken is told once the client has the rest
        if ended:
            self._verdict = OK
        return ended

    def whole(self) -> bytes:
        """Return a unary answer, which ``begin`` has read to its end."""
        self.transcoder.check()
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
            self._dispatcher.pool.report(self.lease, self._verdict)

    def _begun(self, data: bytes) -> bool:
        self.head = data
        return True

    async def _pump(self, take: Callable[[bytes], object]) -> None:
        """Hand on what comes until the answer has ended or ``take`` is full; what takes long is done elsewhere."""
        self._full = False
        while True:
            if not self._look(take):
                await self._arrive(take)
            if self._full or not self.transcoder.heavy:
                return
            data = await self._burden.run(self.transcoder.work)
            self._count()
            if data and take(data):
                return
            self.transcoder.check()

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
        content, transcoder = self._response.content, self.transcoder
        while not (self._ended or transcoder.heavy):
            piece = content.read_nowait()
            if piece:
                data = transcoder.feed(piece)
            elif content.is_eof():
                self._ended = True
                data = transcoder.finish()
            else:
                self._watch.start()
                return False
            self._uncounted += len(piece)
            if self._uncounted > UNCOUNTED or self._hold is not None:
                self._count()
            if data and take(data):
                self._full = True
                return True
            transcoder.check()
        return True

    def _count(self) -> None:
        """Count what is held of the answer. Raises ``Overload``; a little is counted with the request."""
        held, self._uncounted = self.transcoder.held, 0
        if self._hold is None:
            if held <= SMALL:
                return
            self._hold = self._burden.hold.another()
        self._hold.resize(held if held > SMALL else 0)

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
            self._arrivals.tell()

    def _judge(self, fault: Exception) -> Verdict:
        verdict = self._dispatcher.verdict(self._dialect, self._stalled() if self._watch.expired else fault)
        errors.forget_way(fault)
        return verdict

    def _stalled(self) -> UpstreamFault:
        return errors.timeout(f"The upstream fell silent for timeouts.idle = {self._dispatcher.limits.idle:g} s.")

    def _broken(self, verdict: Verdict) -> UpstreamFault:
        return UpstreamFault(
            verdict.message or "The upstream broke off the answer.",
            status=verdict.status if verdict.status >= 500 else 502,
            code=verdict.code or "upstream_error",
        )


def _no_model(model: str) -> ClientFault:
    return ClientFault(
        f"No configured credential has the model {model!r} at present.", status=404, code=NO_MODEL, param="model"
    )


def _unreachable(fault: BaseException) -> Verdict:
    """Return the verdict on a connection that failed; rotation does not help, trying again may."""
    obstacle = obstacle_of(fault)
    if descriptors.is_shortage(fault):
        few = descriptors.FEW
        return Verdict(
            Action.STOP, Scope.NONE, reason="descriptors", message=few.message, status=few.status, code=few.code or ""
        )
    if obstacle is None:
        connecting = isinstance(fault, aiohttp.ClientConnectorError)
        message = "The upstream cannot be reached." if connecting else "The connection to the upstream was lost."
        reason = "unreachable" if connecting else "connection_lost"
        return Verdict(Action.RETRY, Scope.UPSTREAM, reason=reason, message=message)
    return Verdict(
        Action.RETRY,
        Scope.UPSTREAM,
        reason=obstacle.reason,
        message=f"The upstream cannot be reached: {obstacle.public}",
        status=obstacle.status,
        code=obstacle.code,
    )
