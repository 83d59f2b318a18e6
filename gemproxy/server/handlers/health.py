"""/, /health and /ready: how the server is. Spends no quota, asks no upstream."""

from __future__ import annotations

import math
from collections.abc import Mapping

from aiohttp import web
from msgspec.structs import replace

from gemproxy import __version__
from gemproxy.pool.cooldown import said
from gemproxy.server.replies import as_json, timestamp
from gemproxy.server.service import Door, Operations, Pool

ENDPOINTS = {
    "chat_completions": "/v1/chat/completions",
    "responses": {
        "create": "/v1/responses",
        "input_tokens": "/v1/responses/input_tokens",
        "compact": "/v1/responses/compact",
        "kept": "/v1/responses/{id}",
        "input_items": "/v1/responses/{id}/input_items",
        "cancel": "/v1/responses/{id}/cancel",
    },
    "messages": {"create": "/v1/messages", "count_tokens": "/v1/messages/count_tokens"},
    "models": "/v1/models",
    "health": "/health",
    "ready": "/ready",
    "metrics": "/metrics",
    "debug": {"cache": "/v1/debug/cache", "token_test": "/v1/token-test", "full_test": "/v1/test"},
}


async def root() -> web.Response:
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


async def health(now: float) -> web.Response:
    """Tell that the loop runs, and nothing more."""
    return as_json({"status": "ok", "timestamp": timestamp(now)})


async def ready(door: Door, pool: Pool, operations: Operations, now: float, *, draining: bool) -> web.Response:
    """Tell whether a request could be served now; 503 with the reason and the earliest return otherwise.

    What is wrong without being the end of it is told, too.
    """
    troubles = _troubles(pool, operations)
    if draining:
        return _unready("The server is draining and takes no new requests.", None, troubles)
    models = [model.id for model in door.catalogue.listed()]
    found = pool.rotator.ready(models)
    if found.ok and not pool.rotator.ready(models, _barred(door, pool)).ok:
        hosts = "; ".join(f"{view.host}: {view.message}" for view in pool.lookout.views() if view.out)
        return _unready(f"No credential that is ready can reach its upstream ({hosts}).", None, troubles)
    if found.ok:
        return as_json({"status": "ready", **troubles})
    if found.returns_in is None:
        reason = "Every credential is parked until the operator acts; see /v1/debug/cache."
        return _unready(reason, None, troubles)
    wait = said(found.returns_in, now, "at")
    return _unready(f"Every credential rests; the first returns in {wait}.", found.returns_in, troubles)


def _troubles(pool: Pool, operations: Operations) -> dict[str, object]:
    """Return what an operator should know, whether or not requests can be served; nothing that not everybody may."""
    told: dict[str, object] = {"state": "ok" if pool.state.health().ok else "lost"}
    if unreachable := [replace(view, detail="") for view in pool.lookout.views()]:
        told["unreachable"] = unreachable
    if clock := pool.lookout.skew.words:
        told["clock"] = clock
    if operations.reload_refused is not None:
        about = (
            "The reload at {} was refused, an older configuration is in force; the log and `gemproxy check` say why."
        )
        told["reload"] = about.format(timestamp(operations.reload_refused))
    return told


def _barred(door: Door, pool: Pool) -> set[str]:
    """Return the credentials that are of no use while some hosts cannot be reached."""
    bars, tokens = pool.lookout.reach.bars, pool.tokens
    return {slot for slot, need in door.needs.items() if bars(need, token_at_hand=tokens.view(slot).cached)}


async def probe() -> web.Response:
    """Answer HAProxy's default probe (``OPTIONS``)."""
    return web.Response(status=200, headers={"Allow": "GET, HEAD, OPTIONS"})


def _unready(reason: str, returns_in: float | None, troubles: Mapping[str, object]) -> web.Response:
    body = {"status": "unready", "reason": reason, "returns_in": returns_in, **troubles}
    response = as_json(body, status=503)
    if returns_in is not None:
        response.headers["Retry-After"] = str(math.ceil(returns_in))
    return response
