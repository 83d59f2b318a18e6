"""What the upstream of a soak answers: the text that belongs to the question's number, often with something wrong.

In: a recorded request and a source of chance. Out: an ``Answer`` for the simulated Gemini to play. ``expected`` tells
the clients what a right answer says.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from gemproxy.simulator import (
    Answer,
    CutOff,
    Hang,
    Pause,
    Recorded,
    Reset,
    drip,
    error_answer,
    frames_answer,
    sse,
    unary_answer,
)
from gemproxy.simulator.script import Step

HEALTHY = 0.72  # share of answers with nothing wrong
PACE = (0.02, 0.12)  # seconds between two frames, from and to
PAGE = b"<html><head><title>502 Server Error</title></head></html>"
FLOOD = "soak flood"  # the question that gets more than the system takes for a client that does not read
FLOOD_FRAME = 6_000_000  # bytes
KEPT = 4_000  # bytes of a question in which its number stands
_NUMBER = re.compile(rb"soak question (\d+)")


def expected(number: int) -> list[str]:
    """Return the pieces of the one right answer to a question."""
    chance = random.Random(number)
    words = [f"answer-{number}"] + [
        f"word{chance.randrange(10_000)}-\u00e9\u4e16" for _ in range(chance.randint(3, 16))
    ]
    return [f"{word} " for word in words]


def frames(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return the frames of a stream that says these texts and ends well."""
    said: list[dict[str, Any]] = [
        {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}]} for text in texts
    ]
    said[-1]["candidates"][0]["finishReason"] = "STOP"
    said[-1]["usageMetadata"] = {
        "promptTokenCount": 3,
        "candidatesTokenCount": len(said),
        "totalTokenCount": 3 + len(said),
    }
    return said


class Faulty:
    """Answers requests; ``faults`` counts what was done wrong, by name."""

    def __init__(self, chance: random.Random) -> None:
        self.faults: Counter[str] = Counter()
        self._chance = chance

    def answer(self, request: Recorded) -> Answer:
        """Return what this request gets."""
        if FLOOD.encode() in request.body[:KEPT]:
            return frames_answer(frames(["a" * FLOOD_FRAME] * 2))
        found = _NUMBER.search(request.body[:KEPT])
        texts = expected(int(found[1])) if found else ["?"]
        good = self._good(texts, stream=request.call == "streamGenerateContent")
        if self._chance.random() < HEALTHY:
            return good
        name = self._chance.choice(list(FAULTS))
        self.faults[name] += 1
        return FAULTS[name](good, self._chance)

    def _good(self, texts: list[str], *, stream: bool) -> Answer:
        if stream:
            return frames_answer(frames(texts)).paced(self._chance.uniform(*PACE))
        return unary_answer(frames(["".join(texts)])[0]).after(Pause(self._chance.uniform(0.05, 0.8)))


# ----------------------------------------------------------------------------------------------------------- the faults

Fault = Callable[[Answer, random.Random], Answer]
OVERLOADED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
MINUTE = {
    "error": {
        "code": 429,
        "message": "Quota exceeded.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.2s"}],
    }
}


def _broken_off(answer: Answer, chance: random.Random, *steps: Step) -> Answer:
    """Return the answer with these steps in the place of its rest."""
    kept = answer.body[: chance.randrange(len(answer.body) + 1)]
    if chance.random() < 0.5 and kept and isinstance(kept[-1], bytes):
        kept = (*kept[:-1], kept[-1][: len(kept[-1]) // 2])
    return msgspec.structs.replace(answer, body=(*kept, *steps))


def _instead(steps: tuple[Step, ...]) -> Fault:
    return lambda answer, _: msgspec.structs.replace(answer, body=steps)


def _ends(*steps: Step) -> Fault:
    return lambda answer, chance: _broken_off(answer, chance, *steps)


def _refuses(answer: Answer) -> Fault:
    return lambda *_: answer


def _crawls(answer: Answer, chance: random.Random) -> Answer:
    data = b"".join(step for step in answer.body if isinstance(step, bytes))
    return msgspec.structs.replace(answer, body=drip(data, chance.choice([1, 7, 50]) + len(data) // 400, 0.002))


def _thinks_aloud(answer: Answer, chance: random.Random) -> Answer:
    thought = {"candidates": [{"content": {"parts": [{"text": "hm " * 80_000, "thought": True}], "role": "model"}}]}
    if answer.content_type != "text/event-stream":
        return answer
    return msgspec.structs.replace(answer, body=(sse(thought), *answer.body))


FAULTS: dict[str, Fault] = {
    "reset before headers": lambda answer, _: answer.after(Reset()),
    "reset": _ends(Reset()),
    "cut off": _ends(CutOff()),
    "end without finish": _ends(),
    "hang": _ends(Hang()),
    "error frame": _ends(b"\r\n\r\n", sse(OVERLOADED)),
    "invalid JSON": _ends(b"data: {nonsense}\r\n\r\n"),
    "HTML in a 200": _instead((PAGE,)),
    "empty answer": _instead((b"",)),
    "overloaded": _refuses(error_answer(503, OVERLOADED)),
    "internal": _refuses(error_answer(500, "Internal error encountered.")),
    "quota for a moment": _refuses(error_answer(429, MINUTE)),
    "HTML 502": _refuses(error_answer(502, PAGE, content_type="text/html")),
    "late headers": lambda answer, chance: answer.after(Pause(chance.uniform(0.5, 2.5))),
    "gzip": lambda answer, _: msgspec.structs.replace(answer, gzip=True),
    "single bytes": _crawls,
    "huge frame": _thinks_aloud,
}
