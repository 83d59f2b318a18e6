"""Bytes of an upstream body -> frames (JSON as bytes). Pure; knows neither Gemini's nor OpenAI's fields.

Takes what Google really sends (docs/protocol.md 1.2): SSE with CRLF or LF cut anywhere, a bare JSON object (a unary
body, or an error in the middle of a stream), or one JSON array. Lines are split at LF alone: U+2028, U+0085 and their
like may stand raw inside JSON strings.
"""

from __future__ import annotations

import re

import msgspec

from gemproxy.errors import UpstreamFault
from gemproxy.load.weigh import SMALL_SIZE
from gemproxy.wire import UNREADABLE
from gemproxy.wire.incoming import UNBEARABLE, bearable, whole

DONE = b"data: [DONE]\n\n"
_FIELDS = (b":", b"event:", b"id:", b"retry:")  # SSE lines without a meaning here
_COMMENTS = re.compile(rb"\A(?::[^\n]*+\n)++")  # in a row
_WHITE_SPACE = b" \t\r\n"
_BARE_STARTS = b"{[<"  # how JSON begins, or the HTML page of a front end
MANY_LINES = 1_000  # lines of one piece, at a few microseconds each
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_PIECE_OVERHEAD = 64  # bytes of a line or a piece beyond its own: 60 MB of empty ``data:`` lines are no empty event


class SSEDecoder:
    """Feed pieces, get frames; ``finish`` gives what only the end of the body completes.

    ``whole`` is True after ``finish`` when the body ended in bare JSON: that cannot have been cut and still parse.
    ``limit`` bounds one frame, and ``held`` is what is kept of one that is not complete yet; both in bytes of memory.
    """

    __slots__ = ("_data", "_data_held", "_fresh", "_limit", "_pieces", "_tail", "held", "whole")

    def __init__(self, limit: int = 128 << 20) -> None:
        self._limit = limit
        self._fresh = True  # nothing but white space was seen
        self._pieces: list[bytes] = []  # the unfinished line: joined once, so a huge frame costs linear time
        self._data: list[bytes] = []  # ``data:`` lines of the unfinished event
        self._data_held = 0  # counted as they come: to add them up for each piece would be quadratic
        self._tail: list[bytes] | None = None  # from here on the body is JSON, not SSE
        self.held = 0
        self.whole = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the frames that this piece completes; raises ``UpstreamFault`` beyond the limit."""
        if not self.held:
            events = _whole_events(piece)
            if events is not None:
                self._fresh = False
                return events
        if self._fresh:
            self._open(piece)
        self.held += len(piece) + _PIECE_OVERHEAD
        if self.held > self._limit:
            raise UpstreamFault(f"The upstream sent a frame of more than {self._limit} bytes.")
        if self._tail is not None:
            self._tail.append(piece)
            return []
        cut = piece.rfind(b"\n") + 1
        if not cut:
            self._pieces.append(piece)
            return []
        return self._take(piece, cut)

    def heavy(self, piece: bytes) -> bool:
        """Return whether to take this piece, and the frames that it completes, may take long."""
        if self._tail is not None or (self._fresh and piece.lstrip(_WHITE_SPACE)[:1] in _BARE_STARTS):
            return False  # it is only kept
        return (
            len(piece) > SMALL_SIZE
            or (self.held + len(piece) > SMALL_SIZE and b"\n" in piece)
            or piece.count(b"\n") > MANY_LINES
        )

    def finish(self) -> list[bytes]:
        """Return the frames that the end of the body completes; raises ``UpstreamFault`` for a cut array.

        The JSON of a frame is the reader's to check.
        """
        frames = self._split(b"".join(self._pieces)) if self._pieces else []
        self._pieces = []
        if self._data:
            frames.append(self._event())
        if self._tail is not None:
            body, self._tail = b"".join(self._tail).lstrip(_WHITE_SPACE), []
            frames += _json(body)
            self.whole = True
        self.held = 0
        return frames

    def _open(self, piece: bytes) -> None:
        start = piece.lstrip(_WHITE_SPACE)[:1]
        if start:
            self._fresh = False
            if start in _BARE_STARTS:
                self._tail = []

    def _take(self, piece: bytes, cut: int) -> list[bytes]:
        block = b"".join((*self._pieces, piece[:cut])) if self._pieces else piece[:cut]
        self._pieces = []
        rest = piece[cut:]
        # two bytes are looked for at a fourth of the speed of one: for a large block the usual way is the slower one
        frames = None if self._data or len(block) > SMALL_SIZE else _whole_events(block)
        if frames is None:
            frames = self._split(block[:-1])
        self.held = self._data_held
        if self._tail is not None:
            self._tail.append(rest)
            self.held += sum(map(len, self._tail)) + _PIECE_OVERHEAD
            rest = b""
        self._pieces = [rest] if rest else []
        self.held += len(rest) + _PIECE_OVERHEAD if rest else 0
        return frames

    def _split(self, block: bytes) -> list[bytes]:
        frames: list[bytes] = []
        if block.startswith(b":"):
            block = _COMMENTS.sub(b"", block)  # at a tenth of what it costs to look at each
        lines = block.split(b"\n")
        for number, line in enumerate(lines):
            if line.startswith(b"data:"):
                self._data.append(line[5:])  # JSON takes the space before and the CR behind
                self._data_held += len(line) + _PIECE_OVERHEAD
            elif line == b"\r" or not line:
                if self._data:
                    frames.append(self._event())
            elif not line.startswith(_FIELDS) and line.strip(_WHITE_SPACE):
                self._tail = [b"\n".join(lines[number:]), b"\n"]  # an error object without ``data:``, mid-stream
                break
        return frames

    def _event(self) -> bytes:
        data, self._data, self._data_held = self._data, [], 0
        return data[0] if len(data) == 1 else b"\n".join(data)


def _whole_events(block: bytes) -> list[bytes] | None:
    """Return the events of a block of nothing else, as Google writes them: one ``data:`` line each and CRLF; or None.

    The usual case, at a fraction of the cost of looking at every line.
    """
    if block.startswith(b"data:") and block.endswith(b"\r\n\r\n"):
        events = block[5:-4].split(b"\r\n\r\ndata:")
        if block.count(b"\n") == 2 * len(events):
            return events
    return None


def _json(body: bytes) -> list[bytes]:
    if body[:1] != b"[":
        return [body]  # whether it is whole shows when it is decoded: once is enough
    if not bearable(body):
        raise UpstreamFault(UNBEARABLE)
    for heal in (bytes, whole):  # half a character makes all of an array unreadable
        try:
            return [bytes(raw) for raw in _ARRAY.decode(heal(body))]
        except UNREADABLE:
            continue
    raise UpstreamFault("The upstream's answer was cut off or is not JSON.")
