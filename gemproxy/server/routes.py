"""Which path leads where, and who may take it.

Every JSON endpoint stands under /v1 and the bare path (docs/architecture.md 14.1).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence, Set
from functools import partial
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

from gemproxy.converter.api import Lookup, Operation
from gemproxy.errors import ClientFault, Draining, Failure, Overload
from gemproxy.server.auth import Caller
from gemproxy.server.body import expect_body, expectation
from gemproxy.server.context import Context
from gemproxy.server.handlers import admin, catalogue, health
from gemproxy.server.handlers.lookup import look_up
from gemproxy.server.handlers.operation import serve
from gemproxy.server.middleware import answer, answering, speaker
from gemproxy.server.origins import check_direct, check_host, preflight
from gemproxy.server.service import Service

_SLASHES, _BASES = re.compile("//+"), re.compile("^(?:/v1)+(?=/|$)")
ForAnybody = Callable[[web.Request, Service], Awaitable[web.StreamResponse]]
ForCaller = Callable[[web.Request, Service, Caller], Awaitable[web.StreamResponse]]


def add_routes(router: web.UrlDispatcher, operations: Sequence[Operation], lookups: Sequence[Lookup] = ()) -> None:
    """Add every route; ``HEAD`` works wherever ``GET`` does."""
    for path, handler in (("/", _root), ("/health", _health), ("/ready", _ready)):
        router.add_get(path, _open(handler), expect_handler=expectation)
        router.add_options(path, _open(_probe), expect_handler=expectation)
    router.add_get("/metrics", _known(_metrics, admin=True), expect_handler=expectation)
    for operation in operations:
        for path in operation.paths:
            router.add_post(path, answering(partial(_operate, operation), operation.api), expect_handler=expectation)
            router.add_options(path, _open(partial(_preflight, {"POST"})), expect_handler=expectation)
    _add_lookups(router, lookups)
    for base in ("/v1", ""):
        router.add_get(f"{base}/models", _known(_list_models), expect_handler=expectation)
        router.add_get(f"{base}/models/{{id:.+}}", _known(_show_model), expect_handler=expectation)
        router.add_get(f"{base}/debug/cache", _known(_cache, admin=True), expect_handler=expectation)
        router.add_post(f"{base}/token-test", _counted(_token_test), expect_handler=expectation)
        router.add_post(f"{base}/test", _counted(_full_test), expect_handler=expectation)
        for path in ("/models", "/models/{id:.+}"):
            router.add_options(base + path, _open(partial(_preflight, {"GET", "HEAD"})), expect_handler=expectation)
    _add_rest(router)


def _add_lookups(router: web.UrlDispatcher, lookups: Sequence[Lookup]) -> None:
    allowed: dict[str, set[str]] = {}
    for lookup in lookups:
        looks = answering(partial(_look_up, lookup), lookup.api)
        for path in lookup.paths:
            for method in ("GET", "HEAD") if lookup.method == "GET" else (lookup.method,):
                router.add_route(method, path, looks, expect_handler=expectation)
                allowed.setdefault(path, set()).add(method)
    for path, methods in allowed.items():
        router.add_options(path, _open(partial(_preflight, methods)), expect_handler=expectation)


def shortcut(server: web.Server, service: Service, operations: Sequence[Operation]) -> None:
    """Let a server take operations past aiohttp's router, which is 2 % of a small request; all else goes its way.

    But for CONNECT: it names no path, and so no route.
    """
    others = server.request_handler
    known = {path: (partial(_operate, each), each.api) for each in operations for path in each.paths if "{" not in path}

    def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        path = request.rel_url.raw_path
        found = known.get(path)
        if found is not None and request.method == "POST" and "Expect" not in request.headers:
            return answer(found[0], service, cast("web.Request", request), found[1])
        if request.method == "CONNECT":
            return answer(_tunnel, service, cast("web.Request", request))
        if not path.startswith("/"):
            return answer(_nowhere, service, cast("web.Request", request))
        if (plain := plain_path(path)) != path:
            url = request.rel_url.with_path(plain, encoded=True, keep_query=True)
            return handle(request.clone(rel_url=url))
        return others(request)

    server.request_handler = handle


def plain_path(path: str) -> str:
    """Return a path as it was meant: base URLs come with a slash too many, or with a /v1 that the client adds again."""
    if "//" in path or path.endswith("/") or path.startswith("/v1/v1"):
        path = _BASES.sub("/v1", _SLASHES.sub("/", path)).rstrip("/") or "/"
    return path


# ---------------------------------------------------------------------------------- what each handler gets to see


def _root(request: web.Request, service: Service) -> Awaitable[web.Response]:
    return health.root()


def _health(request: web.Request, service: Service) -> Awaitable[web.Response]:
    return health.health(service.clock())


def _ready(request: web.Request, service: Service) -> Awaitable[web.Response]:
    return health.ready(service.door, service.pool, service.operations, service.clock(), draining=service.draining)


def _probe(request: web.Request, service: Service) -> Awaitable[web.Response]:
    return health.probe()


def _list_models(request: web.Request, service: Service, caller: Caller) -> Awaitable[web.Response]:
    return catalogue.list_models(
        speaker(request, service), request.rel_url.raw_query_string, service.door.catalogue, service.clock(), caller
    )


def _show_model(request: web.Request, service: Service, caller: Caller) -> Awaitable[web.Response]:
    return catalogue.show_model(speaker(request, service), request.match_info["id"], service.door.catalogue, caller)


def _metrics(request: web.Request, service: Service, caller: Caller) -> Awaitable[web.Response]:
    return admin.metrics(service.operations)


def _cache(request: web.Request, service: Service, caller: Caller) -> Awaitable[web.Response]:
    return admin.cache(service.pool, service.signatures)


def _token_test(request: web.Request, service: Service, caller: Caller) -> Awaitable[web.Response]:
    return admin.token_test(service.operations.checkup)


def _full_test(request: web.Request, service: Service, caller: Caller) -> Awaitable[web.Response]:
    return admin.full_test(request, service.door.catalogue, service.operations.checkup, caller)


# ------------------------------------------------------------------------------------------------- who is let in


def _open(handler: ForAnybody) -> Handler:
    """Let everybody in."""

    async def opened(request: web.Request, service: Service, context: Context) -> web.StreamResponse:
        return await handler(request, service)

    return answering(opened)


def _known(handler: ForCaller, *, admin: bool = False) -> Handler:
    """Let known callers in, and hand the caller on."""

    async def guarded(request: web.Request, service: Service, context: Context) -> web.StreamResponse:
        caller = _caller(request, service, context)
        if admin:
            service.door.auth.admin(caller)
        return await handler(request, service, caller)

    return answering(guarded)


def _counted(handler: ForCaller) -> Handler:
    """Let operators in within limits: what asks upstream counts as a request, whoever asks for it."""

    async def counted(request: web.Request, service: Service, context: Context) -> web.StreamResponse:
        caller = _caller(request, service, context)
        service.door.auth.admin(caller)
        _enter(service, context, caller)
        try:
            return await handler(request, service, caller)
        finally:
            _leave(service, caller)

    return answering(counted)


async def _operate(
    operation: Operation, request: web.Request, service: Service, context: Context
) -> web.StreamResponse:
    """Let known callers in within limits: what is beyond one, or comes after a drain, is refused before it is read."""
    caller = _caller(request, service, context)
    _enter(service, context, caller)
    try:
        if not request.content.is_eof():
            await expect_body(operation, request, service.door)
        return await serve(operation, request, service, context, caller)
    finally:
        _leave(service, caller)


async def _look_up(lookup: Lookup, request: web.Request, service: Service, context: Context) -> web.StreamResponse:
    """Let known callers see what is kept for them; nobody upstream is asked, so it counts for no limit."""
    return await look_up(lookup, request, service, context, _caller(request, service, context))


async def _nowhere(request: web.Request, service: Service, context: Context) -> web.StreamResponse:
    """Refuse what is no path, as the ``*`` of ``OPTIONS``: no pattern of a route has room for it."""
    raise web.HTTPNotFound


async def _tunnel(request: web.Request, service: Service, context: Context) -> web.StreamResponse:
    """Refuse CONNECT; what comes behind it is for another server, and no request to this one."""
    request.protocol.close()
    context.headers["Connection"] = "close"
    raise web.HTTPMethodNotAllowed("CONNECT", {"GET", "HEAD", "OPTIONS", "POST"})


def _enter(service: Service, context: Context, caller: Caller) -> None:
    """Count a request, unless a limit or the end of a drain forbids it; ``_leave`` must follow."""
    if service.refusing or 0 < service.door.max_requests <= service.open_requests:
        raise _overload(service)
    context.headers |= service.client_limits.enter(caller, context.started)
    service.open_requests += 1


def _leave(service: Service, caller: Caller) -> None:
    service.open_requests -= 1
    service.client_limits.leave(caller)


def _caller(request: web.Request, service: Service, context: Context) -> Caller:
    auth = service.door.auth
    if auth.keyless:  # first: no key would help
        check_direct(request.version, request.headers)
        _check_host(request)
    caller = auth.caller(context.api.key(request.headers, request.rel_url.raw_query_string))
    context.client, context.mark = caller.name, caller.mark
    return caller


def _check_host(request: web.Request) -> None:
    host = request.headers.get("Host", "")
    check_host(host)
    if request.host != host:  # a whole URL was asked for, whose host goes before (RFC 9112, 3.2.2)
        check_host(request.url.raw_authority)


def _overload(service: Service) -> Failure:
    if service.refusing:
        return Draining()
    return Overload(f"The server is at its limit of server.max_requests = {service.door.max_requests} open requests.")


async def _preflight(allowed: Set[str], request: web.Request, service: Service) -> web.Response:
    headers = preflight(request.headers.get("Origin"), service.door.cors_origins)
    if not headers:
        raise web.HTTPMethodNotAllowed(request.method, allowed)
    return web.Response(status=204, headers=headers)


def _add_rest(router: web.UrlDispatcher) -> None:
    """Take what no route takes, so that it is answered like all else. Must come last."""
    router.add_route("*", r"/{path:[\s\S]*}", _open(_unknown), expect_handler=expectation)


async def _unknown(request: web.Request, service: Service) -> web.Response:
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        match, methods = await resource.resolve(request)
        if match is None:  # else it is this one
            allowed |= methods
    if "POST" in allowed and request.headers.get("Upgrade", "").lower() == "websocket":
        # any other status keeps Codex trying for seconds; after this one it asks over HTTP at once
        raise ClientFault("Websockets are not offered here: send the request over HTTP.", status=426)
    raise web.HTTPMethodNotAllowed(request.method, allowed) if allowed else web.HTTPNotFound()
