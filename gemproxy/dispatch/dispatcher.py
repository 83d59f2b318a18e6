"""(edge) The attempt loop; the only place that posts to Gemini.

In: a neutral ``Call`` and a function that makes a transcript for an attempt. Out: an ``Answer`` whose first content has
been seen. Until then anything that fails is tried elsewhere (``retry`` decides), pings or not; from then on a failure
can only be told. A credential never changes across that point. Must not know any client's format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from typing import Protocol

import aiohttp

from gemproxy import errors
from gemproxy.converter.transcript import Transcript
from gemproxy.credentials.token_errors import TokenRefused
from gemproxy.dispatch.answer import Answer, Limits
from gemproxy.dispatch.faults import FAULTS, Refused, verdict_on
from gemproxy.dispatch.retry import Retry, Step
from gemproxy.errors import ClientFault, Failure, NoCredential, UpstreamFault
from gemproxy.load.burden import Burden
from gemproxy.pool.queue import Queue
from gemproxy.pool.slot import Lease
from gemproxy.transport.client import Incoming, Poster, read_beginning
from gemproxy.transport.idle import IdleTimer
from gemproxy.upstream.aim import aimed
from gemproxy.upstream.dialect import Call, Dialect, Method, Token, Verdict
from gemproxy.upstream.refusals.rules import NO_MODEL
from gemproxy.upstream.request_body import VERBS
from gemproxy.upstream.skew import Skew

MAX_REFUSAL = 1 << 20  # bytes; an error body beyond this is cut: its head tells enough
Listen = Callable[[Dialect], Transcript]


class Tokens(Protocol):
    """What authenticates a slot. All raise ``TokenRefused`` with the verdict on the credential.

    What takes more than ``grace`` seconds goes on without the one who asked; ``without`` tells whom it concerns.
    """

    async def get(self, slot: str, grace: float) -> Token: ...
    async def refresh(self, slot: str, stale: Token, grace: float) -> Token: ...
    async def rediscover(self, slot: str) -> Token: ...
    def without(self) -> Set[str]: ...


class Dispatcher:
    """Takes calls to a credential that can serve them."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        queue: Queue,
        tokens: Tokens,
        dialects: Mapping[str, Dialect],
        limits: Limits,
        clock: Callable[[], float],
        skew: Skew | None = None,
    ) -> None:
        self.queue = queue
        self._skew = skew
        self.limits = limits
        self._post = Poster(session).post
        self._tokens = tokens
        self._dialects = dialects
        self._having = {method: _having(method, dialects) for method in VERBS}
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
        attempts, budget, peers = self.limits.attempts, self.limits.budget, self.queue.rotator.peers
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
            raise retry.with_attempts(self._silent()) from None
        except Failure as failure:
            retry.with_attempts(failure)
            raise
        finally:
            first.close()

    def methods(self, model: str) -> Set[Method]:
        """Return the methods that any credential which offers a model can serve."""
        found: set[Method] = set()
        for name in self.queue.rotator.dialects(model):
            found |= self._dialects[name].methods
        return found

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
                dialects = self._having[call.method]
                raise retry.exhausted(self.queue.rotator.earliest(call.model, dialects, call.demand))
            await asyncio.sleep(pause)

    async def _lease(self, call: Call, retry: Retry) -> tuple[Lease, float]:
        """Return a lease, and how many seconds its token may be waited for before others are asked."""
        without, dialects = self._tokens.without(), self._having[call.method]
        grace = retry.grace
        if retry.asked or without:
            for passed, grace in retry.choices(without):
                with suppress(NoCredential):  # who is busy is waited for only when nobody else is left
                    return self.queue.at_once(call.model, passed, dialects, call.demand), grace
        try:
            return await self.queue.acquire(call.model, retry.tried, dialects, call.demand), grace
        except NoCredential as none:
            if self.queue.rotator.missing(call.model, dialects, call.demand):  # it is 404, not a matter of time
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
                verdict = verdict_on(self._silent(), dialect, self._clock())
            raise
        finally:
            if answer is None:
                self.queue.report(lease, verdict)
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
            raise Refused(verdict_on(fault, dialect, self._clock())) from None
        del request  # megabytes, perhaps: the upstream has them now
        if response.status != 200:
            raise Refused(await self._refusal(dialect, response))
        answer = Answer(self.queue, self.limits, self._clock, lease, dialect, response, listen(dialect), burden)
        await answer.begin()
        if lease.probe:
            self.queue.confirm(lease)
        for repair, asker in retry.repairs.items():
            if asker == dialect.name:  # learnt from its cure: a refusal may have had another cause
                dialect.learn(call.model, repair, self._clock())
        return answer

    async def _refusal(self, dialect: Dialect, response: Incoming) -> Verdict:
        try:
            async with asyncio.timeout(self.limits.idle):
                body = await read_beginning(response, MAX_REFUSAL)
        except (aiohttp.ClientError, OSError):
            body = b""  # the status alone still tells something
        finally:
            response.close()
        if self._skew is not None:  # of refusals only: these are few, and what a wrong clock does is among them
            self._skew.note(response.headers)
        return dialect.judge(response.status, response.headers, body, self._clock())

    def _silent(self) -> UpstreamFault:
        return errors.timeout(f"The upstream sent no content within timeouts.first = {self.limits.first:g} s.")


def _having(method: Method, dialects: Mapping[str, Dialect]) -> frozenset[str] | None:
    """Return the upstreams that have a method; None: all, so that nobody need look."""
    having = frozenset(name for name, dialect in dialects.items() if method in dialect.methods)
    return None if len(having) == len(dialects) else having


def _no_model(model: str) -> ClientFault:
    return ClientFault(
        f"No configured credential has the model {model!r} at present.", status=404, code=NO_MODEL, param="model"
    )
