"""Requests of Responses, read and converted as the server does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gemproxy.converter.api import Known, Options, Plan, Received, Settled
from gemproxy.converter.gemini.signatures import Signatures
from gemproxy.converter.responses.operation import read
from gemproxy.load.effort import Effort
from gemproxy.models import Catalogue
from gemproxy.wire.gemini import Blob

PICTURE = "iVBORw0KGgoAAAANSUhEUgAA"


def plan_of(
    sent: Mapping[str, Any],
    *,
    signatures: Signatures | None = None,
    stored: Mapping[tuple[str, str], bytes] | None = None,
    options: Options | None = None,
) -> Plan:
    """Return the plan for a request; every remote image is there, and of the state only what is ``stored``."""
    options = options or Options()
    asked = read(Received(msgspec.json.encode({"model": "gemini-3.5-flash", **sent}), {}, "/v1/responses"), options)
    known = Known("r1", 1_800_000_000, lambda: "x", signatures=signatures, options=options)
    while (wants := asked.wants(known)) is not None:
        known.stored |= {key: (stored or {}).get(key) for key in wants.stored}
        if wants.images:
            known.images = {image.url: Blob("image/png", PICTURE) for image in wants.images}
    effort = Effort(options.max_schema_nodes)
    return asked.plan(known, Settled(Catalogue().lookup(asked.model), asked.model, bool(asked.stream), effort))


def body_of(sent: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """Return what Gemini is asked, without the thinking config and what was left out."""
    [call] = plan_of(sent, **known).calls
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(call.body))
    return {key: value for key, value in body.items() if value is not None}


def contents_of(*items: Any, **known: Any) -> list[dict[str, Any]]:
    """Return the contents that items become."""
    found: list[dict[str, Any]] = body_of({"input": list(items)}, **known)["contents"]
    return found
