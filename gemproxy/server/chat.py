"""POST /chat/completions: decode, convert, open, then fold or transcode. No decisions about content here.

Two commits (DESIGN 1): the *status* by the first content or after ``timeouts.hold``, the *content* inside
``dispatcher.open``. Before the status commit a failure is raised and gets its true HTTP status; after it the failure is
the stream's last event.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from gemproxy.converter import media
from gemproxy.converter import request as conversion
from gemproxy.converter.answer import AnswerReader
from gemproxy.converter.chunks import ChatChunkWriter, Envelope
from gemproxy.converter.completion import ChatCompletionFold
from gemproxy.converter.events import ToolCall
from gemproxy.converter.transcoder import Transcoder
from gemproxy.dispatch import Answer, Listen
from gemproxy.errors import ClientFault, Failure
from gemproxy.models import Model
from gemproxy.server.exchange import EXCHANGE, Exchange
from gemproxy.server.keyring import Caller, allow
from gemproxy.server.middleware import JSON, error_event
from gemproxy.server.negotiation import wants_stream
from gemproxy.server.service import SERVICE, Service
from gemproxy.server.tasks import spawn
from gemproxy.stall import StallWatch
from gemproxy.upstream.dialect import Call, Dialect
from gemproxy.wire.openai import AssistantMessage, ChatRequest

_OTHER_MEDIA = ("multipart/", "image/", "audio/", "video/", "application/xml", "text/xml", "text/html")


async def chat_completions(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Answer one chat request, as a stream or as JSON."""
    service, exchange = request.app[SERVICE], request[EXCHANGE]
    asked = conversion.decode(await read_body(request, service))
    stream = wants_stream(
        asked.stream,
        request.headers.get("Accept", ""),
        request.headers.get("User-Agent", ""),
        default=service.door.stream_default,
        json_clients=service.door.json_clients,
    )
    model = service.catalogue.lookup(asked.model)
    allow(caller, model.id)
    exchange.model, exchange.stream = model.id, stream
    fetched = await service.images.fetch(media.remote_images(asked))
    plan = conversion.to_call(asked, model, fetched, service.signatures, service.options, stream=stream)
    listen = _listener(service, asked, model, plan, stream)
    if stream:
        return await _Stream(request, service, exchange).run(plan.call, listen)
    return await _unary(service, exchange, plan.call, listen)


async def read_body(request: web.Request, service: Service) -> bytes:
    """Return the request's body; raises ``ClientFault`` 408, 413 or 415."""
    if request.content_type.startswith(_OTHER_MEDIA):
        raise ClientFault(
            f"The body must be JSON, not {request.content_type!r}.", status=415, code="unsupported_media_type"
        )
    try:
        async with asyncio.timeout(service.door.body):
            return await request.read()
    except TimeoutError:
        raise ClientFault(
            f"The request body did not arrive within timeouts.body = {service.door.body:g} s.",
            status=408,
            type="timeout",
            code="timeout",
        ) from None


def _listener(service: Service, asked: ChatRequest, model: Model, plan: conversion.Plan, stream: bool) -> Listen:
    """Return what makes a transcoder for one attempt; ids and time are the same in every attempt."""
    answer_id, created = "chatcmpl-" + service.new_id(), int(service.clock())
    usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
    taken = _call_ids(asked)

    def listen(dialect: Dialect) -> Transcoder:
        origin = f"{dialect.name}/{model.id}"
        envelope = Envelope(answer_id, created, asked.model, origin, usage, plan.legacy_functions, plan.custom)

        def keep(call: ToolCall) -> None:
            if call.signature is not None:
                service.signatures.put(call.id, call.signature, origin)

        writer = ChatChunkWriter(envelope) if stream else ChatCompletionFold(envelope)
        reader = AnswerReader(lambda: "call_" + service.new_id(), plan.names, taken)
        return Transcoder(dialect.decode, reader, writer, keep)

    return listen


def _call_ids(asked: ChatRequest) -> frozenset[str]:
    return frozenset(
        call.id
        for message in asked.messages
        if isinstance(message, AssistantMessage) and message.tool_calls
        for call in message.tool_calls
        if call.id
    )


async def _unary(service: Service, exchange: Exchange, call: Call, listen: Listen) -> web.Response:
    answer = await service.dispatcher.open(call, listen)
    try:
        _note(exchange, answer)
        body = b"".join([piece async for piece in answer.pieces()])
        _note_end(exchange, answer)
    finally:
        answer.close()
    response = web.Response(body=body, content_type=JSON)
    _routing(service, response, answer)
    return response


class _Stream:
    """One answer as a stream of events."""

    def __init__(self, request: web.Request, service: Service, exchange: Exchange) -> None:
        self._request = request
        self._service = service
        self._exchange = exchange
        self._response = EventSourceResponse(
            headers={"x-request-id": exchange.id},
            sep="\n",
            allow_all_methods=True,
            ping_interval=service.door.ping_interval,
            send_timeout=service.door.send,
        )
        self._early: asyncio.Task[object] | None = None
        self._hold = asyncio.get_running_loop().call_later(service.door.hold, self._commit_early)

    async def run(self, call: Call, listen: Listen) -> web.StreamResponse:
        """Open and stream; raises the failure if the status is not committed yet."""
        answer: Answer | None = None
        try:
            answer = await self._service.dispatcher.open(call, listen)
            _note(self._exchange, answer)
            await self._commit(answer)
            await self._copy(answer)
        except Failure as failure:
            if not await self._committed():
                raise
            await self._tell(failure)
        finally:
            self._end()
            if answer is not None:
                answer.close()
        return self._response

    def _commit_early(self) -> None:
        self._early = spawn(self._prepare(), name="status commit")

    async def _prepare(self) -> None:
        self._exchange.response = self._response
        await self._response.prepare(self._request)

    async def _committed(self) -> bool:
        self._hold.cancel()
        if self._early is not None:
            await self._early
        return self._response.prepared

    def _end(self) -> None:
        self._hold.cancel()
        if self._early is not None:
            self._early.cancel()
        if self._response.prepared:
            self._response.stop_streaming()  # no ping follows the last event

    async def _commit(self, answer: Answer) -> None:
        if not await self._committed():
            _routing(self._service, self._response, answer)
            await self._prepare()

    async def _copy(self, answer: Answer) -> None:
        response = self._response
        stall = StallWatch(self._service.door.send, self._drop)
        try:
            async for data in answer.pieces():
                stall.start()
                await response.write(data)
                stall.stop()
            await response.write_eof()
        finally:
            stall.close()
        _note_end(self._exchange, answer)

    async def _tell(self, failure: Failure) -> None:
        self._exchange.status = failure.status
        self._exchange.error = failure.code or failure.type
        await self._response.write(error_event(failure))

    def _drop(self) -> None:
        # a client that takes nothing for timeouts.send seconds: its connection goes, and with it this request
        if self._request.transport is not None:
            self._request.transport.abort()


def _note(exchange: Exchange, answer: Answer) -> None:
    exchange.first_byte = asyncio.get_running_loop().time()
    exchange.credential = answer.lease.slot.name
    exchange.attempts = answer.attempts


def _note_end(exchange: Exchange, answer: Answer) -> None:
    exchange.usage = answer.transcoder.usage
    exchange.finish = ",".join(answer.transcoder.reasons)


def _routing(service: Service, response: web.StreamResponse, answer: Answer) -> None:
    if service.door.expose_routing:
        response.headers["x-gemproxy-credential"] = answer.lease.slot.name
        response.headers["x-gemproxy-attempts"] = str(answer.attempts)
