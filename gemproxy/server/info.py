"""/, /health, /ready and /models: what the server says about itself. Spends no quota, asks no upstream."""

from __future__ import annotations

import datetime
import math

import msgspec
from aiohttp import web
from msgspec import UNSET

from gemproxy import __version__
from gemproxy.models import Model, bare, retired
from gemproxy.pool.rest import said
from gemproxy.server.keyring import Caller, allow
from gemproxy.server.middleware import JSON
from gemproxy.server.service import Service
from gemproxy.wire.openai import ModelList, ModelOut

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
    return as_json({"status": "ok", "timestamp": _timestamp(service.clock())})


async def ready(request: web.Request, service: Service) -> web.Response:
    """Tell whether a request could be served now; 503 with the reason and the earliest return otherwise."""
    if service.draining:
        return _unready(service, "The server is draining and takes no new requests.", None)
    pool = service.dispatcher.room.rotator.ready(model.id for model in service.catalogue.listed())
    if pool.ok:
        return as_json({"status": "ready", **_state(service), **_refusal(service)})
    if pool.returns_in is None:
        return _unready(service, "Every credential is parked until the operator acts; see /v1/debug/cache.", None)
    wait = said(pool.returns_in, service.clock(), "at")
    return _unready(service, f"Every credential rests; the first returns in {wait}.", pool.returns_in)


def _refusal(service: Service) -> dict[str, str]:
    """Return what tells of a refused reload; the reason may name what not everybody may know, and stands in the log."""
    if service.reload_refused is None:
        return {}
    told = "The reload at {} was refused, an older configuration is in force; the log and `gemproxy check` say why."
    return {"reload": told.format(_timestamp(service.reload_refused))}


async def probe(request: web.Request, service: Service) -> web.Response:
    """Answer HAProxy's default probe (``OPTIONS``)."""
    return web.Response(status=200, headers={"Allow": "GET, HEAD, OPTIONS"})


async def list_models(request: web.Request, service: Service, caller: Caller) -> web.Response:
    """List the catalogue, as far as this caller may use it; what Google no longer serves comes last."""
    catalogue, today = service.catalogue, _timestamp(service.clock())
    named = [(model.id, model) for model in catalogue.listed()]
    named += [(alias, catalogue.lookup(alias)) for alias in catalogue.aliases]
    named.sort(key=lambda one: retired(one[1], today))
    return as_json(
        ModelList([_shown(model, name) for name, model in named if caller.models is None or model.id in caller.models])
    )


async def show_model(request: web.Request, service: Service, caller: Caller) -> web.Response:
    """Show one model; 404 ``model_not_found`` for names of other makers."""
    name, catalogue = request.match_info["id"], service.catalogue
    model = catalogue.lookup(name)
    allow(caller, model.id)
    return as_json(_shown(model, name if name in catalogue.aliases else bare(name)))


def _shown(model: Model, name: str) -> ModelOut:
    return ModelOut(name, model.created, shutdown_date=model.shutdown_date or UNSET)


def _state(service: Service) -> dict[str, str]:
    """Return whether what is learnt outlives the process; no reason to send nobody here."""
    return {"state": "ok" if service.state.health().ok else "lost"}


def _unready(service: Service, reason: str, returns_in: float | None) -> web.Response:
    body = {"status": "unready", "reason": reason, "returns_in": returns_in, **_state(service), **_refusal(service)}
    response = as_json(body, status=503)
    if returns_in is not None:
        response.headers["Retry-After"] = str(math.ceil(returns_in))
    return response


def as_json(value: object, status: int = 200) -> web.Response:
    """Return an answer of these values."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=JSON)


def _timestamp(now: float) -> str:
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
