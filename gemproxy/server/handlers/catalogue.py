"""/models: what may be asked for, as far as a caller may ask for it."""

from __future__ import annotations

from aiohttp import web

from gemproxy.converter.api import Api
from gemproxy.models import Catalogue, bare, retired
from gemproxy.server.auth import Caller, allow
from gemproxy.server.replies import JSON, timestamp


async def list_models(api: Api, query: str, catalogue: Catalogue, now: float, caller: Caller) -> web.Response:
    """List the catalogue, as far as this caller may use it; what Google no longer serves comes last."""
    today = timestamp(now)
    named = [(model.id, model) for model in catalogue.listed()]
    named += [(alias, catalogue.lookup(alias)) for alias in catalogue.aliases]
    named.sort(key=lambda one: retired(one[1], today))
    shown = [one for one in named if caller.models is None or one[1].id in caller.models]
    return web.Response(body=api.model_list(shown, query), content_type=JSON)


async def show_model(api: Api, name: str, catalogue: Catalogue, caller: Caller) -> web.Response:
    """Show one model; 404 ``model_not_found`` for names of other makers."""
    model = catalogue.lookup(name)
    allow(caller, model.id)
    return web.Response(body=api.model(name if name in catalogue.aliases else bare(name), model), content_type=JSON)
