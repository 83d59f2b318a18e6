"""What is kept for a client, as it asks for it: one answer of the state, in the words of the API."""

from __future__ import annotations

from aiohttp import web

from gemproxy.converter.api import JSON, Lookup
from gemproxy.errors import ClientFault
from gemproxy.load.burden import Burden
from gemproxy.server.asking import own_key
from gemproxy.server.auth import Caller
from gemproxy.server.context import Context
from gemproxy.server.handlers.whole import handed_over, whole
from gemproxy.server.service import Service
from gemproxy.server.weight import owner


async def look_up(
    lookup: Lookup, request: web.Request, service: Service, context: Context, caller: Caller
) -> web.Response:
    """Return what is kept; 404 for what is not, or is another client's."""
    burden = service.load.burden(owner(request, caller))
    try:
        body = await _found(lookup, request, service, caller, burden)
        return await handed_over(request, whole(body, JSON), body, service, context, burden.hold)
    finally:
        burden.close()


async def _found(lookup: Lookup, request: web.Request, service: Service, caller: Caller, burden: Burden) -> bytes:
    key = request.match_info["id"]
    value = await service.kept.get(lookup.kind, own_key(caller.name, key))
    if value is None:
        raise ClientFault(f"No {lookup.kind} with this id is kept here.", status=404, code="not_found")
    burden.hold.more(len(value))
    if burden.heavy:
        body = await burden.run(lookup.answer, key, value, request.query)
    else:
        body = lookup.answer(key, value, request.query)
    if lookup.drops:
        service.kept.drop(lookup.kind, own_key(caller.name, key))
    return body
