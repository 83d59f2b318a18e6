"""What a scripted upstream answers: values only, played by ``player``.

In: what a test wants to happen, as an ``Answer`` (status, headers, and a body of steps). Out: the answer that the
next request gets, chosen by credential, model and method. Must not touch sockets and not know what Gemini means.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gemproxy.simulator.recorder import Recorded

JSON = "application/json; charset=UTF-8"
SSE = "text/event-stream"
GENERATING = ("generateContent", "streamGenerateContent")


class Pause(Struct, frozen=True):
    """Send nothing for this many seconds."""

    seconds: float


class Wait(Struct, frozen=True):
    """Send nothing until the test sets the event."""

    event: asyncio.Event


class Reset(Struct, frozen=True):
    """Abort the TCP connection: the caller sees a connection reset (RST)."""


class CutOff(Struct, frozen=True):
    """Close the connection in good order but too early: no last chunk, or short of Content-Length."""


class Hang(Struct, frozen=True):
    """Never go on, until the caller hangs up or the simulator closes."""


Step = bytes | Pause | Wait | Reset | CutOff | Hang


class Answer(Struct, frozen=True):
    """One HTTP answer. ``before`` is played while the status line is still withheld (it holds no bytes).

    The body goes out chunked, one write a piece, unless ``content_length`` announces a length: then it is sent plain,
    and a ``CutOff`` or a short body breaks that promise. ``gzip`` compresses the pieces and says so in the header.
    """

    body: tuple[Step, ...] = ()
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = {}
    before: tuple[Step, ...] = ()
    content_length: int | None = None
    gzip: bool = False

    def after(self, *steps: Step) -> Answer:
        """Return the same answer with these steps played before its status line."""
        return msgspec.structs.replace(self, before=(*steps, *self.before))

    def then(self, *steps: Step) -> Answer:
        """Return the same answer with these steps appended to its body."""
        return msgspec.structs.replace(self, body=(*self.body, *steps))

    def paced(self, seconds: float) -> Answer:
        """Return the same answer with a pause between any two pieces of its body."""
        return msgspec.structs.replace(self, body=tuple(_with_pauses(self.body, seconds)))


def _with_pauses(body: Iterable[Step], seconds: float) -> Iterator[Step]:
    for number, step in enumerate(body):
        if number:
            yield Pause(seconds)
        yield step


Scripted = Answer | Callable[[Recorded], Answer]


# ------------------------------------------------------------------------------------------------ making answers


def drip(data: bytes, size: int = 1, pause: float = 0.0) -> tuple[Step, ...]:
    """Return the bytes as pieces of ``size``, with a pause between them so that each travels alone."""
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return tuple(_with_pauses(pieces, pause))


def sse(frame: Mapping[str, Any] | bytes, *, crlf: bool = True) -> bytes:
    """Return one SSE frame as Google writes it; bytes are taken for the JSON text."""
    text = frame if isinstance(frame, bytes) else msgspec.json.encode(frame)
    return b"data: " + text + (b"\r\n\r\n" if crlf else b"\n\n")


def pretty(value: Any) -> bytes:
    """Return JSON laid out with two spaces, as Google's errors and unary answers are."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


def array_pieces(frames: Iterable[Mapping[str, Any] | bytes]) -> tuple[bytes, ...]:
    """Return a streamed JSON array, a piece per element: what comes without ``alt=sse`` (docs/protocol.md S2)."""
    texts = [frame if isinstance(frame, bytes) else pretty(frame) for frame in frames]
    pieces = [(b"[" if number == 0 else b",\r\n") + text + b"\n" for number, text in enumerate(texts)]
    return (*pieces, b"]" if pieces else b"[]")


def frames_answer(frames: Iterable[Mapping[str, Any] | bytes], *, crlf: bool = True, sse: bool = True) -> Answer:
    """Return a 200 that streams these frames, one write each; ``sse=False`` gives the JSON array."""
    if not sse:
        return Answer(array_pieces(frames))
    return Answer(tuple(_sse(frame, crlf=crlf) for frame in frames), content_type=SSE)


_sse = sse


def unary_answer(value: Mapping[str, Any] | bytes, *, status: int = 200) -> Answer:
    """Return one JSON document; bytes go out as they are."""
    return Answer((value if isinstance(value, bytes) else pretty(value),), status=status)


def error_answer(
    status: int, body: Mapping[str, Any] | bytes | str, *, content_type: str = JSON, headers: Mapping[str, str] = {}
) -> Answer:
    """Return a refusal: a JSON object, a text taken for Google's ``error.message``, or bytes as they are."""
    if isinstance(body, str):
        body = {"error": {"code": status, "message": body, "status": "UNKNOWN"}}
    data = body if isinstance(body, bytes) else pretty(body)
    return Answer((data,), status=status, content_type=content_type, headers=dict(headers))


def text_answer(text: str, *, finish: str | None = "STOP", model: str = "gemini-2.5-flash") -> Answer:
    """Return a stream of one AI Studio frame that says ``text``."""
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    spoken = len(text.split())
    usage = {"promptTokenCount": 1, "candidatesTokenCount": spoken, "totalTokenCount": 1 + spoken}
    frame = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "sim-scripted"}
    return frames_answer([frame])


_TYPES = {".sse": SSE, ".html": "text/html; charset=UTF-8"}


def replay(path: Path, *, status: int | None = None, size: int = 0) -> Answer:
    """Return a recorded body, byte for byte; in pieces of ``size`` when given.

    Left out, the status is the number that the file name begins with (``429-….json``), else 200.
    """
    data = path.read_bytes()
    named = re.match(r"[1-5]\d\d(?=[-_])", path.name)
    status = status or (int(named[0]) if named else 200)
    pieces = drip(data, size) if size else (data,)
    return Answer(pieces, status=status, content_type=_TYPES.get(path.suffix, JSON))


# ------------------------------------------------------------------------------------------------ choosing one


class Rule(Struct):
    """One queued answer and whom it is for; ``times`` None is for ever."""

    answer: Scripted
    times: int | None = 1
    credential: str | None = None
    model: str | None = None
    method: str | None = None

    def fits(self, request: Recorded) -> bool:
        """Tell whether this request gets the answer; without a method only generating requests do."""
        if request.call not in (GENERATING if self.method is None else (self.method,)):
            return False
        if self.credential is not None and self.credential not in (request.credential, request.account):
            return False
        return self.model is None or self.model == request.model


class Script:
    """The queue of answers: first match first, each as often as it says."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        """Queue an answer behind those that are there."""
        self.rules.append(rule)

    def take(self, request: Recorded) -> Answer | None:
        """Return the answer for this request and count it; None: the simulated Gemini speaks."""
        rule = next((rule for rule in self.rules if rule.fits(request)), None)
        if rule is None:
            return None
        if rule.times is not None:
            rule.times -= 1
            if rule.times <= 0:
                self.rules.remove(rule)
        return rule.answer if isinstance(rule.answer, Answer) else rule.answer(request)
