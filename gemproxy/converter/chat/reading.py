"""The bytes of an OpenAI chat request -> ``ChatRequest``. Pure.

In: a body. Out: the request, or ``ClientFault`` (400) naming the field in ``param``. Must not repeat what the client
wrote in a message: only the path of a field, never its content.

A large body is read in short steps (``steps``): its outline, then message by message and part by part; long texts stay
as they are. How many things it may hold is settled before any of them becomes an object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import force_setattr, replace

from gemproxy.converter.bounds import BOUNDS, Bounds
from gemproxy.converter.gemini.tools import MAX_TOOLS
from gemproxy.converter.steps import LARGEST_STEP, Kind, Reader, as_read, bound, without_lists
from gemproxy.errors import ClientFault
from gemproxy.load import weigh
from gemproxy.wire import UNREADABLE
from gemproxy.wire.large_request import (
    LargeFunction,
    LargeMessage,
    LargePart,
    LargeRefusalPart,
    LargeTextPart,
    LargeToolCall,
    Outline,
)
from gemproxy.wire.long_request import LongChatRequest
from gemproxy.wire.openai_chat import (
    AssistantMessage,
    ChatRequest,
    Content,
    ContentPart,
    FunctionSpec,
    LogitBias,
    Message,
    SentFunction,
    SentImage,
    SentToolCall,
    Tool,
    Unread,
)
from gemproxy.wire.text import LONG_TEXT, check_encoding, is_long

NO_BIAS = Raw(b"null")
MAX_BIAS = 1 << 16  # bytes; some thousand tokens, many times what OpenAI takes
_UNREAD_FIELDS = ("metadata", "audio", "web_search_options")  # passed over in a moment, whatever they hold
_BRACKET = ord("[")
_LIST_FIELDS = ("messages", "tools", "functions")
_CHOICES = {
    "role": "system, developer, user, assistant, tool or function",
    "type": "text, image_url, input_audio, file, video_url or refusal",
}
_reader = Reader(_CHOICES)

SMALLEST_ITEM = 3  # bytes of a message, a part or a call, with its comma: of a few there are never too many

_decode = msgspec.json.Decoder(ChatRequest).decode
_decode_bias = msgspec.json.Decoder(LogitBias).decode
_decode_long = msgspec.json.Decoder(LongChatRequest).decode
_outline: Callable[[bytes], Any] = msgspec.json.Decoder(Outline).decode
_some_objects = msgspec.json.Decoder(list[Unread]).decode  # to count them, at a third of the cost
_some_items = msgspec.json.Decoder(list[Raw]).decode
_content = msgspec.json.Decoder(Content).decode
_function = msgspec.json.Decoder(LargeFunction | None).decode
_arguments = msgspec.json.Decoder(str | dict[str, Any] | None).decode


_MESSAGES, _PARTS = Kind(Message, LargeMessage), Kind(ContentPart, LargePart)
_CALLS, _IMAGES = Kind(SentToolCall, LargeToolCall), Kind(SentImage)
_TOOLS, _FUNCTIONS = Kind(Tool), Kind(FunctionSpec)


def decode(body: bytes, bounds: Bounds = BOUNDS) -> ChatRequest:
    """Return the request; raises ``ClientFault`` (400) naming the field in ``param``, or with code ``invalid_json``."""
    asked = _Reading(bounds).request(body) if len(body) > LARGEST_STEP else _small(body)
    if len(body) > SMALLEST_ITEM * min(bounds.messages, bounds.parts, bounds.calls):
        _count(asked.messages, bounds)
    return asked


def _small(body: bytes) -> ChatRequest:
    try:  # nearly always, without the detours by which a fault is named
        return _checked(body, _decode if len(body) < LONG_TEXT else _decode_long)
    except UNREADABLE:
        return _reader.at("", _checked, body)


def _judged(asked: ChatRequest) -> ChatRequest:
    """Look at the types in ``logit_bias``, of which nothing else is used; a long one is refused unread."""
    bias = asked.logit_bias
    if bias != NO_BIAS:
        if len(bias) > MAX_BIAS:
            raise ClientFault(
                f"logit_bias may be at most {MAX_BIAS} bytes long.", param="logit_bias", code="unsupported_value"
            )
        _decode_bias(b'{"logit_bias":%b}' % bytes(bias))
    return asked


def _checked(body: Any, read: Callable[[bytes], ChatRequest] = _decode) -> ChatRequest:
    if not body.isascii():
        body.decode()  # the decoder passes over ignored fields without looking at their encoding
    asked = read(body)
    return asked if asked.logit_bias == NO_BIAS else _judged(asked)


class _Reading:
    """One large body being read; refuses a list of too many before any of it is made."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def request(self, body: bytes) -> ChatRequest:
        if not body.isascii():
            _reader.at("", check_encoding, body)
        outline = _reader.at("", _outline, body)
        asked = _reader.at(
            "", lambda rest: _judged(_decode(rest)), without_lists(outline, _LIST_FIELDS, _UNREAD_FIELDS)
        )
        found = _reader.at("messages", _some_objects, outline.messages)
        bound("messages", "messages", len(found), self._bounds.messages)
        raws = _reader.at("messages", _some_items, outline.messages)
        messages = _reader.each("messages", raws, _MESSAGES, self._message)
        # one too many is enough for the converter to refuse them
        tools = _reader.each("tools", _reader.items("tools", outline.tools)[: MAX_TOOLS + 1], _TOOLS, as_read)
        functions = _reader.items("functions", outline.functions)[: MAX_TOOLS + 1]
        functions = _reader.each("functions", functions, _FUNCTIONS, as_read)
        return replace(asked, messages=messages, tools=tools or None, functions=functions or None)

    def _message(self, path: str, message: Any) -> Any:
        """Read what was left of a large message."""
        force_setattr(message, "content", self._content(f"{path}.content", message.content))
        if isinstance(message, AssistantMessage):
            self._assistant(path, message)
        return message

    def _assistant(self, path: str, message: Any) -> None:
        _reader.settle_text(path, message, "refusal")
        calls = _reader.bounded(f"{path}.tool_calls", message.tool_calls, "calls", self._bounds.calls)
        images = _reader.bounded(f"{path}.images", message.images, "parts", self._bounds.parts)
        function = _reader.at(f"{path}.function_call", _function, message.function_call)
        force_setattr(message, "tool_calls", _reader.each(f"{path}.tool_calls", calls, _CALLS, _sent_call) or None)
        force_setattr(message, "images", _reader.each(f"{path}.images", images, _IMAGES, as_read) or None)
        force_setattr(message, "function_call", _settled(f"{path}.function_call", function))

    def _content(self, path: str, raw: Raw) -> Any:
        if is_long(raw):
            return raw
        if len(raw) <= weigh.SMALL_SIZE or memoryview(raw)[0] != _BRACKET:
            return _reader.at(path, _content, raw)
        return _reader.each(path, _reader.bounded(path, raw, "parts", self._bounds.parts), _PARTS, _part)


def _part(path: str, part: Any) -> Any:
    if isinstance(part, LargeTextPart):
        _reader.settle_text(path, part, "text")
    elif isinstance(part, LargeRefusalPart):
        _reader.settle_text(path, part, "refusal")
    return part


def _sent_call(path: str, call: Any) -> Any:
    _settled(f"{path}.function", call.function)
    if call.custom is not None:
        _reader.settle_text(f"{path}.custom", call.custom, "input")
    return call


def _settled(path: str, function: LargeFunction | None) -> SentFunction | None:
    """Read arguments that are short; long ones stay as they are, be they a text or an object."""
    if function is not None and not _is_kept(function.arguments):
        force_setattr(function, "arguments", _reader.at(f"{path}.arguments", _arguments, function.arguments))
    return function


def _is_kept(arguments: Any) -> bool:
    return len(arguments) >= LONG_TEXT and memoryview(arguments)[0] in b'"{'


def _count(messages: Sequence[Message], bounds: Bounds) -> None:
    """Raise ``ClientFault`` for more than an honest client sends: each costs the conversion, of however few bytes."""
    parts = calls = 0
    for message in messages:
        if isinstance(message.content, list):
            parts += len(message.content)
        if isinstance(message, AssistantMessage):
            parts += len(message.images or ())
            calls += len(message.tool_calls or ()) or (message.function_call is not None)
    bound("messages", "messages", len(messages), bounds.messages)
    bound("messages", "parts", parts, bounds.parts)
    bound("messages", "calls", calls, bounds.calls)
