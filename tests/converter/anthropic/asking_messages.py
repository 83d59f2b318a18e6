"""Requests of Messages, read and converted as the server does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gemproxy.converter.anthropic.operation import read
from gemproxy.converter.api import Known, Options, Plan, Received, Settled
from gemproxy.converter.gemini.signatures import Signatures
from gemproxy.load.effort import Effort
from gemproxy.models import Catalogue
from gemproxy.simulator.model import PIXEL
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.dialect import Token
from gemproxy.wire.gemini import Blob

PLAIN: dict[str, Any] = {
    "model": "gemini-2.5-flash-lite",
    "max_tokens": 1_000,
    "messages": [{"role": "user", "content": "Hi"}],
}


def plan_of(sent: Mapping[str, Any], *, signatures: Signatures | None = None, options: Options | None = None) -> Plan:
    """Return the plan for a request, of which ``PLAIN`` is what it leaves out; every remote image is there."""
    options = options or Options()
    asked = read(Received(msgspec.json.encode(PLAIN | {**sent}), {}, "/v1/messages"), options)
    known = Known("m1", 1_800_000_000, lambda: "x", signatures=signatures, options=options)
    while (wants := asked.wants(known)) is not None:
        known.images = {image.url: Blob("image/png", PIXEL) for image in wants.images}
    model = Catalogue().lookup(asked.model)
    return asked.plan(known, Settled(model, asked.model, bool(asked.stream), Effort(options.max_schema_nodes)))


def body_of(sent: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """Return what AI Studio would be sent."""
    [call] = plan_of(sent, **known).calls
    asked = AiStudio("http://127.0.0.1:9", "test").ask(call, Token("fake"), 0.0)
    found: dict[str, Any] = msgspec.json.decode(asked.body)
    return found


def contents_of(*messages: Any, **known: Any) -> list[dict[str, Any]]:
    """Return the contents that messages become."""
    found: list[dict[str, Any]] = body_of({"messages": list(messages)}, **known)["contents"]
    return found
