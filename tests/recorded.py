"""Recorded Gemini answers, and what each of them says: read apart from gemproxy, as a witness against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tests.corpus import path_of, rows

MALFORMED = {
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MALFORMED_RESPONSE",
    "MISSING_THOUGHT_SIGNATURE",
}
BLOCKED = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR"}


class Recorded(Struct, frozen=True):
    """One file of the corpus."""

    file: str
    kind: str
    backend: str

    @property
    def path(self) -> Path:
        return path_of(f"corpus/{self.file}")


def answers(*backends: str) -> list[Recorded]:
    """Return every recorded stream and unary answer of these back ends."""
    return [
        Recorded(row["file"], row["kind"], row["backend"])
        for row in rows()
        if row["kind"] in ("stream", "unary") and row["backend"] in backends
    ]


class Said(Struct):
    """What an answer amounts to. ``error``: it has no usable end, and an honest error is due."""

    text: str = ""
    thoughts: str = ""
    calls: list[tuple[str, Any]] = []
    images: int = 0
    finish: str = ""
    error: bool = False
    usage: dict[str, int] = {}


def said(recorded: Recorded) -> Said:
    """Return what a recorded answer says in OpenAI's terms, by the plainest reading of it."""
    body = recorded.path.read_bytes()
    frames, whole = _frames(body)
    told = Said()
    reasons: list[str] = []
    blocked = False
    partial: dict[str, Any] | None = None
    for frame in frames:
        told.error |= "error" in frame
        frame = frame.get("response", frame)
        blocked |= bool(frame.get("promptFeedback", {}).get("blockReason"))
        told.usage |= {k: v for k, v in frame.get("usageMetadata", {}).items() if isinstance(v, int)}
        for candidate in frame.get("candidates", ()):
            if candidate.get("finishReason"):
                reasons.append(candidate["finishReason"])
            for part in candidate.get("content", {}).get("parts", ()):
                partial = _part(part, told, partial)
    _end(told, reasons, blocked, whole)
    return told


def _frames(body: bytes) -> tuple[list[dict[str, Any]], bool]:
    if body.lstrip()[:1] in (b"{", b"["):
        found = msgspec.json.decode(body)
        return (found if isinstance(found, list) else [found]), True
    head, _, tail = body.partition(b"\n{")  # a bare error in mid-stream
    frames = [msgspec.json.decode(line[5:]) for line in head.split(b"\n") if line.startswith(b"data:")]
    return frames + ([msgspec.json.decode(b"{" + tail)] if tail else []), False


def _part(part: dict[str, Any], told: Said, partial: dict[str, Any] | None) -> dict[str, Any] | None:
    if "text" in part and part.get("thought"):
        told.thoughts += part["text"]
    elif "text" in part:
        told.text += part["text"]
    elif "inlineData" in part:
        told.images += 1
    elif "executableCode" in part:
        code = part["executableCode"]
        told.text += f"```{code['language'].lower()}\n{code['code'].rstrip()}\n```\n"
    elif "codeExecutionResult" in part:
        told.text += f"```output\n{part['codeExecutionResult'].get('output', '').rstrip()}\n```\n"
    elif "functionCall" in part:
        return _call(part["functionCall"], told, partial)
    return partial


def _call(call: dict[str, Any], told: Said, partial: dict[str, Any] | None) -> dict[str, Any] | None:
    if partial is None and "partialArgs" not in call and not call.get("willContinue"):
        told.calls.append((call["name"], call.get("args") or {}))
        return None
    if partial is None or call.get("name"):
        partial = {"name": call["name"]}
    if call.get("willContinue"):
        return partial
    told.calls.append((partial["name"], None))  # its arguments are checked by hand
    return None


def _end(told: Said, reasons: list[str], blocked: bool, whole: bool) -> None:
    spoken = bool(told.text or told.calls or told.thoughts or told.images)
    reason = reasons[-1] if reasons else ""
    if blocked or reason in BLOCKED:
        told.finish = "content_filter"
    elif reason in MALFORMED or (not reason and not whole):
        told.error = True
    elif reason == "MAX_TOKENS":
        told.finish = "length"
    elif not spoken:
        told.error = True
    else:
        told.finish = "tool_calls" if told.calls else "stop"
