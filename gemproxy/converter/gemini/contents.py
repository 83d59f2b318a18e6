"""Gemini's ``contents``, whatever API the conversation came by: who speaks when, and what calls and results look like.

In: parts, calls and results in the order in which they were said. Out: contents in which user and model take turns, and
in which the content after one with calls holds exactly their results, in order. Must not: know a client's format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from gemproxy.converter.gemini.signatures import Signed
from gemproxy.converter.gemini.struct_values import LARGEST_OBJECT, spelt, unwieldy
from gemproxy.converter.gemini.tool_results import Asked, Result, Step, as_text
from gemproxy.models import Model
from gemproxy.upstream.repairs import CONTINUE_TEXT
from gemproxy.wire.gemini import Content, Part
from gemproxy.wire.text import is_long, joined, plain

_encode = msgspec.json.encode
_decode_any = msgspec.json.Decoder().decode
_NO_ARGUMENTS = Raw(b"{}")


class Contents:
    """The contents so far; a ``Step`` is open from a content with calls until the model speaks again."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._contents: list[Content] = []
        self._step: Step | None = None

    def finish(self) -> list[Content]:
        """Return them all."""
        if self._step is not None:
            self._close(self._step)
        return self._contents

    def user(self, parts: list[Part]) -> None:
        """Add what the user said; within a step, behind its results."""
        if self._step is not None:
            self._step.defer(parts)
        elif parts:
            self._say("user", parts)

    def model(self, parts: list[Part], asked: list[Asked], *, beside: bool = False) -> None:
        """Add what the model said, and the calls among that; ``beside``: it called them with those before them."""
        if not parts:
            return
        if self._step is not None and self._step.begun and not beside:
            self._close(self._step)
        self._say("model", parts)
        if asked:
            self._step = self._step or Step(self._model.modern)
            self._step.ask(asked)

    def result(self, result: Result) -> None:
        """Add the result of a call; of one that nobody made, as text."""
        if self._step is not None:
            self._step.answer(result)
        else:
            self.user(as_text(result))

    def _say(self, role: str, parts: list[Part]) -> None:
        """Add a content, or go on with the last one: contents merge, parts never do, signatures hang on them."""
        last = self._contents[-1] if self._contents else None
        if last is not None and last.role == role and last.parts is not None:
            last.parts += parts
        else:
            self._contents.append(Content(parts, role))

    def _close(self, step: Step) -> None:
        self._step = None
        self._say("user", step.close())


def opened(system: list[Part], contents: list[Content], model: Model) -> tuple[list[Part], list[Content]]:
    """Return the system parts and the contents, opened (docs/protocol.md 4.4 rule 11) and ended by the user if need be.

    One of the two must hold something.
    """
    if not contents:
        return [], [Content(system, "user")]  # a conversation of instructions only
    if contents[-1].role == "model" and not model.prefill:
        contents.append(Content([Part(text=CONTINUE_TEXT)], "user"))
    first = contents[0]
    if system and not model.system_instruction:
        if first.role == "user":
            first.parts = system + (first.parts or [])
            return [], contents
        return [], [Content(system, "user"), *contents]
    if first.role != "user":
        contents.insert(0, Content([Part(text=" ")], "user"))
    return system, contents


def sign(part: Part | None, signed: Signed | None) -> None:
    """Hang a signature on a part, if there are both."""
    if part is not None and signed is not None:
        part.thought_signature, part.origin = signed.signature, signed.origin


def sign_text(parts: Sequence[Part], signed: Signed) -> bool:
    """Put the signature of a text answer on its last text (docs/protocol.md 6.1); False if there is none."""
    last = next((part for part in reversed(parts) if part.text is not None), None)
    sign(last, signed)
    return last is not None


def arguments_of(sent: str | Raw | dict[str, Any] | None) -> Raw:
    """Return the arguments of a call as an object, as it is written where it can be (docs/protocol.md 4.4 rule 6)."""
    text = _written(sent)
    if not text or text.isspace():
        return _NO_ARGUMENTS
    return spelt(text) or _wrapped(text)


def lines(texts: list[str | Raw]) -> str | Raw:
    """Return texts one below the other; as JSON if they are too long to be looked into."""
    if sum(map(len, texts)) <= LARGEST_OBJECT:
        return "\n".join(map(plain, texts))
    return joined([piece for text in texts for piece in (text, "\n")][:-1])


def _written(sent: str | Raw | dict[str, Any] | None) -> str | None:
    if isinstance(sent, Raw):
        return plain(sent) if is_long(sent) else bytes(sent).decode()
    return _encode(sent).decode() if isinstance(sent, dict) else sent


def _wrapped(sent: str) -> Raw:
    if unwieldy(sent):
        return _raw(sent)
    try:
        value = _decode_any(sent)
    except (msgspec.DecodeError, RecursionError):
        return _raw(sent)
    return _NO_ARGUMENTS if value is None else spelt(f'{{"value":{sent}}}') or Raw(_encode({"value": value}))


def _raw(sent: str) -> Raw:
    """Return what the model wrote though it made no object of it: it may still learn from that."""
    return Raw(_encode({"_raw": sent}))
