"""What an upstream can do wrong, at every moment of an answer; ``matrix`` puts every API through it.

Rows: a fault at a moment of the answer. Columns: unary, stream (status held), and stream whose status went out at once
(``timeouts.hold = 0``); each with a fault that happens once and one that stays.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum

import msgspec
from msgspec import Struct

from gemproxy.simulator import CutOff, Hang, Pause, Reset, drip, sse
from gemproxy.simulator.script import Step
from tests.faults.raw_upstream import END, chunk, head

TEXTS = ("Hello ", "wide ", "world.")
TEXT = "".join(TEXTS)
HUGE = "x" * (2 << 20)  # more than goes through in one stretch (``load/turns``)
OVERLOADED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
PAGE = b"<html><head><title>502 Server Error</title></head><body>Bad Gateway</body></html>\n"
ARRIVED = Pause(0.25)  # so that what went before a fault has been read when it happens


class Moment(StrEnum):
    BEFORE = "before headers"
    HEADERS = "after headers"
    MID = "mid-frame"
    CHUNK = "after the first chunk"


class Column(StrEnum):
    UNARY = "unary"
    STREAM = "stream"
    HELD = "stream, hold 0"


def _candidate(text: str, *, last: bool) -> dict[str, object]:
    said: dict[str, object] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    return {"candidates": [said | ({"finishReason": "STOP"} if last else {})], "modelVersion": "gemini-test"}


def frames(texts: Iterable[str]) -> list[bytes]:
    """Return the frames of a stream that says these texts and ends well."""
    said = list(texts)
    return [sse(_candidate(text, last=number == len(said))) for number, text in enumerate(said, 1)]


class Wire(Struct, frozen=True):
    """A good answer, cut into what is sent before and after the fault."""

    stream: bool
    moment: Moment
    before: bytes
    after: bytes


def wire(stream: bool, moment: Moment, texts: tuple[str, ...] = TEXTS) -> Wire:
    """Return a good answer in two parts; half of the first frame is a chunk of its own."""
    if stream:
        pieces = frames(texts)
    else:
        body = msgspec.json.encode(_candidate("".join(texts), last=True))
        third = len(body) // 3
        pieces = [body[:third], body[third : 2 * third], body[2 * third :]]
    half = len(pieces[0]) // 2
    kind = "text/event-stream" if stream else "application/json; charset=UTF-8"
    coded = [head(kind), *map(chunk, (pieces[0][:half], pieces[0][half:], *pieces[1:])), END]
    cut = {Moment.BEFORE: 0, Moment.HEADERS: 1, Moment.MID: 2, Moment.CHUNK: 3}[moment]
    return Wire(stream, moment, b"".join(coded[:cut]), b"".join(coded[cut:]))


def good(stream: bool) -> tuple[Step, ...]:
    """Return the steps of an answer without any fault."""
    return (wire(stream, Moment.BEFORE).after,)


# ------------------------------------------------------------------------------------------------------- the faults


def plain(status: str, body: bytes, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def reset(at: Wire) -> tuple[Step, ...]:
    return at.before, ARRIVED, Reset()


def hang(at: Wire) -> tuple[Step, ...]:
    return at.before, Hang()


def cut_off(at: Wire) -> tuple[Step, ...]:
    return at.before, ARRIVED, CutOff()


def slow_drip(at: Wire) -> tuple[Step, ...]:
    return at.before, Pause(0.2), *drip(at.after, 40, 0.01)


def single_bytes(at: Wire) -> tuple[Step, ...]:
    return at.before, *drip(at.after, 1)


def invalid_json(at: Wire) -> tuple[Step, ...]:
    if at.moment is Moment.BEFORE:
        return (plain("500 Internal Server Error", b'{"error": {"code": '),)
    nonsense = b"data: {nonsense}\r\n\r\n" if at.stream else b'\x01"nonsense}'  # invalid inside a string too
    return at.before, chunk(nonsense), at.after


def error_frame(at: Wire) -> tuple[Step, ...]:
    if at.moment is Moment.BEFORE:
        return (plain("503 Service Unavailable", msgspec.json.encode(OVERLOADED)),)
    framed = at.stream and at.moment is not Moment.MID
    error = sse(OVERLOADED) if framed else b"\r\n" + msgspec.json.encode(OVERLOADED)
    return at.before, ARRIVED, chunk(error), END


def no_finish(at: Wire) -> tuple[Step, ...]:
    return at.before, ARRIVED, END


def html(at: Wire) -> tuple[Step, ...]:
    if at.moment is Moment.BEFORE:
        return (plain("502 Bad Gateway", PAGE, "text/html"),)
    if at.moment is Moment.HEADERS:
        return head("text/html"), chunk(PAGE), END
    return at.before, ARRIVED, chunk(PAGE), END


def wrong_type(at: Wire) -> tuple[Step, ...]:
    return head("application/octet-stream"), at.after


def huge_frame(at: Wire) -> tuple[Step, ...]:
    if at.moment is Moment.HEADERS:
        return (wire(at.stream, Moment.BEFORE, (HUGE, TEXTS[-1])).after,)
    if at.moment is Moment.MID:
        return wire(at.stream, Moment.MID, (HUGE, TEXTS[-1])).before, CutOff()
    return (wire(at.stream, Moment.BEFORE, (TEXTS[0], HUGE, TEXTS[-1])).after,)


def gzipped(at: Wire) -> tuple[Step, ...]:
    """Return a packed answer although none was asked for; nothing of it is read."""
    if at.moment is Moment.BEFORE:
        refusal = gzip.compress(msgspec.json.encode(OVERLOADED))
        return (plain("503 Service Unavailable\r\nContent-Encoding: gzip", refusal),)
    answer = b"".join(frames(TEXTS)) if at.stream else msgspec.json.encode(_candidate(TEXT, last=True))
    begin = head("text/event-stream" if at.stream else "application/json", more="Content-Encoding: gzip\r\n")
    return begin, chunk(gzip.compress(answer)), END


def not_http(at: Wire) -> tuple[Step, ...]:
    return at.before, ARRIVED, b"NONSENSE\r\n\r\n", CutOff()


def redirect(at: Wire) -> tuple[Step, ...]:
    return (plain("302 Found\r\nLocation: http://127.0.0.1:9/elsewhere", b""),)


def no_content(at: Wire) -> tuple[Step, ...]:
    return (b"HTTP/1.1 204 No Content\r\n\r\n",)


class Fault(Struct, frozen=True):
    """A fault and the status it comes to when it stays, by moment; 0: the answer is whole all the same."""

    name: str
    steps: Callable[[Wire], tuple[Step, ...]]
    status: dict[Moment, int]
    heals: bool = True  # if it happens once, before the content commit
    text: str = TEXT
    unary: int = 0  # where it comes to another status than in a stream

    @property
    def key(self) -> str:
        return self.name.replace(" ", "-")


def _all(status: int) -> dict[Moment, int]:
    return dict.fromkeys(Moment, status)


def _inside(status: int) -> dict[Moment, int]:
    return {moment: status for moment in Moment if moment is not Moment.BEFORE}


FAULTS = (
    Fault("reset", reset, _all(502)),
    # silence before the headers may be a model that thinks: only timeouts.first ends it, and nothing is repeated
    Fault("hang", hang, {Moment.BEFORE: 504}, heals=False),
    Fault("hang in the body", hang, _inside(504)),
    Fault("slow drip", slow_drip, _all(0)),
    Fault("1-byte writes", single_bytes, _all(0)),
    Fault("truncated body", cut_off, _all(502)),
    Fault("invalid JSON", invalid_json, _all(502)),
    Fault("error frame", error_frame, {Moment.BEFORE: 503, Moment.HEADERS: 503}),
    # inside half a frame an error cannot be read: all that is sure is that the answer is broken
    Fault("error in a frame", error_frame, {Moment.MID: 502}),
    Fault("error frame later", error_frame, {Moment.CHUNK: 503}, unary=502),
    Fault("end without finish", no_finish, _inside(502)),
    Fault("HTML 502", html, _all(502)),
    Fault("wrong content type", wrong_type, {Moment.HEADERS: 0}),
    Fault("huge frame", huge_frame, {Moment.HEADERS: 0}, text=HUGE + TEXTS[-1]),
    Fault("huge frame cut", huge_frame, {Moment.MID: 502}),
    Fault("huge frame second", huge_frame, {Moment.CHUNK: 0}, text=TEXTS[0] + HUGE + TEXTS[-1]),
    Fault("gzip", gzipped, {Moment.HEADERS: 502}),
    Fault("gzip refusal", gzipped, {Moment.BEFORE: 503}),
    Fault("not HTTP", not_http, {Moment.BEFORE: 502}),
    # aiohttp only closes the connection, and tells the body's reader nothing
    Fault("broken coding", not_http, _inside(502)),
    Fault("redirect", redirect, {Moment.BEFORE: 502}),
    Fault("204 without a body", no_content, {Moment.BEFORE: 502}),
)
ROWS = [(fault, moment) for fault in FAULTS for moment in fault.status]
KINDS = list(itertools.product(Column, ("once", "always")))
Rows = Sequence[tuple[Fault, Moment]]
Kind = tuple[Column, str]
