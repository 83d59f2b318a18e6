"""Gemini's own answer, byte for byte: searched for what dispatch must know, and no events."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gemproxy.converter.api import Format, Known, Operation, Plan, Settled
from gemproxy.converter.sse import SSEDecoder
from gemproxy.converter.transcript import ErrorFrame, Usage
from gemproxy.errors import Failure, UpstreamFault
from tests.apis.words import WORDS, Prompt, failure_event


class Through:
    heavy = False
    usage = Usage()
    reasons: Sequence[str] = ()

    def __init__(self, stream: bool) -> None:
        self._sse, self._stream = SSEDecoder(), stream
        self._whole = b""
        self._ended = False
        self._fault: ErrorFrame | UpstreamFault | None = None

    @property
    def held(self) -> int:
        return self._sse.held + len(self._whole)

    @property
    def broken(self) -> bool:
        return self._fault is not None

    def check(self) -> None:
        if self._fault is not None:
            raise self._fault

    def feed(self, piece: bytes) -> bytes:
        out = b"".join(
            b"data: %b\n\n" % frame if self._stream else frame for frame in self._well(self._sse.feed(piece))
        )
        if self._fault is not None and not out:
            raise self._fault
        if self._stream:
            return out
        self._whole += out
        return b""

    def finish(self) -> bytes:
        last = b"".join(self._well(self._sse.finish()))
        if not self._ended and self._fault is None:
            self._fault = UpstreamFault("The answer was cut.")
        self.check()
        return last if self._stream else self._whole + last

    def failure_event(self, failure: Failure) -> bytes | None:
        return None

    def work(self) -> bytes:
        raise AssertionError("nothing takes long here")

    def _well(self, frames: Sequence[bytes]) -> list[bytes]:
        well: list[bytes] = []
        for frame in frames:
            if b'"error"' in frame:
                self._fault = ErrorFrame(frame)
            elif not _is_answer(frame):
                self._fault = UpstreamFault("That is no answer.")
            if self._fault is not None:
                break
            self._ended |= b'"finishReason"' in frame
            well.append(frame)
        return well


def _is_answer(frame: bytes) -> bool:
    try:
        return "candidates" in msgspec.json.decode(frame, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False


class BytesThrough(Prompt):
    def format(self, stream: bool, known: Known) -> Format:
        return Format("text/event-stream", failure_event=failure_event) if stream else Format()

    def plan(self, known: Known, settled: Settled) -> Plan:
        return Plan((self.call(settled),), lambda number, dialect: Through(settled.stream))


BYTES_THROUGH = Operation(WORDS, ("/through/{model}",), BytesThrough.read)
