"""Every API's requests: read, find out, convert, open, then answer as a whole or stream. No decisions about content.

Two commits (docs/architecture.md 4.3): the *status* by the first content or after ``timeouts.hold``, the *content*
inside ``dispatcher.open``. Before the status commit a failure is raised and gets its true HTTP status; after it the
failure is the stream's last event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import cache

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from gemproxy.converter.api import Operation
from gemproxy.dispatch.answer import Answer
from gemproxy.dispatch.fan_out import Gathered
from gemproxy.errors import Failure, timeout
from gemproxy.load.burden import Burden
from gemproxy.models import Model
from gemproxy.server.asking import Asking
from gemproxy.server.auth import Caller, allow
from gemproxy.server.body import receive
from gemproxy.server.context import Context
from gemproxy.server.handlers.whole import drop, handed_over, whole
from gemproxy.server.middleware import ends
from gemproxy.server.outlet import EventStream, Outlet
from gemproxy.server.service import Service
from gemproxy.server.weight import MIN_WEIGHED, owner, weigh_body
from gemproxy.tasks import spawn
from gemproxy.transport.idle import IdleTimer

log = logging.getLogger("gemproxy.server")
MAX_REASONS = 8  # finish reasons in a line of the log; as many choices may be asked for, and an upstream may send more
_UNLIMITED = nullcontext()


async def serve(
    operation: Operation, request: web.Request, service: Service, context: Context, caller: Caller
) -> web.StreamResponse:
    """Answer one request, as a stream or as a whole."""
    burden = service.load.burden(owner(request, caller))
    try:
        asking = await _read(operation, request, service, context, caller, burden)
        try:
            if asking.stream:
                return await _Stream(request, service, context, asking).run()
            return await _unary(request, service, context, asking)
        finally:
            asking.close()
    finally:
        burden.close()


async def _read(
    operation: Operation, request: web.Request, service: Service, context: Context, caller: Caller, burden: Burden
) -> Asking:
    """Return a request ready to be asked; here, so that nothing else keeps the body.

    Raises ``ClientFault`` and ``Overload``.
    """
    options = service.door.options
    received = await receive(operation, request, service.door, burden.hold)
    if len(received.body) > MIN_WEIGHED and not received.is_form:
        await weigh_body(received.body, burden, options.bounds)
    heavy = burden.heavy
    asked = await burden.run(operation.read, received, options) if heavy else operation.read(received, options)
    del received
    models = _models(service, asked.model, caller)
    context.model = models[0].id
    context.stream = _by_client(request, service) if asked.stream is None else asked.stream
    asking = Asking(service, context, burden, operation, asked, models)
    await asking.find()
    return asking


def _by_client(request: web.Request, service: Service) -> bool:
    return wants_stream(
        request.headers.get("Accept", ""),
        request.headers.get("User-Agent", ""),
        default=service.door.stream_default,
        json_clients=service.door.json_clients,
    )


def wants_stream(accept: str, user_agent: str, *, default: bool, json_clients: Sequence[str]) -> bool:
    """Return whether to stream when the request does not say.

    It is JSON for clients whose ``Accept`` names JSON (every OpenAI SDK) or whose ``User-Agent`` begins as
    one of ``json_clients`` (``compat.json_clients``); else what ``compat.stream_default`` says.
    """
    if not default or "application/json" in accept.lower():
        return False
    return not user_agent.startswith(tuple(json_clients))


def _models(service: Service, name: str, caller: Caller) -> Sequence[Model]:
    """Return the model asked for, and its fallbacks as far as the caller may use them."""
    door = service.door
    model = door.catalogue.lookup(name)
    if caller.models is not None:
        allow(caller, model.id)
    if model.shutdown_date is not None:
        _warn_of_age(service, model, model.shutdown_date)
    others = door.fallbacks.get(model.id)
    if not others:
        return (model,)
    return [model, *(other for other in others if caller.models is None or other.id in caller.models)]


def _warn_of_age(service: Service, model: Model, shutdown: str) -> None:
    if model.id not in service.outdated and _begins(shutdown) <= service.clock():
        service.outdated.add(model.id)
        log.warning("%s is past its shutdown date, %s; clients still ask for it", model.id, shutdown)


@cache
def _begins(day: str) -> float:
    """Return when a day begins, in seconds since 1970."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def within(limit: float) -> AbstractAsyncContextManager[None]:
    """Raise ``UpstreamFault`` 504 in what takes longer than ``timeouts.total`` seconds (0: as long as it takes)."""
    return _limited(limit) if limit else _UNLIMITED


@asynccontextmanager
async def _limited(limit: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit):
            yield
    except TimeoutError:
        raise timeout(f"The answer took longer than timeouts.total = {limit:g} s.") from None


async def _unary(request: web.Request, service: Service, context: Context, asking: Asking) -> web.Response:
    async with within(service.door.total):
        answer = await asking.open()
    try:
        _note(context, answer)
        body = answer.whole()
        asking.keep()
        _note_end(context, answer)
    finally:
        answer.close()
    response = whole(body, asking.format.content_type)
    if service.door.expose_routing:
        _show_routing(response, answer)
    return await handed_over(request, response, body, service, context, asking.burden.hold)


class _Stream:
    """One answer as a stream."""

    def __init__(self, request: web.Request, service: Service, context: Context, asking: Asking) -> None:
        self._request = request
        self._asking = asking
        self._service = service
        self._context = context
        self._response = EventStream(
            sep="\n",
            allow_all_methods=True,
            ping_interval=service.door.ping_interval,
            ping=asking.format.ping,
            content_type=asking.format.content_type,
        )
        self._early: asyncio.Task[object] | None = None
        self._writer: AbstractStreamWriter | None = None
        self._hold = asyncio.get_running_loop().call_later(service.door.hold, self._commit_early)

    async def run(self) -> web.StreamResponse:
        """Open and stream; raises the failure if the status is not committed yet."""
        try:
            async with within(self._service.door.total):
                answer = await self._asking.open()
                with self._owned(answer) as idle:
                    writer = await self._commit(answer)
                    outlet = Outlet(self._request.transport, writer, self._asking.burden.hold, idle.start)
                    self._response.outlet = outlet
                    idle.start()
                    await outlet.write(answer.head)
                    idle.stop()
                    answer.head = b""
                    ended = False
                    while not ended:
                        ended = await answer.pour(outlet.take)
                        if ended:
                            self._asking.keep()
                        idle.start()
                        await outlet.drain()
                        idle.stop()
                    idle.start()
                    await self._response.write_eof()
        except Failure:
            await self._committed()  # if so, the failure becomes the last event
            raise
        finally:
            self._end()
        return self._response

    @contextmanager
    def _owned(self, answer: Answer | Gathered) -> Iterator[IdleTimer]:
        """Write down what the answer tells, and close it; gives what drops a client that takes nothing."""
        idle = IdleTimer(self._service.door.send, lambda: drop(self._request))
        try:
            _note(self._context, answer)
            yield idle
        finally:
            outlet = self._response.outlet
            if outlet is not None and outlet.within:
                drop(self._request)  # in the middle of an event nothing can be told but that it is cut
                outlet.abandon()
            idle.close()
            _note_end(self._context, answer)
            answer.close()

    # -------------------------------------------------------------------------------------------- the status commit

    def _commit_early(self) -> None:
        self._early = spawn(self._tell_status(), name="status commit")

    async def _tell_status(self) -> None:
        await self._prepare()
        assert self._writer is not None
        self._writer.send_headers()
        opening = self._asking.format.opening()
        if opening:
            await self._response.write(opening)

    async def _prepare(self) -> None:
        self._context.response = self._response
        self._response.headers.update(self._context.headers)
        if ends(self._request, self._service):
            self._response.force_close()
        self._writer = await self._response.prepare(self._request)

    async def _committed(self) -> bool:
        self._hold.cancel()
        if self._early is not None:
            await self._early
        return self._response.prepared

    async def _commit(self, answer: Answer | Gathered) -> AbstractStreamWriter:
        if not await self._committed():
            if self._service.door.expose_routing:
                _show_routing(self._response, answer)
            await self._prepare()
        assert self._writer is not None
        return self._writer

    def _end(self) -> None:
        self._hold.cancel()
        if self._early is not None:
            self._early.cancel()
        self._response.end_pings()


def _note(context: Context, answer: Answer | Gathered) -> None:
    context.first_byte = context.clock()
    context.failure_event = answer.failure_event
    context.credential = answer.credential
    context.attempts = answer.attempts


def _note_end(context: Context, answer: Answer | Gathered) -> None:
    context.usage = answer.usage
    context.finish = ",".join(answer.reasons[:MAX_REASONS])


def _show_routing(response: web.StreamResponse, answer: Answer | Gathered) -> None:
    response.headers["x-gemproxy-credential"] = answer.credential
    response.headers["x-gemproxy-attempts"] = str(answer.attempts)
