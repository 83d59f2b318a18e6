"""Events -> the events of a stream of Responses. Order and form: docs/protocol.md 7.2. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from gemproxy.converter import events
from gemproxy.converter.responses.heading import Heading
from gemproxy.converter.responses.output import EACH, MOST_KEPT, Open, Output
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

_json: Final = msgspec.json.Encoder().encode


def _event(kind: bytes) -> bytes:
    return b'event: response.%b\ndata: {"type":"response.%b",' % (kind, kind)


def _tail(number: int) -> bytes:
    return b',"logprobs":[],"sequence_number":%d}\n\n' % number


TAILS: Final = 2048
_TAILS: Final = [_tail(number) for number in range(TAILS)]  # to write the number took a fifth of a delta
_DELTA: Final = _event(b"output_text.delta")


class Stream(Output):
    """Takes events, and returns OpenAI's. ``response.created`` comes before the first."""

    def __init__(self, heading: Heading) -> None:
        super().__init__(heading)
        self._told = 0  # events so far: the next one's number
        self._delta_of: Open | None = None
        self._delta_head = b""  # all that stands before the text of a delta, encoded once an item

    def write(self, event: events.Event) -> bytes:
        """Return the events that tell this one."""
        if type(event) is events.Text and self._delta_of is not None and self._delta_of is self._open and event.text:
            # the common one, told here: one encode of the text, and no call of ours
            self.kept += len(event.text) + EACH
            if self.kept > MOST_KEPT:
                self._keep(0)
            self._delta_of.pieces.append(event.text)
            number = self._told
            self._told = number + 1
            return self._delta_head + _json(event.text) + (_TAILS[number] if number < TAILS else _tail(number))
        return self._begin() + super().write(event)

    def compacted(self, sealed: str) -> bytes:
        """Return the events that tell the summary."""
        return self._begin() + super().compacted(sealed)

    def _delta(self, text: str | Raw) -> bytes:
        number = self._told
        self._told = number + 1
        return b"".join((self._delta_head, _json(text), _tail(number)))

    def finish(self) -> bytes:
        """Return the event that carries the whole response."""
        return self._begin() + self._tell(self.status.encode(), b'"response":' + super().finish())

    def failure_event(self, failure: Failure) -> bytes:
        """Return the end of a stream that failed: what was cut off is not in it, and is never called done."""
        fault = self.heading.error(failure)
        return self._begin() + self._tell(b"failed", b'"response":' + self._response("failed", fault))

    def _begin(self) -> bytes:
        if self._told:
            return b""
        whole = b'"response":' + self.heading.response("in_progress", [], None, None, None)
        return self._tell(b"created", whole) + self._tell(b"in_progress", whole)

    def _tell(self, kind: bytes, fields: bytes) -> bytes:
        number = self._told
        self._told = number + 1
        return b"".join((_event(kind), fields, b',"sequence_number":%d}\n\n' % number))

    def _place(self, opened: Open) -> bytes:
        return b'"item_id":"%b","output_index":%d' % (opened.id.encode(), opened.index)

    # --------------------------------------------------------------------------------------------------------- items

    def _added(self, item: ItemOut, index: int) -> bytes:
        return self._tell(b"output_item.added", b'"output_index":%d,"item":%b' % (index, _json(item)))

    def _done(self, item: ItemOut, index: int) -> bytes:
        return self._tell(b"output_item.done", b"".join((b'"output_index":%d,"item":' % index, _json(item))))

    def _text_added(self, text: str | Raw, opened: Open) -> bytes:
        place = self._place(opened)
        if opened.summary:
            told = b"" if len(opened.pieces) > 1 else self._summary(b"part.added", place, _part(SummaryText()))
            return told + self._tell(
                b"reasoning_summary_text.delta", b"".join((place, b',"summary_index":0,"delta":', _json(text)))
            )
        told = b""
        if len(opened.pieces) == 1 and not opened.annotations:
            told = self._content(b"content_part.added", place, 0, _part(OutputText()))
        self._delta_of = opened
        self._delta_head = _DELTA + place + b',"content_index":0,"delta":'
        return told + self._delta(text)

    def _summary(self, kind: bytes, place: bytes, fields: bytes) -> bytes:
        return self._tell(b"reasoning_summary_" + kind, b"".join((place, b',"summary_index":0,', fields)))

    def _content(self, kind: bytes, place: bytes, part: int, fields: bytes) -> bytes:
        return self._tell(kind, b"".join((place, b',"content_index":%d,' % part, fields)))

    def _annotated(self, opened: Open) -> bytes:
        place, index = self._place(opened), len(opened.annotations) - 1
        told = b""
        if not opened.pieces and not index:
            told = self._content(b"content_part.added", place, 0, _part(OutputText()))
        fields = b'"annotation_index":%d,"annotation":%b' % (index, _json(opened.annotations[-1]))
        return told + self._content(b"output_text.annotation.added", place, 0, fields)

    def _refused(self, text: str, opened: Open) -> bytes:
        place, part = self._place(opened), opened.texts
        return self._content(b"content_part.added", place, part, _part(RefusalOut())) + self._content(
            b"refusal.delta", place, part, b'"delta":' + _json(text)
        )

    def _closed(self, item: ItemOut, opened: Open) -> bytes:
        place, told = self._place(opened), b""
        if isinstance(item, ReasoningOut):
            for part in item.summary:
                told += self._summary(b"text.done", place, b'"text":' + _json(part.text))
                told += self._summary(b"part.done", place, _part(part))
        elif isinstance(item, MessageOut):
            for number, said in enumerate(item.content):
                told += self._part_done(said, place, number)
        return told + self._done(item, opened.index)

    def _part_done(self, part: OutputText | RefusalOut, place: bytes, number: int) -> bytes:
        if isinstance(part, RefusalOut):
            told = self._content(b"refusal.done", place, number, b'"refusal":' + _json(part.refusal))
        else:
            fields = b"".join((b'"text":', _json(part.text), b',"logprobs":', _json(part.logprobs)))
            told = self._content(b"output_text.done", place, number, fields)
        return told + self._content(b"content_part.done", place, number, _part(part))

    def _whole(self, item: ItemOut, index: int) -> bytes:
        """Tell an item that came in one piece: a call, or an image."""
        place = b'"item_id":"%b","output_index":%d' % (item.id.encode(), index)
        if isinstance(item, CompactionOut):
            told = self._added(item, index)
        elif isinstance(item, ImageCallOut):
            begun: ItemOut = ImageCallOut(item.id, "in_progress", None)
            told = self._added(begun, index)
            for step in (b"in_progress", b"generating", b"completed"):
                told += self._tell(b"image_generation_call." + step, place)
        elif isinstance(item, CustomCallOut):
            begun = CustomCallOut(item.id, item.call_id, item.name, "", item.namespace)
            told = self._added(begun, index) + self._grown(b"custom_tool_call_input", place, b"input", item.input)
        else:
            assert isinstance(item, FunctionCallOut)
            begun = FunctionCallOut(item.id, item.call_id, item.name, "", "in_progress", item.namespace)
            told = self._added(begun, index) + self._grown(
                b"function_call_arguments", place, b'name":%b,"arguments' % _json(item.name), item.arguments
            )
        return told + self._done(item, index)

    def _grown(self, kind: bytes, place: bytes, field: bytes, text: str) -> bytes:
        written = _json(text)
        return self._tell(kind + b".delta", b"".join((place, b',"delta":', written))) + self._tell(
            kind + b".done", b"".join((place, b',"', field, b'":', written))
        )


def _part(part: Any) -> bytes:
    return b'"part":' + _json(part)
