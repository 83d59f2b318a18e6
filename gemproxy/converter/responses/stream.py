"""Events -> the events of a stream of Responses. Order and form: docs/protocol.md 7.2. Pure.

What an event says is put together of bytes: each thing is encoded once, however often it is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import repeat
from operator import add
from typing import Any, Final

import msgspec
from msgspec import Raw

from gemproxy.converter import events
from gemproxy.converter.events import Text
from gemproxy.converter.responses.heading import Heading
from gemproxy.converter.responses.output import Open, Output
from gemproxy.errors import Failure
from gemproxy.wire.openai_responses import (
    CompactionOut,
    CustomCallOut,
    FunctionCallOut,
    ImageCallOut,
    ItemOut,
    MessageOut,
    OutputText,
    ReasoningOut,
    RefusalOut,
    SummaryText,
)
from gemproxy.wire.text import joined

_json: Final = msgspec.json.Encoder().encode
_Written = bytes | bytearray | Raw


@cache  # kinds are few
def _event(kind: bytes) -> bytes:
    return b'event: response.%b\ndata: {"type":"response.%b",' % (kind, kind)


# An event ends in its number. The ends of text deltas, which are the longest, are there beforehand, or put together of
# what is: to write the number took a fifth of a delta.
_DELTA_END: Final = b',"logprobs":[],"sequence_number":%d'
_END: Final = len(b',"logprobs":[]')  # of another event: from here on
_THOUSAND: Final = 1000
_FIRST: Final = [_DELTA_END % number + b"}\n\n" for number in range(2 * _THOUSAND)]  # few streams are longer
_DIGITS: Final = [b"%03d}\n\n" % number for number in range(_THOUSAND)]
_DELTA: Final = _event(b"output_text.delta")


class Stream(Output):
    """Takes events, and returns OpenAI's. ``response.created`` comes before the first."""

    def __init__(self, heading: Heading) -> None:
        super().__init__(heading)
        self._began = False
        self._told: list[_Written] = []  # pieces of events that were not returned yet
        self._thousands = 1  # for which ends are made
        self._ends: Iterator[bytes] = iter(_FIRST)
        self._run: bytearray | None = None  # the pieces of a message's text, as they were told one after the other
        self._delta_head = b""  # all that stands before the text of a delta, encoded once an item

    @property
    def kept(self) -> int:
        """Return the bytes of memory that wait for the end."""
        return self._counted + (len(self._run) if self._run is not None else 0)

    def write(self, event: events.Event) -> bytes:
        """Return the events that tell this one."""
        if type(event) is Text and (run := self._run) is not None and type(text := event.text) is str and text:
            # the common one, told here: one encode of the text, which is kept as it was told, and no call of ours
            told = _json(text)
            run += told
            for end in self._ends:  # takes the next one in half the time of ``next``
                return self._delta_head + told + end
            return self._delta_head + told + self._more()
        if type(event) is not events.Meta:  # which nobody sees: an attempt that says nothing else may be repeated
            self._begin()
        super().write(event)
        return self._flush()

    def compacted(self, sealed: str) -> bytes:
        """Return the events that tell the summary."""
        self._begin()
        super().compacted(sealed)
        return self._flush()

    def finish(self) -> bytes:
        """Return the event that carries the whole response."""
        self._begin()
        self._tell(self.status.encode(), b'"response":', super().finish())
        return self._flush()

    def failure_event(self, failure: Failure) -> bytes:
        """Return the end of a stream that failed: what was cut off is not in it, and is never called done."""
        self._begin()
        self._tell(b"failed", b'"response":', self._response("failed", self.heading.error(failure)))
        return self._flush()

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            whole = self.heading.response("in_progress", [], None, None, None)
            self._tell(b"created", b'"response":', whole)
            self._tell(b"in_progress", b'"response":', whole)

    def _tell(self, kind: bytes, *fields: _Written) -> None:
        end = next(self._ends, b"") or self._more()
        self._told += (_event(kind), *fields, end[_END:])

    def _flush(self) -> bytes:
        told, self._told = self._told, []
        return b"".join(told)

    def _more(self) -> bytes:
        """Return the first of the next thousand ends.

        Of a text in short pieces only here is looked at how much is kept: of so many it cannot be much.
        """
        self._check()
        self._thousands += 1
        self._ends = map(add, repeat(_DELTA_END % self._thousands), _DIGITS)
        return next(self._ends)

    # ---------------------------------------------------------------------------------------------------------- text

    def _begun(self, opened: Open) -> None:
        begun = ReasoningOut(opened.id, []) if opened.summary else MessageOut(opened.id, "in_progress", [])
        self._added(begun, opened.index)

    def _text_added(self, text: str | Raw, opened: Open) -> None:
        place = _place(opened.id, opened.index)
        if opened.summary:
            if len(opened.pieces) == 1:
                self._tell(b"reasoning_summary_part.added", place, b',"summary_index":0,', _part(SummaryText()))
            self._tell(b"reasoning_summary_text.delta", place, b',"summary_index":0,"delta":', _json(text))
            return
        if len(opened.pieces) == 1 and not opened.annotations:
            self._content(b"content_part.added", place, 0, _part(OutputText()))
        self._delta_head = _DELTA + place + b',"content_index":0,"delta":'
        self._told += (self._delta_head, _json(text), next(self._ends, b"") or self._more())
        self._stop_run()
        self._run = bytearray()
        opened.pieces.append(self._run)

    def _stop_run(self) -> None:
        if self._run is not None:
            self._counted += len(self._run)
            self._run = None

    def _all_text(self, opened: Open) -> str | Raw:
        self._stop_run()
        pieces = [piece if isinstance(piece, str | Raw) else _text_of(piece) for piece in opened.pieces if len(piece)]
        return joined(pieces)

    def _annotated(self, opened: Open) -> None:
        place, index = _place(opened.id, opened.index), len(opened.annotations) - 1
        if not opened.pieces and not index:
            self._content(b"content_part.added", place, 0, _part(OutputText()))
        fields = b'"annotation_index":%d,"annotation":%b' % (index, _json(opened.annotations[-1]))
        self._content(b"output_text.annotation.added", place, 0, fields)

    def _refused(self, text: str, opened: Open) -> None:
        place, part = _place(opened.id, opened.index), opened.texts
        self._content(b"content_part.added", place, part, _part(RefusalOut()))
        self._content(b"refusal.delta", place, part, b'"delta":', _json(text))

    def _content(self, kind: bytes, place: bytes, part: int, *fields: _Written) -> None:
        self._tell(kind, place, b',"content_index":%d,' % part, *fields)

    # --------------------------------------------------------------------------------------------------------- items

    def _added(self, item: ItemOut, index: int) -> None:
        self._tell(b"output_item.added", b'"output_index":%d,"item":' % index, _json(item))

    def _done(self, item: ItemOut) -> None:
        written = _json(item)
        self._tell(b"output_item.done", b'"output_index":%d,"item":' % len(self.items), written)
        self.items.append(Raw(written))

    def _ended(self, item: MessageOut | ReasoningOut) -> None:
        place = _place(item.id, len(self.items))
        if isinstance(item, ReasoningOut):
            for part in item.summary:
                self._tell(b"reasoning_summary_text.done", place, b',"summary_index":0,"text":', _json(part.text))
                self._tell(b"reasoning_summary_part.done", place, b',"summary_index":0,', _part(part))
        else:
            for number, said in enumerate(item.content):
                self._part_done(said, place, number)
        self._done(item)

    def _part_done(self, part: OutputText | RefusalOut, place: bytes, number: int) -> None:
        if isinstance(part, RefusalOut):
            self._content(b"refusal.done", place, number, b'"refusal":', _json(part.refusal))
        else:
            fields = (b'"text":', _json(part.text), b',"logprobs":', _json(part.logprobs))
            self._content(b"output_text.done", place, number, *fields)
        self._content(b"content_part.done", place, number, _part(part))

    def _whole(self, item: ItemOut) -> None:
        index = len(self.items)
        place = _place(item.id, index)
        if isinstance(item, CompactionOut):
            self._added(item, index)
        elif isinstance(item, ImageCallOut):
            self._added(ImageCallOut(item.id, "in_progress", None), index)
            for step in (b"in_progress", b"generating", b"completed"):
                self._tell(b"image_generation_call." + step, place)
        elif isinstance(item, CustomCallOut):
            self._added(CustomCallOut(item.id, item.call_id, item.name, "", item.namespace), index)
            self._grown(b"custom_tool_call_input", place, b',"input":', item.input)
        else:
            assert isinstance(item, FunctionCallOut)
            self._added(FunctionCallOut(item.id, item.call_id, item.name, "", "in_progress", item.namespace), index)
            field = b',"name":%b,"arguments":' % _json(item.name)
            self._grown(b"function_call_arguments", place, field, item.arguments)
        self._done(item)

    def _grown(self, kind: bytes, place: bytes, field: bytes, text: str) -> None:
        written = _json(text)
        self._tell(kind + b".delta", place, b',"delta":', written)
        self._tell(kind + b".done", place, field, written)


def _place(item_id: str, index: int) -> bytes:
    return b'"item_id":"%b","output_index":%d' % (item_id.encode(), index)


def _part(part: Any) -> bytes:
    return b'"part":' + _json(part)


def _text_of(run: bytearray) -> Raw:
    """Return one text of those that were written one after the other; ``run`` is used up.

    Where one ends and the next begins stand two quotes, or three if the one ends in a quote of its own: any two of them
    are those to leave out. Nowhere else stand two, but at the very end.
    """
    last = run.pop()
    text = run.replace(b'""', b"")
    text.append(last)
    return Raw(text)
