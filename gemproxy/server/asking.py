"""One request on its way to an answer: the model asked for, and after it the fallbacks the operator named.

Puts an API and dispatch together; knows neither HTTP requests nor how the answer is written to the client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from gemproxy.converter.api import Asked, Kept, Known, Operation, Plan, Settled, Wants
from gemproxy.dispatch.answer import Answer
from gemproxy.dispatch.fan_out import Gathered, fan_out
from gemproxy.errors import ClientFault, Failure, NoCredential, UpstreamFault
from gemproxy.load.budget import Hold
from gemproxy.load.burden import OVERHEAD, Burden
from gemproxy.load.effort import Effort, Elsewhere
from gemproxy.models import Model
from gemproxy.operations.capture import Capture, Tape
from gemproxy.server.context import Context
from gemproxy.server.service import Service
from gemproxy.server.weight import weigh
from gemproxy.upstream.refusals.rules import NO_MODEL

log = logging.getLogger("gemproxy.server")
MAX_SEARCHES = 4  # rounds: what is kept, then images, which may stand in it
MAX_FOUND = 1_000  # things that are kept: a chain of which each names the one before, and what is named beside
LOOP_STEPS = 500  # steps of a conversion (``load.effort``), up to 20 microseconds each, that may be taken on the loop


class Asking:
    """Ids and time are the same in every attempt; ``close`` when the answer is over.

    ``models`` are the one asked for and its fallbacks.
    """

    def __init__(
        self,
        service: Service,
        context: Context,
        burden: Burden,
        operation: Operation,
        asked: Asked,
        models: Sequence[Model],
    ) -> None:
        self.burden = burden
        self.stream = context.stream
        self._models = models
        self._service = service
        self._context = context
        self._param = operation.param
        self._asked: Asked | None = asked
        self._tapes: list[Tape] = []
        self._known = Known(
            service.new_id(),
            int(service.clock()),
            service.new_id,
            service.clock,
            service.signatures.of(context.client),
            service.door.options,
            service.dispatcher.methods,
            partial(_tape, service.operations.capture, context.id, self._tapes),
            request_id=context.id,
        )
        self.format = context.format = asked.format(context.stream, self._known)
        self._keep: Callable[[], Sequence[Kept]] = tuple
        self._held = 0
        self._kept: Hold | None = None
        self._turn: Callable[[], None] | None = None
        self._since = 0.0
        self._patient = True
        self._made: list[object] = []

    async def find(self) -> None:
        """Find out what the request wants to know. Raises ``ClientFault`` 400 and ``Overload``."""
        try:
            await self._find()
        except BaseException:
            self._end_turn()
            raise

    async def _find(self) -> None:
        assert self._asked is not None
        known = self._known
        for _ in range(MAX_SEARCHES):
            wants = await self._wants(self._asked)
            if wants is None:
                return
            if wants.alone and self._turn is None:
                self._patient = False  # what nobody has been told of need not be there
                [(kind, key)] = wants.stored
                self._turn = await self._service.turns.take(own_key(self._context.mark, f"{kind}\0{key}"))
            for kind, key in wants.stored:
                await self._look_up(kind, key, wants.before)
            if wants.images:
                known.images = await self._service.images.fetch(wants.images, self.burden.hold)
        raise RuntimeError("an API that never knows enough")

    async def _wants(self, asked: Asked) -> Wants | None:
        """Return what is to be found; an earlier response may be far larger than the request that names it."""
        if self._known.stored and self.burden.heavy:
            return await self.burden.run(asked.wants, self._known)
        return asked.wants(self._known)

    async def _look_up(self, kind: str, key: str, before: Callable[[bytes], str]) -> None:
        """Find what is kept by this key, and all that it goes on from."""
        known, own = self._known, partial(own_key, self._context.mark)
        while key and (kind, key) not in known.stored:
            if len(known.stored) >= MAX_FOUND:
                raise ClientFault(f"The request goes on from, or refers to, more than {MAX_FOUND} earlier answers.")
            found = await self._service.kept.get(kind, own(key), patient=self._patient)
            known.stored[kind, key] = found
            if found is None:
                self._patient = False  # a request may name a thousand that were never there
                return
            await weigh(found, self.burden, known.options.bounds)
            key = before(found)

    def keep(self) -> None:
        """Keep what the API wants to have kept of an answer that ended well.

        At once: whoever has seen the end may leave, and go on from it with the next request.
        """
        for each in self._keep():
            key = own_key(self._context.mark, each.key)
            self._service.kept.put(each.kind, key, each.value, each.lasts, each.limit)

    async def open(self) -> Answer | Gathered:
        """Return the first model's answer, or that of the first fallback that has one; raises the first failure."""
        first: Failure | None = None
        self._since = asyncio.get_running_loop().time()  # one rotation.budget for all; each is asked once at least
        for model in self._models:
            try:
                answer = await self._open(model, fallback=first is not None)
            except Failure as failure:
                first = first or failure
                if not _elsewhere(failure):
                    break
                log.log(
                    self._level(failure),
                    "request %s: %s cannot serve (%s)",
                    self._context.id,
                    model.id,
                    failure.code,
                )
            else:
                if first is not None:  # not before: log, header and error name one model, whatever comes of the others
                    self._context.headers["x-gemproxy-model"] = self._context.model = model.id
                self._forget()
                return answer
        assert first is not None
        raise first

    def _level(self, failure: Failure) -> int:
        """Return WARNING where a fallback serves for the first time: nothing else would tell."""
        if len(self._models) == 1:
            return logging.INFO
        return self._service.firsts.level("fallback", self._models[0].id, failure.code or "")

    def close(self) -> None:
        """Write what was captured."""
        self._forget()
        self._end_turn()
        if self._kept is not None:
            self._kept.close()
        for tape in self._tapes:
            tape.close()

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn()

    async def _open(self, model: Model, *, fallback: bool) -> Answer | Gathered:
        asked = self._asked
        assert asked is not None
        shown = model.id if fallback else asked.model
        plan = self._planned_here(asked, model, shown)
        if plan is None:
            plan = await self.burden.run(self._plan, asked, model, shown, Effort(self._known.options.max_schema_nodes))
        del asked
        self._made.append(plan)  # so that it is freed with the rest, not where the last of those who ask lets it go
        if plan.ignored:
            log.debug("request %s: ignored %s", self._context.id, ", ".join(plan.ignored))
        self._keep, self._held = plan.keep, plan.held
        try:
            return await self._answer(plan)
        except Failure as failure:
            failure.param = self._param(failure.param)
            raise

    async def _answer(self, plan: Plan) -> Answer | Gathered:
        dispatcher, gather = self._service.dispatcher, plan.gather
        if gather is None:
            (call,) = plan.calls
            return await dispatcher.open(call, partial(plan.listen, 0), self.burden, since=self._since)
        came, hold = await fan_out(dispatcher, plan, self.burden, self._since)
        try:
            whole = await self.burden.run(gather, came) if self.burden.heavy else gather(came)
        except BaseException:
            hold.close()
            raise
        return Gathered(came, whole, hold, plan.in_its_place)

    def _planned_here(self, asked: Asked, model: Model, shown: str) -> Plan | None:
        """Return what comes of a small request; None: it takes too long for the loop."""
        if self.burden.heavy:
            return None
        try:
            return self._plan(asked, model, shown, Effort(self._known.options.max_schema_nodes, LOOP_STEPS))
        except Elsewhere:  # a web of refs in few bytes
            return None

    def _plan(self, asked: Asked, model: Model, shown: str, effort: Effort) -> Plan:
        plan = asked.plan(self._known, Settled(model, shown, self.stream, effort))
        if self.burden.heavy:
            for call in plan.calls:
                _ = call.demand.kinds  # worked out here: the rotator would do it on the loop
        return plan

    def _forget(self) -> None:
        """Let go of the request: nobody will be asked once more, and its answer may take minutes."""
        if self._asked is None:
            return
        known = self._known
        things = [self._asked, known.images, known.stored, self._made]
        self._asked, known.images, known.stored, self._made = None, {}, {}, []
        if self._held and self._kept is None:
            self._kept = self.burden.hold.split(min(self._held, self.burden.hold.size - OVERHEAD))
        self.burden.lighten(things)


def _tape(capture: Capture | None, name: str, tapes: list[Tape]) -> Tape | None:
    """Return what keeps the frames of one more attempt; it is among ``tapes`` from now on."""
    tape = capture.open(f"{name}-{len(tapes) + 1}") if capture is not None else None
    if tape is not None:
        tapes.append(tape)
    return tape


def own_key(mark: str, key: str) -> str:
    """Return a key of what is kept that is this client's alone: another one's is as if it were not there."""
    return f"{mark}\0{key}"


def _elsewhere(failure: Failure) -> bool:
    """Return whether another model may do better: the fault is neither the caller's nor ours."""
    return isinstance(failure, NoCredential | UpstreamFault) or failure.code == NO_MODEL
