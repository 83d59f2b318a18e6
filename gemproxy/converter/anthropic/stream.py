"""Events -> the events of a stream of Anthropic's. Order and form: docs/protocol.md 10.2. Pure."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gemproxy.converter import events
from gemproxy.converter.anthropic.heading import BEGUN, Heading
from gemproxy.converter.anthropic.output import Output
from gemproxy.wire.anthropic_answers import BlockOut, CitationOut, UsageOut

PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
_json: Final = msgspec.json.Encoder().encode


def message_start(heading: Heading, usage: UsageOut) -> bytes:
    """Return the first event."""
    return _event(b"message_start", b'"message":' + _json(heading.message([], BEGUN, usage)))


class Opening:
    """The first event of one stream, which is told once, by whoever is first: who tells its status, or its answer.

    The two may be in different threads.
    """

    def __init__(self) -> None:
        self._left = [None]

    def take(self) -> bool:
        """Return whether the first event is still to be told; after this it is not."""
        try:
            self._left.pop()
        except IndexError:
            return False
        return True


class Stream(Output):
    """Takes events, and returns Anthropic's; ``message_start`` comes before the first that a client sees."""

    def __init__(self, heading: Heading, opening: Opening) -> None:
        super().__init__(heading)
        self._opening: Opening | None = opening
        self._delta = b""  # all that stands before the text of a delta, encoded once a block

    def write(self, event: events.Event) -> bytes:
        """Return the events that tell this one."""
        if type(event) is events.Text and self._open == "text" and event.text and not self.heading.grounded:
            return self._delta + _json(event.text) + b"}}\n\n"  # the common one, told here: no call of ours
        told = super().write(event)
        return self._opened() + told if told and self._opening is not None else told

    def finish(self) -> bytes:
        """Return the last two events."""
        stop, usage = _json(self._stop), _json(self.usage)
        end = _event(b"message_delta", b"".join((b'"delta":', stop, b',"usage":', usage)))
        return self._opened() + end + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    def _opened(self) -> bytes:
        opening, self._opening = self._opening, None
        return message_start(self.heading, self.usage) if opening is not None and opening.take() else b""

    def _place(self) -> bytes:
        return b'"index":%d' % self._index

    def _begin(self, block: BlockOut) -> bytes:
        kind = b"text" if self._open == "text" else b"thinking"
        self._delta = b"".join(
            (
                b'event: content_block_delta\ndata: {"type":"content_block_delta",',
                self._place(),
                b',"delta":{"type":"%b_delta","%b":' % (kind, kind),
            )
        )
        return _event(b"content_block_start", b"".join((self._place(), b',"content_block":', _json(block))))

    def _grow(self, text: str | Raw) -> bytes:
        return b"".join((self._delta, _json(text), b"}}\n\n"))

    def _sign(self, signature: str) -> bytes:
        return self._other(b"signature_delta", b'"signature":' + _json(signature))

    def _cite(self, citation: CitationOut) -> bytes:
        return self._other(b"citations_delta", b'"citation":' + _json(citation))

    def _fill(self, arguments: str) -> bytes:
        return self._other(b"input_json_delta", b'"partial_json":' + _json(arguments))

    def _other(self, kind: bytes, fields: bytes) -> bytes:
        return _event(
            b"content_block_delta", b"".join((self._place(), b',"delta":{"type":"', kind, b'",', fields, b"}"))
        )

    def _end(self) -> bytes:
        return _event(b"content_block_stop", self._place())


def _event(kind: bytes, fields: bytes) -> bytes:
    return b"".join((b"event: ", kind, b'\ndata: {"type":"', kind, b'",', fields, b"}\n\n"))
