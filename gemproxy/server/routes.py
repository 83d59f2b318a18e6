"""Which path leads where, and who may take it. Every JSON endpoint stands under /v1 and the bare path (SPEC 1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from gemproxy.errors import Overload
from gemproxy.server import debug, info
from gemproxy.server.chat import chat_completions
from gemproxy.server.exchange import EXCHANGE
from gemproxy.server.keyring import Caller
from gemproxy.server.service import SERVICE, Service

ForCaller = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]


def add_routes(router: web.UrlDispatcher) -> None:
    """Add every route; ``HEAD`` works wherever ``GET`` does."""
    for path, open_handler in (("/", info.root), ("/health", info.health), ("/ready", info.ready)):
        router.add_get(path, open_handler)
        router.add_options(path, info.probe)
    for base in ("/v1", ""):
        router.add_post(f"{base}/chat/completions", _limited(_known(chat_completions)))
        router.add_get(f"{base}/models", _known(info.list_models))
        router.add_get(f"{base}/models/{{id:.+}}", _known(info.show_model))
        router.add_get(f"{base}/debug/cache", _known(debug.cache, admin=True))
        router.add_post(f"{base}/token-test", _known(debug.token_test, admin=True))
        router.add_post(f"{base}/test", _known(debug.full_test, admin=True))


def _known(handler: ForCaller, *, admin: bool = False) -> Handler:
    """Let known callers in, and hand the caller on."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        keyring = request.app[SERVICE].door.keyring
        caller = keyring.caller(request.headers.get("Authorization"))
        request[EXCHANGE].client = caller.name
        if admin:
            keyring.admin(caller)
        return await handler(request, caller)

    return guarded


def _limited(handler: Handler) -> Handler:
    """Refuse what is beyond ``server.max_requests``, or comes while draining: at once, before a byte is read."""

    async def counted(request: web.Request) -> web.StreamResponse:
        service = request.app[SERVICE]
        _admit(service)
        service.open_requests += 1
        try:
            return await handler(request)
        finally:
            service.open_requests -= 1

    return counted


def _admit(service: Service) -> None:
    if service.draining:
        raise Overload("The server is shutting down; another instance or a later try will serve this.")
    if 0 < service.door.max_requests <= service.open_requests:
        raise Overload(
            f"The server is at its limit of server.max_requests = {service.door.max_requests} open requests."
        )
