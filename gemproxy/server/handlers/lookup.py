"""What is kept for a client, as it asks for it: one answer of the state, in the words of the API."""

from __future__ import annotations

from aiohttp import web

from gemproxy.converter.api import Lookup
from gemproxy.errors import ClientFault
from gemproxy.server.asking import own_key
from gemproxy.server.auth import Caller
from gemproxy.server.service import Service


async def look_up(lookup: Lookup, request: web.Request, service: Service, caller: Caller) -> web.Response:
    """Return what is kept; 404 for what is not, or is another client's."""
    key = request.match_info["id"]
    value = await service.kept.get(lookup.kind, own_key(caller.name, key))
    if value is None:
        raise ClientFault(f"No {lookup.kind} with this id is kept here.", status=404, code="not_found")
    body = lookup.answer(key, value, request.query)
    if lookup.drops:
        service.kept.drop(lookup.kind, own_key(caller.name, key))
    return web.Response(body=body, content_type="application/json")
