"""The bytes of an OpenAI chat request -> ``ChatRequest``. Pure.

In: a body. Out: the request, or ``ClientFault`` (400) naming the field in ``param``. Must not repeat what the client
wrote in a message: only the path of a field, never its content.

A decoder keeps every other thread waiting until it is done. A large body is therefore read in steps, each of which is
short: its outline, then message by message and part by part; long texts stay as they are. How many things it may hold
is settled before any of them becomes an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import force_setattr, replace

from gemproxy.converter.bounds import BOUNDS, Bounds
from gemproxy.converter.gemini.tools import MAX_TOOLS
from gemproxy.errors import ClientFault
from gemproxy.load import weigh
from gemproxy.load.turns import go_on, pass_turn
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

T = TypeVar("T")

LARGEST_STEP = 1 << 19  # bytes; a body up to here is decoded in one go, in 15 ms at the worst
MAX_FIELD = 1 << 19  # bytes of any field that is read and no list; twice the largest schema (``schema``)
NO_BIAS = Raw(b"null")
MAX_BIAS = 1 << 16  # bytes; some thousand tokens, many times what OpenAI takes
_UNREAD_FIELDS = ("metadata", "audio", "web_search_options")  # passed over in a moment, whatever they hold
_BRACKET = ord("[")
_LIST_FIELDS = ("messages", "tools", "functions")
_FIELDS = Outline.__struct_fields__
_PLACE = " - at `"  # in msgspec's sentences
_MISSING_FIELD = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_CHOICES = {
    "role": "system, developer, user, assistant, tool or function",
    "type": "text, image_url, input_audio, file, video_url or refusal",
}


SMALLEST_ITEM = 3  # bytes of a message, a part or a call, with its comma: of a few there are never too many

_decode = msgspec.json.Decoder(ChatRequest).decode
_decode_bias = msgspec.json.Decoder(LogitBias).decode
_decode_long = msgspec.json.Decoder(LongChatRequest).decode
_outline: Callable[[bytes], Any] = msgspec.json.Decoder(Outline).decode
_items = msgspec.json.Decoder(list[Raw] | None).decode
_some_objects = msgspec.json.Decoder(list[Unread]).decode  # to count them, at a third of the cost
_objects = msgspec.json.Decoder(list[Unread] | None).decode
_some_items = msgspec.json.Decoder(list[Raw]).decode
_content = msgspec.json.Decoder(Content).decode
_text = msgspec.json.Decoder(str | None).decode
_function = msgspec.json.Decoder(LargeFunction | None).decode
_arguments = msgspec.json.Decoder(str | dict[str, Any] | None).decode


class _Kind:
    """One kind of thing that a request may hold many of: how to read one, many, and one that is large itself."""

    def __init__(self, kind: Any, large: Any = None) -> None:
        self.one = msgspec.json.Decoder(kind).decode
        self.many = msgspec.json.Decoder(list[kind]).decode
        self.large = msgspec.json.Decoder(large or kind).decode


_MESSAGES, _PARTS = _Kind(Message, LargeMessage), _Kind(ContentPart, LargePart)
_CALLS, _IMAGES = _Kind(SentToolCall, LargeToolCall), _Kind(SentImage)
_TOOLS, _FUNCTIONS = _Kind(Tool), _Kind(FunctionSpec)


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
        return _read("", _checked, body)


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
            _read("", check_encoding, body)
        outline = _read("", _outline, body)
        asked = _read("", lambda rest: _judged(_decode(rest)), _without_lists(outline))
        _bound("messages", len(_read("messages", _some_objects, outline.messages)), self._bounds.messages)
        raws = _read("messages", _some_items, outline.messages)
        messages = _each("messages", raws, _MESSAGES, self._message)
        # one too many is enough for the converter to refuse them
        tools = _each("tools", _list("tools", outline.tools)[: MAX_TOOLS + 1], _TOOLS, _as_read)
        functions = _each("functions", _list("functions", outline.functions)[: MAX_TOOLS + 1], _FUNCTIONS, _as_read)
        return replace(asked, messages=messages, tools=tools or None, functions=functions or None)

    def _message(self, path: str, message: Any) -> Any:
        """Read what was left of a large message."""
        force_setattr(message, "content", self._content(f"{path}.content", message.content))
        if isinstance(message, AssistantMessage):
            self._assistant(path, message)
        return message

    def _assistant(self, path: str, message: Any) -> None:
        _settle_text(path, message, "refusal")
        calls = _bounded(f"{path}.tool_calls", message.tool_calls, "calls", self._bounds.calls)
        images = _bounded(f"{path}.images", message.images, "parts", self._bounds.parts)
        function = _read(f"{path}.function_call", _function, message.function_call)
        force_setattr(message, "tool_calls", _each(f"{path}.tool_calls", calls, _CALLS, _sent_call) or None)
        force_setattr(message, "images", _each(f"{path}.images", images, _IMAGES, _as_read) or None)
        force_setattr(message, "function_call", _settled(f"{path}.function_call", function))

    def _content(self, path: str, raw: Raw) -> Any:
        if is_long(raw):
            return raw
        if len(raw) <= weigh.SMALL_SIZE or memoryview(raw)[0] != _BRACKET:
            return _read(path, _content, raw)
        return _each(path, _bounded(path, raw, "parts", self._bounds.parts), _PARTS, _part)


def _each(path: str, raws: list[Raw], kind: _Kind, finish: Callable[[str, Any], Any]) -> list[Any]:
    """Return what stands in a list. Small things are read many at a time, a large one by itself, and then finished."""
    found: list[Any] = []
    batch: list[Raw] = []
    size = 0
    for place, raw in enumerate(raws):
        size += len(raw)
        if size > weigh.SMALL_SIZE:
            found += _batch(path, len(found), batch, kind)
            batch, size = [], len(raw)
        if size > weigh.SMALL_SIZE:
            found.append(finish(f"{path}[{place}]", _read(f"{path}[{place}]", kind.large, raw)))
            size = 0
        else:
            batch.append(raw)
    return found + _batch(path, len(found), batch, kind)


def _batch(path: str, first: int, raws: list[Raw], kind: _Kind) -> list[Any]:
    go_on()
    with suppress(*UNREADABLE):
        return list(kind.many(b"[%b]" % b",".join(raws)))
    return [_read(f"{path}[{place}]", kind.one, raw) for place, raw in enumerate(raws, first)]  # names the fault


def _as_read(path: str, item: Any) -> Any:
    return item


def _part(path: str, part: Any) -> Any:
    if isinstance(part, LargeTextPart):
        _settle_text(path, part, "text")
    elif isinstance(part, LargeRefusalPart):
        _settle_text(path, part, "refusal")
    return part


def _sent_call(path: str, call: Any) -> Any:
    _settled(f"{path}.function", call.function)
    if call.custom is not None:
        _settle_text(f"{path}.custom", call.custom, "input")
    return call


def _settle_text(path: str, holder: Any, name: str) -> None:
    """Read a text that is short; a long one stays as it is."""
    raw = getattr(holder, name)
    if not is_long(raw):
        force_setattr(holder, name, _read(f"{path}.{name}", _text, raw))


def _settled(path: str, function: LargeFunction | None) -> SentFunction | None:
    """Read arguments that are short; long ones stay as they are, be they a text or an object."""
    if function is not None and not _is_kept(function.arguments):
        force_setattr(function, "arguments", _read(f"{path}.arguments", _arguments, function.arguments))
    return function


def _is_kept(arguments: Any) -> bool:
    return len(arguments) >= LONG_TEXT and memoryview(arguments)[0] in b'"{'


def _bounded(path: str, raw: Raw, what: str, most: int) -> list[Raw]:
    """Return the objects of a list; raises ``ClientFault`` if they are too many, before each is looked at."""
    _bound(what, len(_read(path, _objects, raw) or ()), most)
    return _list(path, raw)


def _list(path: str, raw: Raw) -> list[Raw]:
    return (_read(path, _items, raw) or []) if len(raw) else []


def _without_lists(outline: Any) -> bytes:
    """Return a request without what may be long, so that only its presence and absence are left to judge."""
    kept: list[bytes] = []
    for name in _FIELDS:
        raw: Raw = getattr(outline, name)
        if not len(raw):
            continue
        if name in _LIST_FIELDS:
            kept.append(b'"%b":[]' % name.encode())
        elif len(raw) > MAX_FIELD and name not in _UNREAD_FIELDS:
            raise ClientFault(f"{name} is larger than {MAX_FIELD // 1024} KiB.", param=name)
        else:
            kept.append(b'"%b":%b' % (name.encode(), bytes(raw)))
    return b"{%b}" % b",".join(kept)


def _count(messages: Sequence[Message], bounds: Bounds) -> None:
    """Raise ``ClientFault`` for more than an honest client sends: each costs the conversion, of however few bytes."""
    parts = calls = 0
    for message in messages:
        if isinstance(message.content, list):
            parts += len(message.content)
        if isinstance(message, AssistantMessage):
            parts += len(message.images or ())
            calls += len(message.tool_calls or ()) or (message.function_call is not None)
    _bound("messages", len(messages), bounds.messages)
    _bound("parts", parts, bounds.parts)
    _bound("calls", calls, bounds.calls)


def _bound(what: str, found: int, most: int) -> None:
    if found > most:
        raise ClientFault(
            f"The conversation holds {found} {what}; at most {most} are taken (server.max_{what}).",
            param="messages",
            code="unsupported_value",
        )


# -------------------------------------------------------------------------------------------------------- faults


def _read(path: str, read: Callable[[Any], T], raw: bytes | Raw) -> T:
    """Return what ``read`` makes of JSON that stands at ``path``; raises the fault that tells the client."""
    if len(raw) > weigh.SMALL_SIZE:
        pass_turn(len(raw))
    try:
        return read(raw)
    except msgspec.ValidationError as fault:
        raise _misfit(path, str(fault)) from None
    except UnicodeDecodeError:
        raise ClientFault("The body is not valid UTF-8.", code="invalid_json") from None
    except RecursionError:
        raise ClientFault("The JSON of the body is nested too deep.", code="invalid_json") from None
    except msgspec.DecodeError as fault:
        # msgspec's words hold a reason and a position, nothing of the text
        raise ClientFault(f"The body is not valid JSON: {fault}.", code="invalid_json") from None


def _misfit(above: str, text: str) -> ClientFault:
    """Return the fault for a value of the wrong type, from msgspec's sentence and path."""
    reason, found, place = text.rpartition(_PLACE)  # no pattern: a sentence may quote a value of megabytes
    reason, place = (reason, place.removesuffix("`")) if found else (text, "$")
    path = _joined(above, place.removeprefix("$"))
    missing = _MISSING_FIELD.match(reason)
    if missing is not None:
        param = f"{path}.{missing['field']}" if path else missing["field"]
        return ClientFault(f"{param} is missing.", param=param)
    if reason.startswith("Invalid value"):  # it would quote the value
        allowed = _CHOICES.get(path.rpartition(".")[2])
        return ClientFault(
            f"{path} must be {allowed}." if allowed else f"{path} has a value that is not known.",
            param=path,
            code="unsupported_value",
        )
    return ClientFault(f"{path or 'The body'}: {reason[:1].lower()}{reason[1:]}.", param=path or None)


def _joined(above: str, path: str) -> str:
    return above + path if above else path.removeprefix(".")
