"""One step of tool use: the calls of a model content and the results that the client sends for them.

In: calls, then results and other parts in any order. Out: the parts of the one user content that must follow: a
response for every call, in the order of the calls, then all the rest. Must not: leave a call unanswered or send a
response without a call; both are a 400 (docs/protocol.md 4.4 rules 2 to 5). What belongs to no call becomes text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from gemproxy.converter.gemini.names import Distinct
from gemproxy.converter.gemini.struct_values import kept
from gemproxy.wire.gemini import FunctionCall, FunctionResponse, Part
from gemproxy.wire.text import joined

_MISSING_RESULT = {"error": "no result"}
_RESPONSE_MEDIA = ("image/", "application/pdf", "text/plain")  # in a functionResponse (docs/protocol.md 1.3)

_encode = msgspec.json.encode


class Asked(Struct, frozen=True):
    """A call as it goes over the wire, and the id and name by which the client knows it."""

    call: FunctionCall
    id: str
    name: str


class Result(Struct, frozen=True):
    """What the client sends for a call; ``id`` is without an appended signature, "" where it gives none.

    ``failed``: the text says what went wrong.
    """

    id: str
    name: str | None
    text: str | Raw  # Raw: so long that it goes as text, whatever it is
    media: list[Part]
    failed: bool = False


class Step:
    """One step, collected until the model speaks again."""

    def __init__(self, media_in_results: bool) -> None:
        self._media_in_results = media_in_results
        self._asked: list[Asked] = []
        self._ids = Distinct()
        self._results: list[Result] = []
        self._later: list[Part] = []

    @property
    def begun(self) -> bool:
        """True if something already stands after the calls."""
        return bool(self._results or self._later)

    def ask(self, asked: list[Asked]) -> None:
        """Add calls; an id that the step holds already is changed, or Gemini could not tell the two apart."""
        for item in asked:
            item.call.id = self._ids.take(item.call.id or "")
        self._asked += asked

    def answer(self, result: Result) -> None:
        """Add a result; which call it belongs to is settled at the end, since they come in any order."""
        self._results.append(result)

    def defer(self, parts: list[Part]) -> None:
        """Add parts that came between the calls and their results: nothing may stand there."""
        self._later += parts

    def close(self) -> list[Part]:
        """Return the parts of the user content that follows the calls."""
        answers, strays = self._paired()
        responses: list[Part] = []
        after: list[Part] = []
        for asked, result in zip(self._asked, answers, strict=True):
            responses.append(self._response(asked.call, result, after))
        for stray in strays:
            after += as_text(stray)
        return responses + after + self._later

    def _paired(self) -> tuple[list[Result | None], list[Result]]:
        """Give each call its result: by id, then by name, then by position (docs/protocol.md 4.4 rule 3)."""
        answers: list[Result | None] = [None] * len(self._asked)
        unknown: list[Result] = []
        strays: list[Result] = []
        by_id = _places([asked.id for asked in self._asked])
        free = {call_id: iter(places) for call_id, places in by_id.items()}
        said: dict[str, set[tuple[str | bytes, bytes]]] = {}
        for result in self._results:
            places = by_id.get(result.id, []) if result.id else []
            place = next(free[result.id], None) if places else None
            if place is not None:
                answers[place] = result
            elif not places:
                unknown.append(result)
            elif not _repeated(result, (answers[place] for place in places), said):
                strays.append(result)  # a second, different result; the same one again says nothing new
        by_name = {name: iter(places) for name, places in _places([asked.name for asked in self._asked]).items()}
        anywhere = iter(range(len(answers)))
        for result in unknown:
            place = _open(by_name.get(result.name or "", iter(())), answers)
            place = _open(anywhere, answers) if place is None else place
            if place is not None:
                answers[place] = result
            else:
                strays.append(result)
        return answers, strays

    def _response(self, call: FunctionCall, result: Result | None, after: list[Part]) -> Part:
        if result is None:
            return Part(function_response=FunctionResponse(call.name, _MISSING_RESULT, call.id))
        inside: list[Part] = []
        for part in result.media:
            if self._media_in_results and _fits(part):
                part.media_resolution = None  # a part of a response has none (docs/protocol.md 1.3)
                inside.append(part)
            else:
                after.append(part)
        return Part(function_response=FunctionResponse(call.name, _response_object(result), call.id, inside or None))


def _places(keys: list[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return found


def _open(places: Iterator[int], answers: list[Result | None]) -> int | None:
    """Return the next place without an answer; what is passed over is taken, so ``places`` can go on from here."""
    return next((place for place in places if answers[place] is None), None)


def as_text(result: Result) -> list[Part]:
    """Return a result that belongs to no call, as something the user says."""
    said = [Part(text=joined((f"Result of {result.name or 'a tool'}: ", result.text)))] if result.text else []
    return said + result.media


def _repeated(
    result: Result, answers: Iterable[Result | None], said: dict[str, set[tuple[str | bytes, bytes]]]
) -> bool:
    """Return whether one of the answers to calls of this id says the same.

    ``said`` keeps by id what they say: to look at all of them for each result took a minute for 3.5 MB of them.
    """
    if result.id not in said:
        said[result.id] = {_content(answer) for answer in answers if answer is not None}
    return _content(result) in said[result.id]


def _content(result: Result) -> tuple[str | bytes, bytes]:
    text = bytes(result.text) if isinstance(result.text, Raw) else result.text
    return text, _encode(result.media) if result.media else b""


def _fits(part: Part) -> bool:
    return part.inline_data is not None and part.inline_data.mime_type.startswith(_RESPONSE_MEDIA)


def _response_object(result: Result) -> Any:
    """Return the response: the text itself if it is a JSON object, else the text as ``output``.

    An object that a Struct would change goes as text. So does one that may hold ``{"$ref": …}``, which would be looked
    up among the parts of the response; that test is coarse on purpose: it costs nothing, and a needless wrapping does
    no harm (docs/protocol.md 4.4 rule 7).
    """
    text = result.text
    if result.failed:
        return {"error": text}
    if isinstance(text, Raw):
        return {"output": text}
    if text.lstrip()[:1] == "{" and '"$ref"' not in text and "\\u0024" not in text:
        return kept(text) or {"output": text}
    return {"output": text}
