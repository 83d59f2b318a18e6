"""Around every handler: request id, errors in the words of its API, one log line. The one place that catches all.

Nothing here looks into a body. After a stream's status is committed an error can only be written into the stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from gemproxy import errors
from gemproxy.converter.api import Api
from gemproxy.errors import ClientFault, Draining, Failure, NoCredential, Overload
from gemproxy.redaction import opening
from gemproxy.server import access_log
from gemproxy.server.context import Context, request_id, shortened
from gemproxy.server.origins import cors
from gemproxy.server.outlet import Whole
from gemproxy.server.service import SERVICE, Service

Answering = Callable[[web.Request, Service, Context], Awaitable[web.StreamResponse]]
log = logging.getLogger("gemproxy.server")
SHORT_NAMES = 40  # characters of a method and a path that need no look of their own
SEARCHED_PATH = 512  # characters of a path that nobody knows, and as many behind them
CLIENT_CLOSED = 499  # nginx's word for a client that left; only in the log


def answering(handler: Answering, api: Api | None = None) -> Handler:
    """Return a handler for aiohttp: it runs ours, and answers whatever that raises in the words of its API.

    Around each route and not a middleware of the application, which costs 3 % of a small request.
    """
    return partial(_routed, handler, api)


async def _routed(handler: Answering, api: Api | None, request: web.Request) -> web.StreamResponse:
    return await answer(handler, request.app[SERVICE], request, api)


async def answer(
    handler: Answering, service: Service, request: web.Request, api: Api | None = None
) -> web.StreamResponse:
    """Run a handler, and answer whatever it raises in the words of its API; None: of the one that speaks for others."""
    clock = request.task.get_loop().time
    context = _open(request, service, api or speaker(request, service), clock)
    try:
        try:
            response = await handler(request, service, context)  # here: each chunk passes every coroutine above it
        except asyncio.CancelledError:
            if not _taken_back(request, service):
                raise
            response = await _excuse(request, service, context, Draining())
        except Exception as fault:  # the one place; ``_excuse`` logs it
            if isinstance(fault, ConnectionResetError) and _left(request):
                raise  # else a connection of ours broke, and the client waits for its answer
            response = await _excuse(request, service, context, fault)
        else:
            if not response.prepared:
                response.headers.update(context.headers)
        context.status = context.status or response.status
        if not response.prepared:
            await _hand_over(response, request, service)
    except asyncio.CancelledError:
        context.status = CLIENT_CLOSED
        raise
    except ConnectionResetError:  # the client left while we wrote: nobody is there to hear about it
        context.status = context.status or CLIENT_CLOSED  # else we cut it off, and the log says why
        return context.response or web.Response()
    finally:
        _record(service, context, clock())
        context.response = context.failure_event = None  # which hold the request and so the context, or an answer
    return response


def speaker(request: web.Request, service: Service) -> Api:
    """Return the protocol of a request to a path that is no operation's: the first one's, unless another claims it."""
    first, *others = service.apis
    path = request.rel_url.raw_path_qs if others else ""
    return next((api for api in others if api.claims(path, request.headers)), first)


def _open(request: web.Request, service: Service, api: Api, clock: Callable[[], float]) -> Context:
    method, path = request.method, request.rel_url.raw_path
    if len(method) + len(path) > SHORT_NAMES:
        method, path = shortened(method, 20), shortened(path)
    context = Context(request_id(request.headers.get("x-request-id")), clock, clock(), method, path, api=api)
    context.headers = {"x-request-id": context.id, "Server": "gemproxy"}
    if api.id_header:
        context.headers[api.id_header] = context.id
    if service.door.cors_origins:
        context.headers |= cors(request.headers.get("Origin"), service.door.cors_origins)
    return context


async def _hand_over(response: web.StreamResponse, request: web.Request, service: Service) -> None:
    """Write an answer here and not by aiohttp: it leaves before it is written down."""
    if ends(request, service):
        response.force_close()
    try:
        await response.prepare(request)
        await response.write_eof()
    except asyncio.CancelledError:
        # Handed over in one step, its client may yet take it; on aiohttp's own way it would be written once more.
        if not (isinstance(response, Whole) and response.at_once and _taken_back(request, service)):
            raise


def _taken_back(request: web.Request, service: Service) -> bool:
    """Let a request go on that the end of a drain cancelled, to tell its client; False if it was its client's end.

    The caller then raises the cancellation again, and not this: a frame that raises what it holds is a circle.
    """
    task = asyncio.current_task()
    if not service.refusing or request.transport is None or task is None:
        return False
    task.uncancel()
    return True


def _left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def ends(request: web.Request, service: Service) -> bool:
    """Return whether the connection ends with this answer: the next request belongs to another instance, or would be
    taken for a body that the client held back and will not send now.
    """
    return service.draining or ("Expect" in request.headers and not request.content.is_eof())


def _record(service: Service, context: Context, ended: float) -> None:
    access_log.write(context, ended)
    metrics = service.operations.metrics
    if metrics is not None and context.model != "-":
        first = None if context.first_byte is None else context.first_byte - context.started
        model = context.model if context.model in service.door.catalogue else "other"
        metrics.request(model, context.stream, context.status, ended - context.started, first, context.usage)


async def _excuse(request: web.Request, service: Service, context: Context, fault: Exception) -> web.StreamResponse:
    """Return what tells the client that its request failed."""
    if isinstance(fault, Failure):
        errors.forget_way(fault)
        _warn(service, context, fault)
        if fault.status == 404:
            _mask(request, context)
        return await _answer_failure(request, context, fault, expose=service.door.expose_routing)
    if isinstance(fault, web.HTTPException):
        _mask(request, context)
        return await _answer_failure(request, context, _from_http(context, fault), allow=fault.headers.get("Allow"))
    log.error("unexpected error in request %s", context.id, exc_info=fault)
    return await _answer_failure(request, context, _bug(context))


def _warn(service: Service, context: Context, failure: Failure) -> None:
    """Tell of the first request that the pool or a limit of the whole server turned away; each line says it of others.

    A client that met a limit of its own is its own affair.
    """
    if isinstance(failure, NoCredential) or (isinstance(failure, Overload) and failure.status == 503):
        # a client may make up any number
        model = context.model if context.model in service.door.catalogue else "other"
        if service.firsts.level("turned away", failure.code or "", model) == logging.WARNING:
            log.warning("request %s is turned away: %s", context.id, failure.message)


def _mask(request: web.Request, context: Context) -> None:
    """Take keys out of a path that nobody knows: it may hold one that was put in the wrong place."""
    context.path = shortened(opening(request.rel_url.raw_path, SEARCHED_PATH))


async def _answer_failure(
    request: web.Request, context: Context, failure: Failure, allow: str | None = None, *, expose: bool = False
) -> web.StreamResponse:
    context.error = failure.code or failure.type
    if failure.attempts:
        context.attempts, context.credential = failure.attempts, failure.credential
        if expose:
            context.headers["x-gemproxy-credential"] = failure.credential
            context.headers["x-gemproxy-attempts"] = str(failure.attempts)
    if context.response is None:
        return error_response(context.api, failure, context.headers, allow, context.id)
    context.status = failure.status
    told = context.failure_event(failure) if context.failure_event is not None else None
    last = context.format.failure_event(failure) if told is None else told
    if not last and request.transport is not None:
        request.transport.abort()  # so that nobody takes what has come for the whole
        raise ConnectionResetError
    await context.response.write(last)
    return context.response


def error_response(
    api: Api, failure: Failure, more: Mapping[str, str], allow: str | None = None, request_id: str = ""
) -> web.Response:
    """Return a failure with its true status; ``more`` are the headers of every answer to its request."""
    reply = api.failure(failure, request_id)
    headers = {**more, **reply.headers}
    response = web.Response(body=reply.body, status=reply.status, headers=headers, content_type=reply.content_type)
    if allow is not None:
        response.headers["Allow"] = allow
    if reply.status == 413:
        response.force_close()  # the rest of the body is not read
    return response


def _bug(context: Context) -> Failure:
    told = f"gemproxy failed on this request; its log tells more under {context.id}."
    return Failure(told, status=500, type="server_error", code="internal_error")


def _from_http(context: Context, http: web.HTTPException) -> Failure:
    match http.status:
        case 404:
            return ClientFault(
                f"Unknown path {context.path!r}; GET / lists the endpoints.",
                status=404,
                code="not_found",
            )
        case 405:
            return ClientFault(f"Method {context.method!r} is not allowed here.", status=405, code="not_found")
        case status if 400 <= status < 500:
            return ClientFault(http.reason or "The request cannot be read.", status=status)
        case _:
            reason = http.reason or "Not available."
            return Failure(reason, status=http.status, type="server_error", code="internal_error")
