"""Events -> OpenAI's stream: the bytes of ``chat.completion.chunk`` events. Pure.

``write`` takes one event and returns what the client must see of it now (often nothing); ``finish`` returns the usage
chunk, if asked for, and ``[DONE]``. Order and form: docs/protocol.md 4.8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gemproxy.converter import events
from gemproxy.converter.chat.objects import (
    Heading,
    annotation,
    extra,
    finish_reason,
    image,
    logprobs,
    tool_call,
    usage_out,
)
from gemproxy.converter.sse import DONE
from gemproxy.converter.transcript import Usage
from gemproxy.wire.openai_chat import ChatChunk, ChoiceLogprobs, Delta, FunctionOut

_json = msgspec.json.Encoder().encode
_TEXT = b'{"content":'


class ChatChunkWriter:
    """Writes one answer as a stream; one instance an attempt."""

    kept = 0  # nothing waits here
    raw = True

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._fingerprint: str | UnsetType = UNSET
        self._tail = b',"usage":null}\n\n' if heading.include_usage else b"}\n\n"
        self._end = b',"logprobs":null,"finish_reason":null}]' + self._tail
        self._text_end = b"}" + self._end
        self._fields = b""  # what every chunk begins with: encoded once, when the first is written
        self._heads: dict[int, bytes] = {}  # choices whose role was told: all that stands before their deltas
        self._text_heads: dict[int, bytes] = {}  # the same, and what stands before a text
        self._calls: dict[int, int] = {}
        self._images: dict[int, int] = {}
        self._usage = Usage()

    def write(self, event: events.Event) -> bytes:
        """Return the chunks that tell this event; b"" if it only counts later."""
        if type(event) is events.Text and event.signature is None:
            # the common chunk, told here: one encode of the text instead of four Structs
            head = self._text_heads.get(event.choice) or self._text_head(event.choice)
            return head + _json(event.text) + self._text_end
        return _WRITE[type(event)](self, event)

    def finish(self) -> bytes:
        """Return the end of a stream that ended well; the usage comes last, with no choices."""
        if not self._heading.include_usage:
            return DONE
        return self._begin() + b'],"usage":' + _json(usage_out(self._usage)) + b"}\n\n" + DONE

    # ---------------------------------------------------------------------------------------------------- pieces

    def _begin(self) -> bytes:
        if not self._fields:
            heading = self._heading
            chunk = ChatChunk(heading.id, heading.created, heading.model, system_fingerprint=self._fingerprint)
            self._fields = b"data: " + _json(chunk)[:-1] + b',"choices":['
        return self._fields

    def _head(self, choice: int) -> bytes:
        return self._begin() + b'{"index":%d,"delta":' % choice

    def _chunk(self, choice: int, delta: bytes) -> bytes:
        return b"".join((self._told(choice), delta, self._end))  # with ``+`` a picture would be copied twice

    def _told(self, choice: int) -> bytes:
        """Return the head of a choice's next chunk, and before it the chunk with its role if that was not told yet."""
        head = self._heads.get(choice)
        if head is None:
            head = self._heads[choice] = self._head(choice)
            return head + b'{"role":"assistant","content":""}' + self._end + head
        return head

    def _text_head(self, choice: int) -> bytes:
        told = self._told(choice)
        self._text_heads[choice] = self._heads[choice] + _TEXT
        return told + _TEXT

    def _delta(self, choice: int, delta: Delta) -> bytes:
        return self._chunk(choice, _json(delta))

    # ---------------------------------------------------------------------------------------------------- events

    def _signed_text(self, event: events.Text) -> bytes:
        carried = extra(event.signature, self._heading.origin)
        return self._delta(event.choice, Delta(event.text or None, extra_content=carried))

    def _thought(self, event: events.Thought) -> bytes:
        return self._chunk(event.choice, b'{"reasoning_content":' + _json(event.text) + b"}")

    def _call(self, event: events.ToolCall) -> bytes:
        place = self._calls.get(event.choice, 0)  # counts over the whole reply, not per frame
        self._calls[event.choice] = place + 1
        if self._heading.legacy_functions:
            return self._legacy_call(event) if place == 0 else b""
        call = tool_call(event, self._heading)
        call.index = place
        return self._delta(event.choice, Delta(tool_calls=[call]))

    def _legacy_call(self, event: events.ToolCall) -> bytes:
        # the old form has room for one call; the model asks for the others again once it has this result
        return self._delta(event.choice, Delta(function_call=FunctionOut(event.name, event.arguments)))

    def _image(self, event: events.Image) -> bytes:
        place = self._images.get(event.choice, 0)
        self._images[event.choice] = place + 1
        return self._delta(event.choice, Delta(images=[image(event, place, self._heading.origin)]))

    def _annotation(self, event: events.Annotation) -> bytes:
        return self._delta(event.choice, Delta(annotations=[annotation(event)]))

    def _logprobs(self, event: events.Logprobs) -> bytes:
        said = _json(ChoiceLogprobs(logprobs(event)))
        return self._told(event.choice) + b'{},"logprobs":' + said + b',"finish_reason":null}]' + self._tail

    def _refusal(self, event: events.Refusal) -> bytes:
        return self._delta(event.choice, Delta(refusal=event.text))

    def _meta(self, event: events.Meta) -> bytes:
        self._fingerprint, self._fields = event.model_version, b""
        self._heads = {choice: self._head(choice) for choice in self._heads}
        self._text_heads = {choice: head + _TEXT for choice, head in self._heads.items()}
        return b""

    def _count(self, event: Usage) -> bytes:
        self._usage = event
        return b""

    def _finish(self, event: events.Finish) -> bytes:
        reason = _json(finish_reason(event.reason, self._heading))
        return self._told(event.choice) + b'{},"logprobs":null,"finish_reason":' + reason + b"}]" + self._tail


_WRITE: dict[type, Callable[[ChatChunkWriter, Any], bytes]] = {
    events.Text: ChatChunkWriter._signed_text,
    events.Thought: ChatChunkWriter._thought,
    events.ToolCall: ChatChunkWriter._call,
    events.Image: ChatChunkWriter._image,
    events.Annotation: ChatChunkWriter._annotation,
    events.Logprobs: ChatChunkWriter._logprobs,
    events.Refusal: ChatChunkWriter._refusal,
    events.Meta: ChatChunkWriter._meta,
    Usage: ChatChunkWriter._count,
    events.Finish: ChatChunkWriter._finish,
}
