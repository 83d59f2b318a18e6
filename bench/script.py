"""What the fake upstream says: a table of answers by name, as Gemini's bytes. Pure.

The name travels as the end of the model's name, so the same body chooses the same answer through gemproxy (which takes
unknown ``gemini-*`` names) and through the floor. Frames are formed as Google forms them: one ``data:`` line with CRLF,
usage, version and id in each of them (docs/protocol.md 1.2).
"""

from __future__ import annotations

from functools import cache

import msgspec
from msgspec import Struct

MODEL = "gemini-2.5-flash"
PROMPT_TOKENS = 21
_WORDS = "It takes all the running you can do to keep in the same place, said the Queen; "


class Script(Struct, frozen=True):
    """One answer. ``frames`` is 0 for a unary one; ``size`` is the length of one text, ``gap`` in seconds."""

    name: str
    frames: int = 0
    size: int = 48
    gap: float = 0.0

    @property
    def model(self) -> str:
        return f"{MODEL}-{self.name}"

    @property
    def method(self) -> str:
        return "streamGenerateContent?alt=sse" if self.frames else "generateContent"

    @property
    def seconds(self) -> float:
        """The time from the first frame to the last."""
        return self.gap * max(self.frames - 1, 0)


SCRIPTS = {
    script.name: script
    for script in (
        Script("small", size=160),
        Script("large", size=64 * 1024),
        Script("burst", frames=1000),
        Script("paced", frames=100, gap=0.02),
        Script("brief", frames=4, gap=0.02),
        Script("nap", frames=6, gap=0.5),
        Script("idle", frames=20, gap=1.0),
    )
}


@cache
def texts(script: Script) -> tuple[str, ...]:
    """Return the text of each frame; all differ, so that a lost or doubled one is seen."""
    return tuple(_text(number, script.size) for number in range(max(script.frames, 1)))


@cache
def said(script: Script) -> str:
    """Return all that the answer says."""
    return "".join(texts(script))


@cache
def frames(script: Script) -> tuple[bytes, ...]:
    """Return the events of a stream."""
    last = script.frames - 1
    return tuple(
        b"data: " + msgspec.json.encode(_frame(text, number, final=number == last)) + b"\r\n\r\n"
        for number, text in enumerate(texts(script))
    )


@cache
def body(script: Script) -> bytes:
    """Return the whole body of the answer."""
    if script.frames:
        return b"".join(frames(script))
    return msgspec.json.format(msgspec.json.encode(_frame(said(script), 0, final=True)), indent=2)


def _text(number: int, size: int) -> str:
    # now and then what JSON must escape and what UTF-8 writes in several bytes
    head = f"{number:04d} " + ('"grüße"\n' if number % 8 == 0 else "")
    return (head + _WORDS * (size // len(_WORDS) + 1))[:size]


def _frame(text: str, number: int, *, final: bool) -> dict[str, object]:
    candidate: dict[str, object] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if final:
        candidate["finishReason"] = "STOP"
    tokens = 12 * (number + 1)
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": PROMPT_TOKENS,
            "candidatesTokenCount": tokens,
            "totalTokenCount": PROMPT_TOKENS + tokens,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": PROMPT_TOKENS}],
        },
        "modelVersion": MODEL,
        "responseId": "bench00aaBBccDDeeFFgg",
    }
