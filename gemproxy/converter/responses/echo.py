"""What a response repeats of its request, in the form of OpenAI's schema. Pure."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from gemproxy.converter.responses.reading import Asking
from gemproxy.converter.steps import Reader
from gemproxy.wire.openai_responses import Echo, ReasoningEcho, SentReasoningConfig, SentTool

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


_NULL: Final = Raw(b"null")
_ECHO: Final = Echo()
_reader: Final = Reader({})
_sent_tools = msgspec.json.Decoder(list[SentTool] | None).decode
_text = msgspec.json.Decoder(_SentText).decode


def echo_of(asking: Asking) -> bytes:
    """Return the object that a response repeats; what was not said has OpenAI's default. Raises ``ClientFault``."""
    request = asking.request
    # in the order of the fields, each by itself: to gather what was said and to spread it out takes as long again
    echo = _json(
        Echo(
            _tools(request.tools) if len(request.tools) else _ECHO.tools,
            request.tool_choice if request.tool_choice != _NULL else _ECHO.tool_choice,
            request.parallel_tool_calls is not False,
            False,
            asking.instructions,
            request.max_output_tokens,
            request.max_tool_calls,
            Raw(_json(request.metadata)) if request.metadata else _ECHO.metadata,
            request.previous_response_id,
            request.prompt_cache_key,
            _reasoning(request.reasoning) if request.reasoning is not None else _ECHO.reasoning,
            request.safety_identifier,
            request.service_tier if request.service_tier is not None else _ECHO.service_tier,
            request.store is not False,
            request.temperature if request.temperature is not None else _ECHO.temperature,
            _text_echo(request.text) if request.text != _NULL else _ECHO.text,
            int(request.top_logprobs) if request.top_logprobs is not None else _ECHO.top_logprobs,
            request.top_p if request.top_p is not None else _ECHO.top_p,
            request.truncation if request.truncation is not None else _ECHO.truncation,
            request.user,
        )
    )
    return bytes(memoryview(echo))  # it stays for long, and the encoder leaves up to half as much room behind it


def _tools(raw: Raw) -> Raw:
    tools = _reader.at("tools", _sent_tools, raw) or []
    if all(tool.type == "function" for tool in tools):
        return Raw(_json(list(map(_function, tools))))
    raws = _reader.items("tools", raw)  # those that are not known here stay as they are
    return Raw(
        _json([_function(tool) if tool.type == "function" else each for tool, each in zip(tools, raws, strict=True)])
    )


def _function(tool: SentTool) -> FunctionEcho:
    parameters = tool.parameters if len(tool.parameters) else _NULL
    return FunctionEcho(tool.name, parameters, tool.strict is not False, tool.description)


def _reasoning(said: SentReasoningConfig) -> ReasoningEcho:
    return ReasoningEcho(said.effort, said.summary or said.generate_summary)


def _text_echo(raw: Raw) -> Raw:
    text = _reader.at("text", _text, raw)
    return Raw(_json(_TextEcho(text.format if text.format != _NULL else _TEXT_FORMAT, text.verbosity or UNSET)))
