"""/models: what may be asked for, as far as a caller may ask for it."""

from __future__ import annotations

from aiohttp import web
from msgspec import UNSET

from gemproxy.models import Catalogue, Model, bare, retired
from gemproxy.server.auth import Caller, allow
from gemproxy.server.replies import as_json, timestamp
from gemproxy.wire.openai_chat import ModelList, ModelOut


async def list_models(catalogue: Catalogue, now: float, caller: Caller) -> web.Response:
    """List the catalogue, as far as this caller may use it; what Google no longer serves comes last."""
    today = timestamp(now)
    named = [(model.id, model) for model in catalogue.listed()]
    named += [(alias, catalogue.lookup(alias)) for alias in catalogue.aliases]
    named.sort(key=lambda one: retired(one[1], today))
    return as_json(
        ModelList([_shown(model, name) for name, model in named if caller.models is None or model.id in caller.models])
    )


async def show_model(name: str, catalogue: Catalogue, caller: Caller) -> web.Response:
    """Show one model; 404 ``model_not_found`` for names of other makers."""
    model = catalogue.lookup(name)
    allow(caller, model.id)
    return as_json(_shown(model, name if name in catalogue.aliases else bare(name)))


def _shown(model: Model, name: str) -> ModelOut:
    return ModelOut(name, model.created, shutdown_date=model.shutdown_date or UNSET)
