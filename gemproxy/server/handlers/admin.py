"""The operators' routes: the pool as it is, and the tests of it. Nothing secret in any answer, whoever asks."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gemproxy.errors import ClientFault
from gemproxy.operations.checkup import Row
from gemproxy.pool.slot import SlotView
from gemproxy.server.auth import Caller, allow
from gemproxy.server.replies import as_json
from gemproxy.server.service import Service

DEFAULT_MODEL = "gemini-3.5-flash"  # offered by all three upstreams; 2.5 is on its way out (PROTOCOL 0.2)
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def cache(request: web.Request, service: Service, caller: Caller) -> web.Response:
    """Show a row per credential with its state, its rests and its token; hosts out of reach, the clock, the state."""
    rows = [_row(service, view) for view in service.dispatcher.pool.rotator.snapshot()]
    unreachable = service.lookout.views()
    shown = {"credentials": rows, "signatures": len(service.signatures), "unreachable": unreachable}
    shown["state"] = service.state.health()
    shown["clock"] = {"ahead_seconds": round(service.lookout.skew.ahead, 1), "message": service.lookout.skew.words}
    return as_json({"status": "ok", **shown})


async def token_test(request: web.Request, service: Service, caller: Caller) -> web.Response:
    """Authenticate every credential; 500 if one fails. Spends no model tokens."""
    return _told(await service.checkup.tokens())


async def full_test(request: web.Request, service: Service, caller: Caller) -> web.Response:
    """Authenticate every credential and ask it for one word; 500 if one fails. ``?model=`` names the model asked."""
    model = service.catalogue.lookup(request.query.get("model") or _first_model(service, caller))
    allow(caller, model.id)
    return _told(await service.checkup.full(model.id, caller.models))


async def metrics(request: web.Request, service: Service, caller: Caller) -> web.Response:
    """Show Prometheus' view."""
    return scrape(service)


def scrape(service: Service) -> web.Response:
    """Return the metrics; 404 where their library is not installed."""
    if service.metrics is None:
        raise ClientFault("Metrics need the extra: pip install '.[metrics]'.", status=404, code="not_found")
    return web.Response(body=service.metrics.text(), headers={"Content-Type": METRICS_TYPE})


def _first_model(service: Service, caller: Caller) -> str:
    listed = [model.id for model in service.catalogue.listed() if caller.models is None or model.id in caller.models]
    if not listed:
        raise ClientFault("The catalogue has none for this key: name a model with ?model=.", param="model")
    return DEFAULT_MODEL if DEFAULT_MODEL in listed else listed[0]


def _row(service: Service, view: SlotView) -> dict[str, object]:
    row: dict[str, object] = msgspec.to_builtins(view)
    row["token"] = msgspec.to_builtins(service.tokens.view(view.name))
    return row


def _told(rows: list[Row]) -> web.Response:
    # links that ask a person to open a page are for the operator's terminal alone (`gemproxy check --online`)
    shown = [{key: value for key, value in msgspec.to_builtins(row).items() if key != "link"} for row in rows]
    well = all(row.ok for row in rows)
    body: dict[str, object] = {"status": "ok" if well else "error", "results": shown}
    if not well:
        failed = ", ".join(sorted({row.credential for row in rows if not row.ok}))
        body["error"] = {
            "message": f"These credentials failed: {failed}.",
            "type": "server_error",
            "param": None,
            "code": "credentials_failed",
        }
    return as_json(body, 200 if well else 500)
