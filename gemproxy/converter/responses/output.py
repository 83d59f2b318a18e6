"""Events -> the items of a response. Pure.

``Output`` gathers what a model says into items: one is open at a time, and is closed when something else is said. A
stream (``stream``) goes the same way and tells each step, so that its events add up to the whole answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

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

EACH: Final = 200  # bytes of memory of an event that is kept, beside its text
_TOKEN: Final = 700  # of one token's probability
MOST_KEPT: Final = 256 << 20
_ENDS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Open(Struct):
    """The item that is being said: a message, or a thought where ``summary`` is True.

    A piece of text is a ``bytearray`` where a stream has written it already (``stream``).
    """

    id: str
    index: int
    summary: bool = False
    pieces: list[str | Raw | bytearray] = []
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
        self.whole = b""  # the response, once it has ended, if it is kept
        self.carried: list[str] = []  # the signatures of its calls, sealed
        self.heading = heading
        self.items: list[ItemOut | Raw] = []
        self._counted = 0
        self._open: Open | None = None
        self._usage: Usage | None = None
        self._reason: str | None = None  # why it is incomplete

    @property
    def kept(self) -> int:
        """Return the bytes of memory that wait for the end."""
        return self._counted

    def write(self, event: events.Event) -> bytes:
        """Return what the client must see of an event now."""
        _WRITE[type(event)](self, event)
        return b""

    def compacted(self, sealed: str) -> bytes:
        """Take the summary of a conversation; returns as ``write`` does."""
        self._keep(len(sealed))
        self._whole(CompactionOut(self._new_id("cmp"), sealed))
        return b""

    def finish(self) -> bytes:
        """Return the whole response as JSON."""
        whole = self._response(self.status)
        if self.heading.keeps:
            self.whole = whole
        return whole

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

    def _begun(self, opened: Open) -> None:
        """Hear that an item is being said."""

    def _text_added(self, text: str | Raw, opened: Open) -> None:
        """Hear what the last of its pieces is."""

    def _annotated(self, opened: Open) -> None:
        """Hear that it has one more source."""

    def _refused(self, text: str, opened: Open) -> None:
        """Hear that no more is said."""

    def _all_text(self, opened: Open) -> str | Raw:
        """Return all text of an item."""
        return joined(opened.pieces)  # type: ignore[arg-type]  # a stream has a way of its own

    def _ended(self, item: MessageOut | ReasoningOut) -> None:
        """Take the item that was open."""
        self.items.append(item)

    def _whole(self, item: ItemOut) -> None:
        """Take an item that came in one piece."""
        self.items.append(item)

    # -------------------------------------------------------------------------------------------------------- events

    def _keep(self, size: int) -> None:
        self._counted += size + EACH
        if self._counted > MOST_KEPT:
            self._check()

    def _check(self) -> None:
        if self.kept > MOST_KEPT:
            raise UpstreamFault(f"The upstream's answer is larger than {MOST_KEPT} bytes.")

    def _new_id(self, prefix: str) -> str:
        return self.heading.item_id(prefix, len(self.items))

    def _saying(self, summary: bool) -> Open:
        """Return the open item, which is a message, or a thought."""
        opened = self._open
        if opened is None or opened.summary != summary:
            self._close("completed")
            opened = self._open = Open(self._new_id("rs" if summary else "msg"), len(self.items), summary)
            self._begun(opened)
        return opened

    def _text(self, event: events.Text | events.Thought) -> None:
        text = event.text
        if text:
            self._keep(len(text))
            opened = self._saying(type(event) is events.Thought)
            opened.pieces.append(text)
            self._text_added(text, opened)

    def _call(self, event: events.ToolCall) -> None:
        self._keep(len(event.arguments))
        self._seal(event)
        self._whole(call_item(event, self._new_id(self.heading.call_kind(event.name)), self.heading))

    def _seal(self, event: events.ToolCall) -> None:
        """Let the client carry the signature of a call: in the thought before it, or in one that says nothing."""
        carried: str | None = None
        heading = self.heading
        if event.signature is not None and (heading.sealed or heading.keeps):
            carried = carrier(event, heading.origin)
            self._keep(len(carried))
            self.carried.append(carried)
            if heading.sealed:
                self._saying(summary=True)
        self._close("completed", carried if heading.sealed else None)

    def _image(self, event: events.Image) -> None:
        self._keep(len(event.data))
        self._close("completed")
        self._whole(ImageCallOut(self._new_id("ig"), "completed", event.data))

    def _annotation(self, event: events.Annotation) -> None:
        if self._open is None or self._open.summary:
            return  # its message is closed, and what was told of that stands
        self._keep(len(event.url) + len(event.title))
        self._open.annotations.append(annotation(event))
        self._annotated(self._open)

    def _logprobs(self, event: events.Logprobs) -> None:
        if self._open is None or self._open.summary:
            return
        self._keep(_TOKEN * sum(1 + len(token.top) for token in event.tokens))
        self._open.logprobs += logprobs(event)

    def _refusal(self, event: events.Refusal) -> None:
        opened = self._saying(summary=False)
        opened.refusal = event.text
        self._refused(event.text, opened)

    def _finish(self, event: events.Finish) -> None:
        self._reason = _ENDS.get(event.reason)
        self._close("completed" if self._reason is None else "incomplete")

    def _meta(self, event: events.Meta) -> None:
        """Pass over the name of the model: the response is under the one that was asked for."""

    def _count(self, event: Usage) -> None:
        self._usage = event

    # ------------------------------------------------------------------------------------------------------- the end

    def _close(self, status: str, carried: str | None = None) -> None:
        """End the open item, if there is one; ``carried`` is what a thought carries for us."""
        opened, self._open = self._open, None
        if opened is None:
            return
        item: MessageOut | ReasoningOut
        text = self._all_text(opened)
        if opened.summary:
            item = ReasoningOut(opened.id, [SummaryText(text)] if opened.pieces else [], carried or UNSET)
        else:
            item = MessageOut(opened.id, status, [])
            if opened.texts:
                item.content.append(OutputText(text, opened.annotations, opened.logprobs))
            if opened.refusal is not None:
                item.content.append(RefusalOut(opened.refusal))
        self._ended(item)


_WRITE: Final[dict[type, Callable[[Output, Any], None]]] = {
    events.Text: Output._text,
    events.Thought: Output._text,
    events.ToolCall: Output._call,
    events.Image: Output._image,
    events.Annotation: Output._annotation,
    events.Logprobs: Output._logprobs,
    events.Refusal: Output._refusal,
    events.Finish: Output._finish,
    events.Meta: Output._meta,
    Usage: Output._count,
}
