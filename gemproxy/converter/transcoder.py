"""Upstream bytes -> client bytes: ``feed`` pieces, ``finish`` at the end of the body. Pure, h11's shape.

Puts three things in a row: the SSE decoder, the reader (frames -> events) and a writer (events -> bytes). That of a
stream writes each event, that of a whole answer all of them at the end. Bytes that came out commit the content: until
then the attempt may be repeated, after it a failure can only be told.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from gemproxy.converter.events import Event, Finish, Image, Text, ToolCall
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.sse import SSEDecoder
from gemproxy.converter.transcript import ErrorFrame, Usage
from gemproxy.errors import Failure, UpstreamFault
from gemproxy.load.turns import pass_turn
from gemproxy.load.weigh import SMALL_SIZE
from gemproxy.wire import UNREADABLE
from gemproxy.wire.gemini import GenerateResponse
from gemproxy.wire.text import LONG_TEXT, plain

SMALL_PIECE = 1 << 12  # bytes of a piece, which cannot hold much


class Writer(Protocol):
    """Turns events into the client's bytes; ``kept`` counts the bytes of memory that wait for the end.

    One that has ``raw = True`` gets long texts as they came, which saves reading and writing each character of them.
    One whose ``failure_event(failure)`` depends on what it has written has such a method.
    """

    @property
    def kept(self) -> int: ...
    def write(self, event: Event) -> bytes: ...
    def finish(self) -> bytes: ...


class Tape(Protocol):
    """Keeps frames for a bug report."""

    def add(self, frame: bytes) -> None: ...


class Transcoder:
    """What a model says, as a ``Transcript``, for one attempt. After ``feed`` or ``finish`` gave bytes the content is
    committed.

    A failure behind usable frames of one piece must not swallow them: ``feed`` returns their bytes, ``check`` raises.
    ``keep`` hears of every call and image (the signature cache keeps what clients may lose), ``tape`` of every frame.

    ``at_once``: the whole answer is written at its end.
    """

    __slots__ = (
        "_at_once",
        "_decode",
        "_fault",
        "_keep",
        "_kept",
        "_late",
        "_reader",
        "_sse",
        "_tape",
        "_writer",
        "reasons",
    )

    def __init__(
        self,
        decode: Callable[[bytes], GenerateResponse],
        reader: AnswerReader,
        writer: Writer,
        keep: Callable[[ToolCall | Image], None] | None = None,
        tape: Tape | None = None,
        *,
        at_once: bool = False,
    ) -> None:
        self._decode = decode if getattr(writer, "raw", False) else partial(_decode_texts, decode)
        self._reader = reader
        self._writer = writer
        self._keep = keep
        self._tape = tape
        self._sse = SSEDecoder()
        self._fault: UpstreamFault | ErrorFrame | None = None
        self._at_once = at_once
        self._kept = 0  # bytes of a whole answer so far: what is made of it at its end is as large
        self._late: Callable[[list[bytes]], object] | None = None
        self.reasons: list[str] = []  # finish reasons, for the log line

    @property
    def usage(self) -> Usage:
        """The tokens counted so far, for the log line: complete after ``finish``, and what a broken answer cost."""
        return self._reader.usage()

    @property
    def heavy(self) -> bool:
        """Return whether ``work`` must be called before anything else."""
        return self._late is not None

    @property
    def held(self) -> int:
        """Return how many bytes of the answer wait here for the rest of it."""
        return self._sse.held + self._reader.kept + max(self._kept, self._writer.kept)

    def feed(self, piece: bytes) -> bytes:
        """Return the client's bytes for a piece of the body; raises ``UpstreamFault`` or ``ErrorFrame``."""
        if self._at_once:
            self._kept += len(piece)
        if (len(piece) > SMALL_PIECE or self._sse.held or self._reader.kept > SMALL_SIZE) and self._takes_long(piece):
            self._late = partial(self._feed, piece)
            return b""
        written: list[bytes] = []
        try:  # ``_try`` in full: two calls a frame less
            self._read(self._sse.feed(piece), written)
        except (UpstreamFault, ErrorFrame) as fault:
            self._fault = fault
        return self._out(written)

    def _takes_long(self, piece: bytes) -> bool:
        return self._reader.kept > SMALL_SIZE or self._sse.heavy(piece)  # what is kept may come out with the next word

    def work(self) -> bytes:
        """Do what was put off; returns and raises as ``feed`` does."""
        late, self._late = self._late, None
        assert late is not None
        written: list[bytes] = []
        self._try(late, written)
        return self._out(written)

    def _feed(self, piece: bytes, written: list[bytes]) -> None:
        self._read(self._sse.feed(piece), written)

    def _try(self, step: Callable[[list[bytes]], object], written: list[bytes]) -> None:
        try:
            step(written)
        except (UpstreamFault, ErrorFrame) as fault:
            self._fault = fault

    @property
    def broken(self) -> bool:
        """Return whether ``check`` would raise."""
        return self._fault is not None

    def failure_event(self, failure: Failure) -> bytes | None:
        """Return what the writer, if it wants to, says of a failure behind all that it has written."""
        tell = getattr(self._writer, "failure_event", None)
        return None if tell is None else tell(failure)

    def check(self) -> None:
        """Raise the failure that came behind the bytes that ``feed`` or ``finish`` returned last."""
        if self._fault is not None:
            raise self._fault

    def finish(self) -> bytes:
        """Return the last bytes, finish and usage included; raises when the answer was cut, blank or malformed."""
        if self.held > SMALL_SIZE:
            self._late = self._finish
            return b""
        written: list[bytes] = []
        self._try(self._finish, written)
        return self._out(written)

    def _finish(self, written: list[bytes]) -> None:
        rest = self._sse.finish()
        if rest:
            self._read(rest, written)
        written += filter(None, map(self._write, self._reader.finish(self._sse.whole)))
        if self._kept:
            pass_turn(self._kept)
        written.append(self._writer.finish())

    def _out(self, written: list[bytes]) -> bytes:
        if len(written) == 1:
            return written[0]
        out = b"".join(written)
        if self._fault is not None and not out:
            raise self._fault
        return out

    def _read(self, frames: list[bytes], written: list[bytes]) -> None:
        decode, read, write = self._decode, self._reader.read, self._writer.write
        for frame in frames:
            if self._tape is not None:
                self._tape.add(frame)
            try:
                answer = decode(frame)
            except UNREADABLE:
                raise UpstreamFault("The upstream sent a frame that is not a Gemini answer.") from None
            if answer.error is not None:
                raise ErrorFrame(frame)
            for event in read(answer):
                # the common one here: a call less, and it concerns nobody but the writer
                data = write(event) if type(event) is Text else self._write(event)
                if data:
                    written.append(data)

    def _write(self, event: Event) -> bytes:
        if isinstance(event, Finish):
            self.reasons.append(event.reason)
        elif isinstance(event, _LOST) and self._keep is not None:
            self._keep(event)
        return self._writer.write(event)


_LOST = (ToolCall, Image)  # what clients send back without all that came with it


def _decode_texts(decode: Callable[[bytes], GenerateResponse], frame: bytes) -> GenerateResponse:
    """Return a frame whose long texts are decoded, too."""
    answer = decode(frame)
    if len(frame) >= LONG_TEXT:
        for candidate in answer.candidates or ():
            for part in (candidate.content and candidate.content.parts) or ():
                part.text = plain(part.text) if part.text is not None else None
    return answer
