"""Events -> the items of a response. Pure.

``Output`` gathers what a model says into items: one is open at a time, and is closed when something else is said. A
stream (``stream``) goes the same way and tells each step, so that its events add up to the whole answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct

from gemproxy.converter import events
from gemproxy.converter.responses.heading import Heading
from gemproxy.converter.responses.objects import annotation, call_item, logprobs, usage_out
from gemproxy.converter.signed_calls import carrier
from gemproxy.converter.transcript import Usage
from gemproxy.errors import UpstreamFault
from gemproxy.wire.openai_responses import (
    CompactionOut,
    ErrorOut,
    ImageCallOut,
    IncompleteDetails,
    ItemOut,
    MessageOut,
    OutputText,
    ReasoningOut,
    RefusalOut,
    SummaryText,
    UrlCitationOut,
    UsageOut,
)
from gemproxy.wire.text import joined

_json: Final = msgspec.json.Encoder().encode
EACH: Final = 200  # bytes of memory of an event that is kept, beside its text
_TOKEN: Final = 700  # of one token's probability
MOST_KEPT: Final = 256 << 20
_ENDS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Open(Struct):
    """The item that is being said: a message, or a thought where ``summary`` is True."""

    id: str
    index: int
    summary: bool = False
    pieces: list[str | Raw] = []
    refusal: str | None = None
    annotations: list[UrlCitationOut] = []
    logprobs: list[Any] = []

    @property
    def texts(self) -> int:
        """Return how many parts of text there are: one, unless all that is said is a refusal."""
        return 1 if self.pieces or self.annotations or self.logprobs or self.refusal is None else 0


class Output:
    """Takes events, and returns the whole response at their end. One instance an attempt."""

    raw = True

    def __init__(self, heading: Heading) -> None:
        self.kept = 0  # bytes of memory that wait for the end
        self.whole = b""  # the response, once it has ended
        self.carried: list[str] = []  # the signatures of its calls, sealed
        self.heading = heading
        self.items: list[ItemOut] = []
        self._open: Open | None = None
        self._usage: Usage | None = None
        self._reason: str | None = None  # why it is incomplete

    def write(self, event: events.Event) -> bytes:
        """Return what the client must see of an event now."""
        return _WRITE[type(event)](self, event)

    def finish(self) -> bytes:
        """Return the whole response as JSON."""
        self.whole = self._response(self.status)
        return self.whole

    @property
    def status(self) -> str:
        """Return how it ended, if it ended well."""
        return "completed" if self._reason is None else "incomplete"

    def _response(self, status: str, fault: ErrorOut | None = None) -> bytes:
        reason = IncompleteDetails(self._reason) if self._reason is not None and status == "incomplete" else None
        return self.heading.response(status, self.items, self.counted(), fault, reason)

    def counted(self) -> UsageOut | None:
        """Return what was counted, once that is known."""
        return usage_out(self._usage) if self._usage is not None else None

    # --------------------------------------------------------------------------- what a stream tells beside all this

    def _added(self, item: ItemOut, index: int) -> bytes:
        return b""

    def _text_added(self, text: str | Raw, opened: Open) -> bytes:
        return b""

    def _closed(self, item: ItemOut, opened: Open) -> bytes:
        return b""

    def _whole(self, item: ItemOut, index: int) -> bytes:
        return b""

    # -------------------------------------------------------------------------------------------------------- events

    def _keep(self, size: int) -> None:
        self.kept += size + EACH
        if self.kept > MOST_KEPT:
            raise UpstreamFault(f"The upstream's answer is larger than {MOST_KEPT} bytes.")

    def _new_id(self, prefix: str) -> str:
        return self.heading.item_id(prefix, len(self.items))

    def _saying(self, summary: bool) -> bytes:
        """Make sure that the open item is a message, or a thought."""
        opened = self._open
        if opened is not None and opened.summary == summary:
            return b""
        told = self._close("completed")
        self._open = Open(self._new_id("rs" if summary else "msg"), len(self.items), summary)
        item: ItemOut = ReasoningOut(self._open.id, []) if summary else MessageOut(self._open.id, "in_progress", [])
        return told + self._added(item, self._open.index)

    def _text(self, event: events.Text) -> bytes:
        if not event.text:
            return b""
        self._keep(len(event.text))
        told = self._saying(summary=False)
        assert self._open is not None
        self._open.pieces.append(event.text)
        return told + self._text_added(event.text, self._open)

    def _thought(self, event: events.Thought) -> bytes:
        if not event.text:
            return b""
        self._keep(len(event.text))
        told = self._saying(summary=True)
        assert self._open is not None
        self._open.pieces.append(event.text)
        return told + self._text_added(event.text, self._open)

    def _call(self, event: events.ToolCall) -> bytes:
        self._keep(len(event.arguments))
        told = self._seal(event)
        item = call_item(event, self._new_id(self.heading.call_kind(event.name)), self.heading)
        self.items.append(item)
        return told + self._whole(item, len(self.items) - 1)

    def _seal(self, event: events.ToolCall) -> bytes:
        """Let the client carry the signature of a call: in the thought before it, or in one that says nothing."""
        told = b""
        carried: str | None = None
        heading = self.heading
        if event.signature is not None and (heading.sealed or heading.keeps):
            carried = carrier(event, heading.origin)
            self._keep(len(carried))
            self.carried.append(carried)
            if heading.sealed:
                told = self._saying(summary=True)
        return told + self._close("completed", carried if heading.sealed else None)

    def _image(self, event: events.Image) -> bytes:
        self._keep(len(event.data))
        told = self._close("completed")
        item = ImageCallOut(self._new_id("ig"), "completed", event.data)
        self.items.append(item)
        return told + self._whole(item, len(self.items) - 1)

    def compacted(self, sealed: str) -> bytes:
        """Tell the summary of a conversation."""
        self._keep(len(sealed))
        item = CompactionOut(self._new_id("cmp"), sealed)
        self.items.append(item)
        return self._whole(item, len(self.items) - 1)

    def _annotation(self, event: events.Annotation) -> bytes:
        if self._open is None or self._open.summary:
            return b""  # its message is closed, and what was told of that stands
        self._keep(len(event.url) + len(event.title))
        self._open.annotations.append(annotation(event))
        return self._annotated(self._open)

    def _annotated(self, opened: Open) -> bytes:
        return b""

    def _logprobs(self, event: events.Logprobs) -> bytes:
        if self._open is None or self._open.summary:
            return b""
        self._keep(_TOKEN * sum(1 + len(token.top) for token in event.tokens))
        self._open.logprobs += logprobs(event)
        return b""

    def _refusal(self, event: events.Refusal) -> bytes:
        told = self._saying(summary=False)
        assert self._open is not None
        self._open.refusal = event.text
        return told + self._refused(event.text, self._open)

    def _refused(self, text: str, opened: Open) -> bytes:
        return b""

    def _finish(self, event: events.Finish) -> bytes:
        self._reason = _ENDS.get(event.reason)
        return self._close("completed" if self._reason is None else "incomplete")

    def _meta(self, event: events.Meta) -> bytes:
        return b""

    def _count(self, event: Usage) -> bytes:
        self._usage = event
        return b""

    # ------------------------------------------------------------------------------------------------------- the end

    def _close(self, status: str, carried: str | None = None) -> bytes:
        """End the open item, if there is one; ``carried`` is what a thought carries for us."""
        opened, self._open = self._open, None
        if opened is None:
            return b""
        text = joined(opened.pieces)
        item: ItemOut
        if opened.summary:
            item = ReasoningOut(opened.id, [SummaryText(text)] if opened.pieces else [], carried or UNSET)
        else:
            item = MessageOut(opened.id, status, [])
            if opened.texts:
                item.content.append(OutputText(text, opened.annotations, opened.logprobs))
            if opened.refusal is not None:
                item.content.append(RefusalOut(opened.refusal))
        self.items.append(item)
        return self._closed(item, opened)


_WRITE: Final[dict[type, Callable[[Output, Any], bytes]]] = {
    events.Text: Output._text,
    events.Thought: Output._thought,
    events.ToolCall: Output._call,
    events.Image: Output._image,
    events.Annotation: Output._annotation,
    events.Logprobs: Output._logprobs,
    events.Refusal: Output._refusal,
    events.Finish: Output._finish,
    events.Meta: Output._meta,
    Usage: Output._count,
}
