"""The operators' routes: the pool as it is, and the tests of it. Nothing secret in any answer, whoever asks."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gemproxy.converter.gemini.signatures import SignatureCache
from gemproxy.errors import ClientFault
from gemproxy.models import Catalogue
from gemproxy.operations.checkup import Checkup, Row
from gemproxy.pool.slot import SlotView
from gemproxy.server.auth import Caller, allow
from gemproxy.server.replies import as_json
from gemproxy.server.service import Operations, Pool

DEFAULT_MODEL = "gemini-3.5-flash"  # offered by all three upstreams; 2.5 is on its way out (docs/protocol.md 0.2)
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def cache(pool: Pool, signatures: SignatureCache) -> web.Response:
    """Show a row per credential with its state, its rests and its token; hosts out of reach, the clock, the state."""
    rows = [_row(pool, view) for view in pool.rotator.snapshot()]
    unreachable = pool.lookout.views()
    shown = {"credentials": rows, "signatures": len(signatures), "unreachable": unreachable}
    shown["state"] = pool.state.health()
    shown["clock"] = {"ahead_seconds": round(pool.lookout.skew.ahead, 1), "message": pool.lookout.skew.words}
    return as_json({"status": "ok", **shown})


async def token_test(checkup: Checkup) -> web.Response:
    """Authenticate every credential; 500 if one fails. Spends no model tokens."""
    return _told(await checkup.tokens())


async def full_test(request: web.Request, catalogue: Catalogue, checkup: Checkup, caller: Caller) -> web.Response:
    """Authenticate every credential and ask it for one word; 500 if one fails. ``?model=`` names the model asked."""
    model = catalogue.lookup(request.query.get("model") or _first_model(catalogue, caller))
    allow(caller, model.id)
    return _told(await checkup.full(model.id, caller.models))


async def metrics(operations: Operations) -> web.Response:
    """Show Prometheus' view; 404 where its library is not installed."""
    if operations.metrics is None:
        raise ClientFault("Metrics need the extra: pip install '.[metrics]'.", status=404, code="not_found")
    return web.Response(body=operations.metrics.text(), headers={"Content-Type": METRICS_TYPE})


def _first_model(catalogue: Catalogue, caller: Caller) -> str:
    listed = [model.id for model in catalogue.listed() if caller.models is None or model.id in caller.models]
    if not listed:
        raise ClientFault("The catalogue has none for this key: name a model with ?model=.", param="model")
    return DEFAULT_MODEL if DEFAULT_MODEL in listed else listed[0]


def _row(pool: Pool, view: SlotView) -> dict[str, object]:
    row: dict[str, object] = msgspec.to_builtins(view)
    row["token"] = msgspec.to_builtins(pool.tokens.view(view.name))
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
