"""What a response repeats of its request, in the form of OpenAI's schema. Pure."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from gemproxy.converter.responses.reading import Asking
from gemproxy.converter.steps import Reader
from gemproxy.wire.openai_responses import Echo, ReasoningEcho, SentTool

_json: Final = msgspec.json.Encoder().encode
_TEXT_FORMAT: Final = Raw(b'{"type":"text"}')


class FunctionEcho(Struct):
    name: str
    parameters: Raw
    strict: bool
    description: str | None
    type: str = "function"


class _SentText(Struct):
    format: Raw = Raw(b"null")
    verbosity: str | None = None


class _TextEcho(Struct):
    format: Raw
    verbosity: str | UnsetType = UNSET


_reader: Final = Reader({})
_sent_tool = msgspec.json.Decoder(SentTool).decode
_text = msgspec.json.Decoder(_SentText).decode


def echo_of(asking: Asking) -> bytes:
    """Return the object that a response repeats; what was not said has OpenAI's default."""
    request = asking.request
    said: dict[str, Any] = {name: value for name in _SAME if (value := getattr(request, name)) is not None}
    if bytes(request.tool_choice) != b"null":
        said["tool_choice"] = request.tool_choice
    if tools := _reader.items("tools", request.tools):
        said["tools"] = Raw(b"[%b]" % b",".join(map(_tool, count(), tools)))
    if request.metadata:
        said["metadata"] = Raw(_json(request.metadata))
    if request.reasoning is not None:
        said["reasoning"] = ReasoningEcho(
            request.reasoning.effort, request.reasoning.summary or request.reasoning.generate_summary
        )
    if request.top_logprobs is not None:
        said["top_logprobs"] = int(request.top_logprobs)
    if bytes(request.text) != b"null":
        text = _reader.at("text", _text, request.text)
        form = text.format if bytes(text.format) != b"null" else _TEXT_FORMAT
        said["text"] = Raw(_json(_TextEcho(form, text.verbosity or UNSET)))
    return _json(Echo(instructions=asking.instructions, **said))


_SAME: Final = (
    *("parallel_tool_calls", "max_output_tokens", "max_tool_calls", "previous_response_id", "prompt_cache_key"),
    *("safety_identifier", "service_tier", "store", "temperature", "top_p", "truncation", "user"),
)


def _tool(place: int, raw: Raw) -> bytes:
    tool = _reader.at(f"tools[{place}]", _sent_tool, raw)  # a request for a summary offers none, so none was read
    if tool.type != "function":
        return bytes(raw)
    parameters = tool.parameters if len(tool.parameters) else Raw(b"null")
    return _json(FunctionEcho(tool.name, parameters, tool.strict is not False, tool.description))
