"""Writes what the model says as Google's frames (docs/protocol.md S.A, S.B, S.F).

In: an ``Ask`` and one ``Speech`` per candidate. Out: an ``Answer``: SSE, JSON array or one document; in Code Assist's
envelope where that is asked. Must not decide what is said.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from msgspec import Struct

from gemproxy.simulator.ask import Ask, Part
from gemproxy.simulator.script import Answer, frames_answer, unary_answer

Frame = dict[str, Any]


class Beat(Struct):
    """What one frame says: its parts, and how many tokens of answer and of thought they cost."""

    parts: list[Part]
    tokens: int = 0
    thoughts: int = 0


class Speech(Struct):
    """All that one candidate says. ``finish`` None: the stream ends without a reason.

    ``bare`` leaves an empty content out of the last frame; ``blocked`` is a prompt that was not answered at all.
    """

    beats: list[Beat]
    finish: str | None = "STOP"
    message: str = ""
    bare: bool = False
    blocked: str = ""
    silent: bool = False  # no candidate and no reason
    extra: dict[str, Any] = {}  # into the last candidate: groundingMetadata …


class Stamp(Struct, frozen=True):
    """What is equal in all frames of an answer. ``created`` in seconds since 1970."""

    response_id: str
    trace_id: str
    created: float

    @classmethod
    def of(cls, seed: int, number: int, created: float) -> Stamp:
        """Return the stamp of the answer with this number."""
        digest = hashlib.shake_128(f"{seed}:{number}".encode()).digest(24)
        return cls(base64.urlsafe_b64encode(digest[:16]).decode()[:22], digest[16:].hex(), created)


def answer(ask: Ask, speeches: list[Speech], stamp: Stamp, *, sse: bool) -> Answer:
    """Return the HTTP answer to this request."""
    if ask.method == "streamGenerateContent":
        return frames_answer(stream(ask, speeches, stamp), sse=sse)
    return unary_answer(whole(ask, speeches, stamp))


def stream(ask: Ask, speeches: list[Speech], stamp: Stamp) -> list[Frame]:
    """Return the frames of a streamed answer."""
    counter = _Usage(ask)
    steps = list(_interleaved(speeches))
    frames = []
    for number, (index, speech, beat, last) in enumerate(steps, 1):
        counter.add(beat)
        candidate = _candidate(ask, index, speech, beat.parts, last=last)
        frames.append(_frame(ask, [candidate], speech, counter.view(final=number == len(steps)), stamp))
    return frames or [_frame(ask, [], speeches[0], counter.view(final=True), stamp)]


def whole(ask: Ask, speeches: list[Speech], stamp: Stamp) -> Frame:
    """Return the unary answer that says the same."""
    counter = _Usage(ask)
    candidates = []
    for index, speech in enumerate(speeches):
        for beat in speech.beats:
            counter.add(beat)
        if not (speech.blocked or speech.silent):
            parts = _joined([part for beat in speech.beats for part in beat.parts])
            candidates.append(_candidate(ask, index, speech, parts, last=True))
    return _frame(ask, candidates, speeches[0], counter.view(final=True), stamp)


def _interleaved(speeches: list[Speech]) -> Iterator[tuple[int, Speech, Beat, bool]]:
    """Yield the beats of all candidates in turn, each with whether it is its candidate's last."""
    spoken = [[] if speech.blocked or speech.silent else speech.beats or [Beat([])] for speech in speeches]
    for number, row in enumerate(zip_longest(*spoken)):
        for index, beat in enumerate(row):
            if beat is not None:
                yield index, speeches[index], beat, number + 1 == len(spoken[index])


def _candidate(ask: Ask, index: int, speech: Speech, parts: list[Part], *, last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {}
    if parts or not (last and speech.bare):
        candidate["content"] = {"parts": parts, "role": "model"} if parts else {"role": "model"}
    if last and speech.finish:
        candidate["finishReason"] = speech.finish
    if ask.upstream == "ai_studio" or index:
        candidate["index"] = index
    if last:
        candidate.update(speech.extra)
        if speech.message and ask.upstream == "ai_studio":
            candidate["finishMessage"] = speech.message
    return candidate


def _frame(ask: Ask, candidates: list[Any], speech: Speech, usage: dict[str, Any], stamp: Stamp) -> Frame:
    frame: Frame = {"candidates": candidates} if candidates else {}
    if speech.blocked:
        frame["promptFeedback"] = {"blockReason": speech.blocked}
    frame["usageMetadata"] = usage
    frame["modelVersion"] = ask.model.id
    if ask.upstream != "ai_studio":
        frame["createTime"] = datetime.fromtimestamp(stamp.created, UTC).isoformat().replace("+00:00", "Z")
    frame["responseId"] = stamp.response_id
    return {"response": frame, "traceId": stamp.trace_id} if ask.upstream == "code_assist" else frame


def _joined(parts: list[Part]) -> list[Part]:
    """Return the parts of a unary answer: neighbouring texts as one, an empty signed tail on the text before it."""
    joined: list[Part] = []
    texts: list[list[str]] = []  # of each of them; put together once, since adding piece by piece is quadratic
    for part in parts:
        before = joined[-1] if joined else {}
        if "text" in part and "text" in before and before.get("thought") == part.get("thought"):
            joined[-1] = {**before, **part}
            texts[-1].append(part["text"])
        else:
            joined.append(part)
            texts.append([part["text"]] if "text" in part else [])
    whole = [{**part, "text": "".join(said)} if said else part for part, said in zip(joined, texts, strict=True)]
    return [part for part in whole if part.get("text") != "" or "thoughtSignature" in part]


class _Usage:
    """Counts as it goes: cumulative on AI Studio, only ``trafficType`` before the last frame elsewhere."""

    def __init__(self, ask: Ask) -> None:
        self.vertex = ask.upstream != "ai_studio"
        self.prompt = ask.prompt_tokens()
        self.tokens = 0
        self.thoughts = 0

    def add(self, beat: Beat) -> None:
        self.tokens += beat.tokens
        self.thoughts += beat.thoughts

    def view(self, *, final: bool) -> dict[str, Any]:
        if self.vertex and not final:
            return {"trafficType": "ON_DEMAND"}
        usage: dict[str, Any] = {"promptTokenCount": self.prompt}
        if self.tokens:  # zero counters are left out (docs/protocol.md 1.6)
            usage["candidatesTokenCount"] = self.tokens
        usage["totalTokenCount"] = self.prompt + self.tokens + self.thoughts
        usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": self.prompt}]
        if self.thoughts:
            usage["thoughtsTokenCount"] = self.thoughts
        return {**usage, "trafficType": "ON_DEMAND"} if self.vertex else usage
