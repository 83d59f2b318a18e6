"""Failures that any client can ask for: ``simulate: WORD`` in its last text.

In: a lawful ``Ask``. Out: a ``Refusal``, a ``Speech``, or a change to the ``Answer`` that would be played.
The words, with N a number (seconds, frames or times):

    refusals   overloaded · quota · quota-day · internal · capacity; with N only the first N times for this text
    speech     blocked · safety · recitation · malformed · unexpected · empty · nothing · truncated · image
               lines N (one frame a line) · words N · say TEXT (exactly that)
    delivery   slow [N] (pause between frames) · think N (silence after the headers) · hold N (headers withheld)
               cut · reset (in mid-answer) · error-frame · error-tail · garbage (in a 200 stream)
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable

import msgspec

from gemproxy.simulator import google_errors as errors
from gemproxy.simulator.ask import Ask
from gemproxy.simulator.frames import Beat, Speech
from gemproxy.simulator.google_errors import Refusal
from gemproxy.simulator.model import CALL_TOKENS, Gemini
from gemproxy.simulator.script import SSE, Answer, CutOff, Pause, Reset, Step, pretty, sse

_SPELL = re.compile(r"simulate: *([a-z-]+)(?: (.*))?", re.DOTALL)


class Spell(msgspec.Struct, frozen=True):
    """A magic word and what stands behind it."""

    word: str
    rest: str

    def number(self, default: float) -> float:
        """Return the number that stands behind the word."""
        found = re.match(r"\d+(?:\.\d+)?", self.rest)
        return float(found[0]) if found else default


def spell(ask: Ask) -> Spell:
    """Return the magic word of this request; an empty one if there is none."""
    found = _SPELL.search(ask.last_text())
    return Spell(found[1], found[2] or "") if found else Spell("", "")


# ------------------------------------------------------------------------------------------------ refusals

_REFUSE: dict[str, Callable[[str], Refusal]] = {
    "overloaded": lambda _: errors.overloaded(),
    "quota": lambda model: errors.quota(model, "Minute", limit=5, delay="41.2s"),
    "quota-day": lambda model: errors.quota(model, "Day", limit=20, delay="38.90923309s"),
    "internal": lambda _: errors.internal(),
    "capacity": errors.no_capacity,
}

_REMEMBERED = 1_000  # texts; beyond that all begin anew


def refuse(ask: Ask, cast: Spell, seen: Counter[str]) -> None:
    """Raise the refusal that was asked for; ``seen`` counts how often a text with a number was refused."""
    if cast.word in _REFUSE and _once_more(ask.last_text(), cast.number(math.inf), seen):
        raise _REFUSE[cast.word](ask.name)


def _once_more(text: str, limit: float, seen: Counter[str]) -> bool:
    if limit == math.inf:
        return True
    if text not in seen and len(seen) >= _REMEMBERED:
        seen.clear()
    seen[text] += 1
    return seen[text] <= limit


# ------------------------------------------------------------------------------------------------ speech


def _said(text: str) -> list[Beat]:
    return [Beat([{"text": text}], len(text.split()))]


def _unexpected(gemini: Gemini, ask: Ask, cast: Spell) -> Speech:
    call = {"functionCall": {"name": "undeclared_function", "args": {}}}
    return Speech([Beat([call], CALL_TOKENS)], "UNEXPECTED_TOOL_CALL", "Unexpected tool call: undeclared_function")


def _lines(gemini: Gemini, ask: Ask, cast: Spell) -> Speech:
    lines = [f"line {number}\n" for number in range(1, int(cast.number(10)) + 1)]
    return gemini.say(ask, "".join(lines), pieces=lines)


def _words(gemini: Gemini, ask: Ask, cast: Spell) -> Speech:
    return gemini.say(ask, " ".join(f"word{number}" for number in range(1, int(cast.number(100)) + 1)))


_SPEAK: dict[str, Callable[[Gemini, Ask, Spell], Speech]] = {
    "blocked": lambda *_: Speech([], None, blocked="PROHIBITED_CONTENT"),
    "safety": lambda *_: Speech([*_said("I was about to say"), Beat([])], "SAFETY", bare=True),
    "recitation": lambda *_: Speech([Beat([])], "RECITATION", bare=True),
    "malformed": lambda *_: Speech(
        [Beat([])], "MALFORMED_FUNCTION_CALL", "Malformed function call: print(default_api.f(", bare=True
    ),
    "unexpected": _unexpected,
    "empty": lambda *_: Speech([Beat([])]),
    "nothing": lambda *_: Speech([], None, silent=True),
    "truncated": lambda *_: Speech(_said("This answer ends without a reason"), None),
    "image": lambda gemini, ask, _: gemini.picture(ask),
    "lines": _lines,
    "words": _words,
    "say": lambda gemini, ask, cast: gemini.say(ask, cast.rest),
}


def speech(gemini: Gemini, ask: Ask, cast: Spell) -> list[Speech] | None:
    """Return what the magic word makes the model say; None: it speaks as it likes."""
    return [_SPEAK[cast.word](gemini, ask, cast)] if cast.word in _SPEAK else None


# ------------------------------------------------------------------------------------------------ delivery


def _in_the_middle(answer: Answer, *steps: Step) -> Answer:
    """Return the answer broken off by these steps: after its first frame, or half-way through a single piece."""
    if len(answer.body) > 1:
        return msgspec.structs.replace(answer, body=(answer.body[0], *steps))
    data = b"".join(piece for piece in answer.body if isinstance(piece, bytes))
    return msgspec.structs.replace(answer, body=(data[: len(data) // 2], *steps))


def _error_frame(answer: Answer, cast: Spell) -> Answer:
    body = errors.overloaded().body()
    if answer.content_type != SSE:
        return Answer((pretty(body),), status=503)
    tail = sse(body) if cast.word == "error-frame" else pretty(body)
    return _in_the_middle(answer, tail)


def _think(answer: Answer, cast: Spell) -> Answer:
    return msgspec.structs.replace(answer, body=(Pause(cast.number(1)), *answer.body))


_PLAY: dict[str, Callable[[Answer, Spell], Answer]] = {
    "slow": lambda answer, cast: answer.paced(cast.number(0.2)),
    "think": _think,
    "hold": lambda answer, cast: answer.after(Pause(cast.number(1))),
    "cut": lambda answer, _: _in_the_middle(answer, CutOff()),
    "reset": lambda answer, _: _in_the_middle(answer, Reset()),
    "error-frame": _error_frame,
    "error-tail": _error_frame,
    "garbage": lambda answer, _: _in_the_middle(answer, b"data: {not json}\r\n\r\n"),
}


def deliver(answer: Answer, cast: Spell) -> Answer:
    """Return the answer as the magic word wants it delivered."""
    return _PLAY[cast.word](answer, cast) if cast.word in _PLAY else answer
