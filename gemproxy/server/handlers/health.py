"""/, /health and /ready: how the server is. Spends no quota, asks no upstream."""

from __future__ import annotations

import math

from aiohttp import web
from msgspec.structs import replace

from gemproxy import __version__
from gemproxy.pool.cooldown import said
from gemproxy.server.replies import as_json, timestamp
from gemproxy.server.service import Service

ENDPOINTS = {
    "chat_completions": "/v1/chat/completions",
    "models": "/v1/models",
    "health": "/health",
    "ready": "/ready",
    "metrics": "/metrics",
    "debug": {"cache": "/v1/debug/cache", "token_test": "/v1/token-test", "full_test": "/v1/test"},
}


async def root(request: web.Request, service: Service) -> web.Response:
    """Describe the service; open to everybody."""
    return as_json(
        {
            "name": "gemproxy",
            "description": "The OpenAI API in front of Google's Gemini",
            "version": __version__,
            "authentication": {
                "required": True,  # without auth.keys any bearer token will do, on loopback, but there must be one
                "type": "Bearer token in Authorization header",
            },
            "endpoints": ENDPOINTS,
            "documentation": "README.md",  # of the tree it was installed from
        }
    )


async def health(request: web.Request, service: Service) -> web.Response:
    """Tell that the loop runs, and nothing more."""
    return as_json({"status": "ok", "timestamp": timestamp(service.clock())})


async def ready(request: web.Request, service: Service) -> web.Response:
    """Tell whether a request could be served now; 503 with the reason and the earliest return otherwise.

    What is wrong without being the end of it is told, too.
    """
    if service.draining:
        return _unready(service, "The server is draining and takes no new requests.", None)
    models, rotator = [model.id for model in service.catalogue.listed()], service.dispatcher.pool.rotator
    pool = rotator.ready(models)
    if pool.ok and not rotator.ready(models, _barred(service)).ok:
        hosts = "; ".join(f"{view.host}: {view.message}" for view in service.lookout.views() if view.out)
        return _unready(service, f"No credential that is ready can reach its upstream ({hosts}).", None)
    if pool.ok:
        return as_json({"status": "ready", **_troubles(service)})
    if pool.returns_in is None:
        return _unready(service, "Every credential is parked until the operator acts; see /v1/debug/cache.", None)
    wait = said(pool.returns_in, service.clock(), "at")
    return _unready(service, f"Every credential rests; the first returns in {wait}.", pool.returns_in)


def _troubles(service: Service) -> dict[str, object]:
    """Return what an operator should know, whether or not requests can be served; nothing that not everybody may."""
    told: dict[str, object] = {"state": "ok" if service.state.health().ok else "lost"}
    if unreachable := [replace(view, detail="") for view in service.lookout.views()]:
        told["unreachable"] = unreachable
    if clock := service.lookout.skew.words:
        told["clock"] = clock
    if service.reload_refused is not None:
        about = (
            "The reload at {} was refused, an older configuration is in force; the log and `gemproxy check` say why."
        )
        told["reload"] = about.format(timestamp(service.reload_refused))
    return told


def _barred(service: Service) -> set[str]:
    """Return the credentials that are of no use while some hosts cannot be reached."""
    bars, tokens = service.lookout.reach.bars, service.tokens
    return {slot for slot, need in service.needs.items() if bars(need, token_at_hand=tokens.view(slot).cached)}


async def probe(request: web.Request, service: Service) -> web.Response:
    """Answer HAProxy's default probe (``OPTIONS``)."""
    return web.Response(status=200, headers={"Allow": "GET, HEAD, OPTIONS"})


def _unready(service: Service, reason: str, returns_in: float | None) -> web.Response:
    body = {"status": "unready", "reason": reason, "returns_in": returns_in, **_troubles(service)}
    response = as_json(body, status=503)
    if returns_in is not None:
        response.headers["Retry-After"] = str(math.ceil(returns_in))
    return response
