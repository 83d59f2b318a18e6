"""One chat request on its way to an answer: the model asked for, and after it the fallbacks the operator named.

Puts converter and dispatch together; knows neither HTTP requests nor how the answer is written to the client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from gemproxy.converter.chat import request as conversion
from gemproxy.converter.chat.chunks import ChatChunkWriter
from gemproxy.converter.chat.completion import ChatCompletionFold
from gemproxy.converter.chat.objects import Heading
from gemproxy.converter.chat.params import param_of
from gemproxy.converter.events import Image, ToolCall
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.gemini.signatures import image_key
from gemproxy.converter.transcoder import Transcoder
from gemproxy.dispatch.answer import Answer
from gemproxy.dispatch.dispatcher import Listen
from gemproxy.errors import Failure, NoCredential, UpstreamFault
from gemproxy.load.burden import Burden
from gemproxy.load.effort import Effort, Elsewhere
from gemproxy.models import Model
from gemproxy.operations.capture import Capture, Tape
from gemproxy.server.context import Context
from gemproxy.server.service import Service
from gemproxy.upstream.dialect import Call, Dialect
from gemproxy.upstream.refusals.rules import NO_MODEL
from gemproxy.wire.gemini import Blob
from gemproxy.wire.openai_chat import ChatRequest

log = logging.getLogger("gemproxy.server")
NOTHING = ChatRequest("", [])
HERE = 500  # steps of a conversion (``load.effort``), up to 20 microseconds each, that may be taken on the loop


class Asking:
    """Ids and time are the same in every attempt; ``close`` when the answer is over."""

    def __init__(
        self,
        service: Service,
        context: Context,
        burden: Burden,
        asked: ChatRequest,
        images: Mapping[str, Blob],
        stream: bool,
    ) -> None:
        self.burden = burden
        self._service = service
        self._context = context
        self._asked = asked
        self._images = images
        self.stream = stream
        self._id = "chatcmpl-" + service.new_id()
        self._created = int(service.clock())
        self._options = service.door.options
        self._signatures = service.signatures.of(context.client)
        self._usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        self._since = 0.0
        self._tapes: list[Tape] = []
        self._made: list[object] = []

    async def open(self, models: Sequence[Model]) -> Answer:
        """Return the first model's answer, or that of the first fallback that has one; raises the first failure."""
        first: Failure | None = None
        self._since = asyncio.get_running_loop().time()  # one rotation.budget for all; each is asked once at least
        for model in models:
            try:
                answer = await self._open(model, fallback=first is not None)
            except Failure as failure:
                first = first or failure
                if not _elsewhere(failure):
                    break
                log.log(
                    self._level(models, failure),
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

    def _level(self, models: Sequence[Model], failure: Failure) -> int:
        """Return WARNING where a fallback serves for the first time: nothing else would tell."""
        if len(models) == 1:
            return logging.INFO
        return self._service.firsts.level("fallback", models[0].id, failure.code or "")

    def close(self) -> None:
        """Write what was captured."""
        self._forget()
        for tape in self._tapes:
            tape.close()

    async def _open(self, model: Model, *, fallback: bool) -> Answer:
        plan = self._converted_here(model)
        if plan is None:
            plan = await self.burden.run(self._convert, model, Effort(self._options.max_schema_nodes))
        self._made.append(plan)  # so that it is freed with the rest, not where the last of those who ask lets it go
        call, listen = self._plan(plan, model, fallback=fallback)
        del plan
        try:
            return await self._service.dispatcher.open(call, listen, self.burden, since=self._since)
        except Failure as failure:
            failure.param = param_of(failure.param)
            raise

    def _converted_here(self, model: Model) -> conversion.Plan | None:
        """Return what comes of a small request; None: it takes too long for the loop."""
        if self.burden.heavy:
            return None
        try:
            return self._convert(model, Effort(self._options.max_schema_nodes, HERE))
        except Elsewhere:  # a web of refs in few bytes
            return None

    def _forget(self) -> None:
        """Let go of the request: nobody will be asked once more, and its answer may take minutes."""
        if self._asked is NOTHING:
            return
        asked, images, made = self._asked, self._images, self._made
        self._asked, self._images, self._made = NOTHING, {}, []
        self.burden.lighten([asked, images, made])

    def _convert(self, model: Model, effort: Effort) -> conversion.Plan:
        plan = conversion.to_call(
            self._asked, model, self._images, self._signatures, self._options, self.stream, effort
        )
        if self.burden.heavy:
            _ = plan.call.demand.kinds  # worked out here: the rotator would do it on the loop
        return plan

    def _plan(self, plan: conversion.Plan, model: Model, *, fallback: bool) -> tuple[Call, Listen]:
        """Return what to ask this model, and what reads an attempt's answer."""
        if plan.ignored:
            log.debug("request %s: ignored %s", self._context.id, ", ".join(plan.ignored))
        name = model.id if fallback else self._asked.model
        return plan.call, partial(self._listen, plan, name)

    def _listen(self, plan: conversion.Plan, name: str, dialect: Dialect) -> Transcoder:
        origin, capture = f"{dialect.name}/{plan.call.model}", self._service.operations.capture
        heading = Heading(self._id, self._created, name, origin, self._usage, plan.legacy_functions, plan.custom)
        return Transcoder(
            dialect.decode,
            AnswerReader(self._call_id, plan.names, plan.taken, declared=plan.declared, grounded=plan.grounded),
            ChatChunkWriter(heading) if self.stream else ChatCompletionFold(heading),
            partial(self._keep, origin),
            self._tape(capture) if capture is not None else None,
            at_once=not self.stream,
        )

    def _call_id(self) -> str:
        return "call_" + self._service.new_id()

    def _keep(self, origin: str, signed: ToolCall | Image) -> None:
        key = signed.id if isinstance(signed, ToolCall) else image_key(signed.data)
        self._signatures.put(key, signed.signature or "", origin)

    def _tape(self, capture: Capture) -> Tape | None:
        tape = capture.open(f"{self._context.id}-{len(self._tapes) + 1}")
        if tape is not None:
            self._tapes.append(tape)
        return tape


def _elsewhere(failure: Failure) -> bool:
    """Return whether another model may do better: the fault is neither the caller's nor ours."""
    return isinstance(failure, NoCredential | UpstreamFault) or failure.code == NO_MODEL
