"""Requests in, Gemini bodies out: what the tests of the converter say everything with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from gemproxy.converter.api import Options
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import Conversion, to_call
from gemproxy.converter.gemini.signatures import SignatureLookup
from gemproxy.errors import ClientFault
from gemproxy.models import Catalogue, Model
from gemproxy.wire.gemini import Blob

USER = [{"role": "user", "content": "Hi"}]
PNG = "iVBORw0KGgoAAAANSUhEUg=="  # the first bytes of one
JPEG = "/9j/4AAQSkZJRgABAQ=="


def plan(
    model: str | Model = "gemini-3.8-flash",
    *,
    images: Mapping[str, Blob] | None = None,
    signatures: SignatureLookup | None = None,
    options: Options | None = None,
    stream: bool = False,
    **fields: Any,
) -> Conversion:
    """Return the plan for a request with these fields; ``messages`` default to one of the user."""
    record = model if isinstance(model, Model) else Catalogue().lookup(model)
    request = decode(msgspec.json.encode({"model": record.id, "messages": USER, **fields}))
    return to_call(request, record, images or {}, signatures, options or Options(), stream)


def body(model: str | Model = "gemini-3.8-flash", **fields: Any) -> dict[str, Any]:
    """Return the Gemini body as it would be written."""
    return msgspec.json.decode(msgspec.json.encode(plan(model, **fields).call.body))


def config(model: str | Model = "gemini-3.8-flash", **fields: Any) -> dict[str, Any]:
    """Return the generation config without what is asked of thinking."""
    found = body(model, **fields).get("generationConfig", {})
    return {name: value for name, value in found.items() if name != "thinkingConfig"}


def thinking(model: str | Model, **fields: Any) -> dict[str, Any] | None:
    """Return the thinking config, None if nothing is said."""
    return body(model, **fields).get("generationConfig", {}).get("thinkingConfig")


def contents(*messages: dict[str, Any], model: str | Model = "gemini-3.8-flash", **given: Any) -> list[Any]:
    """Return the contents of a conversation, each as (role, parts)."""
    return [(item["role"], item["parts"]) for item in body(model, messages=list(messages), **given)["contents"]]


def refused(model: str | Model = "gemini-3.8-flash", **fields: Any) -> ClientFault:
    """Return the fault that a request ends in."""
    with pytest.raises(ClientFault) as caught:
        plan(model, **fields)
    return caught.value


def function(name: str = "f", parameters: Any = None, **fields: Any) -> dict[str, Any]:
    """Return a function as ``tools`` holds it."""
    given = {"parameters": parameters} if parameters is not None else {}
    return {"type": "function", "function": {"name": name, **given, **fields}}


def call(call_id: str | None, name: str = "f", arguments: Any = "{}", **fields: Any) -> dict[str, Any]:
    """Return a call as an assistant message holds it."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **fields}


def asks(*calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return an assistant message with calls."""
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


def gives(call_id: str | None, content: Any = "ok", **fields: Any) -> dict[str, Any]:
    """Return a tool message."""
    return {"role": "tool", "tool_call_id": call_id, "content": content, **fields}
