"""Golden scenarios: ``tests/data/<scenario>.frames.txt`` and what gemproxy makes of it.

A frames file holds one upstream frame (JSON) a line. ``GOLDEN=write pytest tests/converter/test_golden.py`` writes the
expected files anew; the diff is the review.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from gemproxy.converter.chat.chunks import ChatChunkWriter
from gemproxy.converter.chat.completion import ChatCompletionFold
from gemproxy.converter.chat.objects import Heading
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.transcoder import Transcoder
from gemproxy.wire.gemini import GenerateResponse

DATA = Path(__file__).parent / "data"
Decode = Callable[[bytes], GenerateResponse]
decode: Decode = msgspec.json.Decoder(GenerateResponse).decode
ENVELOPE = Heading("chatcmpl-1", 1_800_000_000, "gemini-test", "ai_studio/gemini-test", include_usage=True)


def scenarios() -> list[str]:
    """Return the names of all scenarios."""
    return sorted(path.name.removesuffix(".frames.txt") for path in DATA.glob("*.frames.txt"))


def frames(scenario: str) -> list[bytes]:
    """Return the upstream frames of a scenario."""
    return [line for line in (DATA / f"{scenario}.frames.txt").read_bytes().split(b"\n") if line]


def sse(frames: list[bytes], eol: bytes = b"\r\n") -> bytes:
    """Return frames as Google streams them."""
    return b"".join(b"data: " + frame + eol + eol for frame in frames)


def transcoder(*, stream: bool, envelope: Heading = ENVELOPE, decode: Decode = decode) -> Transcoder:
    """Return a transcoder whose call ids are ``call_0``, ``call_1`` ..."""
    count = itertools.count()
    writer = ChatChunkWriter(envelope) if stream else ChatCompletionFold(envelope)
    return Transcoder(decode, AnswerReader(lambda: f"call_{next(count)}"), writer)


def converted(made: Transcoder, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what the client gets for these pieces of an upstream body, as the dispatcher does: then the fault."""
    for piece in pieces:
        yield made.feed(piece)
        yield from late(made)
    yield made.finish()
    yield from late(made)


def late(made: Transcoder) -> Iterator[bytes]:
    """Yield what was put off, as long as it ended well."""
    made.check()
    if made.heavy:
        yield made.work()
        made.check()


def run(body: bytes, *, stream: bool, step: int = 0, envelope: Heading = ENVELOPE) -> bytes:
    """Return what the client gets for an upstream body cut into pieces of ``step`` bytes (0: whole)."""
    pieces = [body[i : i + step] for i in range(0, len(body), step)] if step else [body]
    return b"".join(converted(transcoder(stream=stream, envelope=envelope), pieces))
