"""Events -> the blocks of a message, one after the other. Pure.

``Output`` says which block each event belongs to: one is open at a time, and is closed when something else is said.
What becomes of the steps is said by ``stream``, which tells each, and by ``whole``, which keeps them: so the two add up
to the same message. Order: docs/protocol.md 10.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Raw

from gemproxy.converter import events
from gemproxy.converter.anthropic.heading import Heading, usage_out
from gemproxy.converter.anthropic.parts import DRAWING
from gemproxy.converter.sealed import seal
from gemproxy.converter.signed_calls import carrier
from gemproxy.converter.transcript import Usage
from gemproxy.errors import UpstreamFault
from gemproxy.wire.anthropic_answers import (
    BlockOut,
    CitationOut,
    SearchResultOut,
    SearchResultsOut,
    ServerToolUseOut,
    StopDetails,
    StopOut,
    TextOut,
    ThinkingOut,
    ToolUseOut,
    UsageOut,
)
from gemproxy.wire.text import joined, plain

EACH: Final = 200  # bytes of memory of a thing that is kept, beside its text
MOST_KEPT: Final = 256 << 20
UNSIGNED: Final = "t0"  # what a thought carries that no call has signed: clients take none without a signature
MOST_CITED: Final = 150  # characters of a citation, as many as Anthropic gives
_REASONS: Final = {
    "stop": "end_turn",  # also after a stop sequence: Gemini does not say which ended it
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class Output:
    """Takes events. ``counted`` tells the tokens so far, once ``count_by`` was called. One instance an attempt."""

    raw = True

    def __init__(self, heading: Heading) -> None:
        self.kept = 0  # bytes of memory that wait for the end
        self.heading = heading
        self.counted: Callable[[], Usage] = Usage
        self._index = -1  # of the last block that was begun
        self._open = ""  # "thinking", "text", or "": none is open
        self._spoke = False  # something was said that is no thought
        self._said: list[str | Raw] = []  # all text, where sources may speak of it
        self._text: str | None = None
        self._sources: dict[str, str] = {}  # title by URL
        self._stop = StopOut("end_turn")
        self._why: str | None = None

    def count_by(self, counted: Callable[[], Usage]) -> None:
        """Take what tells the tokens so far."""
        self.counted = counted

    def write(self, event: events.Event) -> bytes:
        """Return what the client must see of an event now."""
        return _WRITE[type(event)](self, event)

    @property
    def usage(self) -> UsageOut:
        """Return what was counted so far."""
        return usage_out(self.counted(), int(bool(self._sources)))

    # ------------------------------------------------------------------------------------ what becomes of the steps

    def _begin(self, block: BlockOut) -> bytes:
        return b""

    def _grow(self, text: str | Raw) -> bytes:
        return b""

    def _sign(self, signature: str) -> bytes:
        return b""

    def _cite(self, citation: CitationOut) -> bytes:
        return b""

    def _fill(self, arguments: str) -> bytes:
        return b""

    def _end(self) -> bytes:
        return b""

    # -------------------------------------------------------------------------------------------------------- events

    def _keep(self, size: int) -> None:
        self.kept += size + EACH
        if self.kept > MOST_KEPT:
            raise UpstreamFault(f"The upstream's answer is larger than {MOST_KEPT} bytes.")

    def _start(self, block: BlockOut, kind: str = "") -> bytes:
        self._index += 1
        self._open = kind
        self._spoke = self._spoke or kind != "thinking"
        return self._begin(block)

    def _close(self, carried: str = "") -> bytes:
        """End the open block, if there is one; ``carried`` is what a thought carries for us."""
        kind, self._open = self._open, ""
        if not kind:
            return b""
        signed = self._sign(carried or seal(UNSIGNED)) if kind == "thinking" else b""
        return signed + self._end()

    def _speak(self, event: events.Text) -> bytes:
        if not event.text:
            return b""
        told = b"" if self._open == "text" else self._close() + self._start(TextOut(), "text")
        if self.heading.grounded:
            self._keep(len(event.text))
            self._said.append(event.text)
        return told + self._grow(event.text)

    def _think(self, event: events.Thought) -> bytes:
        # behind anything else a thought makes clients lose what was said (docs/protocol.md 10.4)
        if not event.text or self._spoke or not self.heading.thinks:
            return b""
        told = b"" if self._open else self._start(ThinkingOut(), "thinking")
        return told + self._grow(event.text)

    def _call(self, event: events.ToolCall) -> bytes:
        told = self._begin_carrier(event)
        told += self._close(carrier(event, self.heading.origin) if event.signature is not None else "")
        told += self._start(ToolUseOut(event.id, event.name))
        return told + self._fill(event.arguments) + self._end()

    def _begin_carrier(self, event: events.ToolCall) -> bytes:
        """Open a thought that says nothing for a signature that would have no place to stand."""
        if event.signature is None or self._spoke or self._open or not self.heading.thinks:
            return b""
        return self._start(ThinkingOut(), "thinking")

    def _show(self, event: events.Image) -> bytes:
        """Write an image into the text: no block of an answer holds one."""
        return self._speak(events.Text(event.choice, f"{DRAWING}{event.mime};base64,{event.data})"))

    def _annotate(self, event: events.Annotation) -> bytes:
        if self._open != "text":
            return b""  # its block is closed, and what was told of that stands
        self._keep(len(event.url) + len(event.title) + MOST_CITED)
        self._sources.setdefault(event.url, event.title)
        if self._text is None:
            self._text = plain(joined(self._said)) if self._said else ""
        cited = self._text[event.start : min(event.end, event.start + MOST_CITED)]
        return self._cite(CitationOut(cited, event.url, event.title))

    def _refuse(self, event: events.Refusal) -> bytes:
        self._why = event.text
        return b""

    def _finish(self, event: events.Finish) -> bytes:
        reason = _REASONS[event.reason]
        self._stop = StopOut(reason, stop_details=StopDetails(self._why) if reason == "refusal" else None)
        return self._close() + self._search()

    def _search(self) -> bytes:
        """Tell of the search whose sources were named: Gemini names them when all is said."""
        if not self._sources:
            return b""
        use = f"srvtoolu_{self.heading.new_id()}"
        found = [SearchResultOut(title, url) for url, title in self._sources.items()]
        told = self._start(ServerToolUseOut(use, "web_search")) + self._fill("{}") + self._end()
        return told + self._start(SearchResultsOut(use, found)) + self._end()

    def _pass(self, event: object) -> bytes:
        return b""


_WRITE: Final[dict[type, Callable[[Output, Any], bytes]]] = {
    events.Text: Output._speak,
    events.Thought: Output._think,
    events.ToolCall: Output._call,
    events.Image: Output._show,
    events.Annotation: Output._annotate,
    events.Logprobs: Output._pass,
    events.Refusal: Output._refuse,
    events.Finish: Output._finish,
    events.Meta: Output._pass,
    Usage: Output._pass,
}
