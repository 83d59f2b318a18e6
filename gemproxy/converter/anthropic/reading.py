"""The bytes of a Messages request -> ``MessagesRequest`` and what is said in it. Pure.

In: a body. Out: the request and its messages, or ``ClientFault`` (400) naming the field in ``param``. A body is read in
short steps (``converter.steps``): its outline, then message by message and block by block; long texts stay as they are.
How many things it may hold is settled before any of them becomes an object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.anthropic.said import Answered, Content, Enclosed, Message
from gemproxy.converter.bounds import Bounds
from gemproxy.converter.steps import Kind, Reader, bound
from gemproxy.errors import ClientFault
from gemproxy.load import weigh
from gemproxy.load.turns import go_on
from gemproxy.wire.anthropic import (
    Block,
    DocumentBlock,
    EnclosedBlock,
    LargeBlock,
    LargeEnclosedBlock,
    LargeResultBlock,
    LargeTextBlock,
    MessagesRequest,
    Outline,
    ResultBlock,
    SearchResultBlock,
    SentMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from gemproxy.wire.text import is_long

ROLES: Final = ("user", "assistant", "system")
_LISTS: Final = ("messages", "system", "tools")
_BRACKET, _NULL = b"[n"
_reader: Final = Reader({"type": "that of a block that is taken here", "role": "user, assistant or system"})
_request = msgspec.json.Decoder(MessagesRequest).decode
_outline: Callable[[bytes], Any] = msgspec.json.Decoder(Outline).decode
_message = msgspec.json.Decoder(SentMessage).decode
_messages = msgspec.json.Decoder(list[SentMessage]).decode
_text = msgspec.json.Decoder(str | None).decode
_BLOCKS: Final = Kind(Block, LargeBlock)
_RESULTS: Final = Kind(ResultBlock, LargeResultBlock)
_ENCLOSED: Final = Kind(EnclosedBlock, LargeEnclosedBlock)
_TEXTS: Final = Kind(TextBlock, LargeTextBlock)


class Asking(Struct, frozen=True):
    """A request that was read, and what is said in it. ``size`` is the body's, in bytes."""

    request: MessagesRequest
    system: Content
    messages: Sequence[Message]
    size: int


def decode(body: bytes, bounds: Bounds) -> Asking:
    """Return the request; raises ``ClientFault`` (400) naming the field in ``param``, or with code ``invalid_json``."""
    request, lists = _reader.request(body, _request, _outline, _LISTS)
    reading = _Reading(bounds)
    system = reading.content("system", lists.system, _TEXTS)
    return Asking(request, system, reading.messages(lists.messages), len(body))


class _Reading:
    """Reads messages, and counts what all of them hold together."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._parts = 0
        self._calls = 0

    def messages(self, raw: Raw) -> list[Message]:
        if not len(raw):
            raise ClientFault("messages is missing.", param="messages")
        if len(raw) <= weigh.SMALL_SIZE:
            sent = _reader.at("messages", _messages, raw)
            bound("messages", "messages", len(sent), self._bounds.messages)
            found = [self._message(place, each) for place, each in enumerate(sent)]
        else:
            found = self._many(_reader.bounded("messages", raw, "messages", self._bounds.messages))
        if not found:
            raise ClientFault("messages must hold at least one message.", param="messages")
        return found

    def _many(self, raws: Sequence[Raw]) -> list[Message]:
        found: list[Message] = []
        size = 0
        for place, each in enumerate(raws):
            size += len(each)
            if size > weigh.SMALL_SIZE:
                go_on()
                size = 0
            found.append(self._message(place, _reader.at(f"messages[{place}]", _message, each)))
        return found

    def _message(self, place: int, sent: SentMessage) -> Message:
        path = f"messages[{place}]"
        if sent.role not in ROLES:
            raise ClientFault(
                f"{path}.role must be {', '.join(ROLES[:-1])} or {ROLES[-1]}.",
                param=f"{path}.role",
                code="unsupported_value",
            )
        return Message(place, sent.role, self.content(f"{path}.content", sent.content, _BLOCKS), sent.clear_at)

    def content(self, path: str, raw: Raw, kind: Kind) -> Content:
        """Return a text, or blocks of a kind."""
        if not len(raw) or memoryview(raw)[0] == _NULL:
            return ""
        if memoryview(raw)[0] != _BRACKET:
            return raw if is_long(raw) else _reader.at(path, _text, raw) or ""
        if len(raw) <= weigh.SMALL_SIZE:
            blocks: list[Any] = _reader.at(path, kind.many, raw)
        else:
            blocks = _reader.each(path, _reader.bounded(path, raw, "parts", self._bounds.parts), kind, _settled)
        self._parts += len(blocks)
        bound(path, "parts", self._parts, self._bounds.parts)
        for place, block in enumerate(blocks):
            if type(block) is not TextBlock:
                blocks[place] = self._block(f"{path}[{place}]", block)
        return blocks

    def _block(self, path: str, block: Any) -> Any:
        """Return a block with what it holds of others; none of these holds one of its own kind."""
        if isinstance(block, ToolUseBlock):
            self._calls += 1
            bound(path, "calls", self._calls, self._bounds.calls)
        elif isinstance(block, ToolResultBlock):
            content = self.content(f"{path}.content", block.content, _RESULTS)
            return Answered(block.tool_use_id, content, bool(block.is_error))
        elif isinstance(block, SearchResultBlock):
            return Enclosed(_titled(block.title, block.source), self.content(f"{path}.content", block.content, _TEXTS))
        elif isinstance(block, DocumentBlock) and block.source.type == "content":
            content = self.content(f"{path}.source.content", block.source.content, _ENCLOSED)
            return Enclosed(_titled(block.title, block.context), content)
        return block


def _titled(*lines: str | None) -> str:
    return "\n".join(filter(None, lines))


def _settled(path: str, block: Any) -> Any:
    if isinstance(block, TextBlock):
        _reader.settle_text(path, block, "text")
    return block
