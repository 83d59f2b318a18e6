"""One step of tool use: the calls of a model content and the results that the client sends for them.

In: calls, then results and other parts in any order. Out: the parts of the one user content that must follow: a
response for every call, in the order of the calls, then all the rest. Must not: leave a call unanswered or send a
response without a call; both are a 400 (PROTOCOL 4.4 rules 2 to 5). What belongs to no call becomes text.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from gemproxy.wire.gemini import FunctionCall, FunctionResponse, Part

_MISSING = {"error": "no result"}
_IN_RESPONSE = ("image/", "application/pdf", "text/plain")  # media that a functionResponse takes (PROTOCOL 1.3)

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class Asked(Struct, frozen=True):
    """A call as it goes over the wire, and the id and name by which the client knows it."""

    call: FunctionCall
    id: str
    name: str


class Result(Struct, frozen=True):
    """What the client sends for a call; ``id`` is without an appended signature, "" where it gives none."""

    id: str
    name: str | None
    text: str
    media: list[Part]


class Step:
    """One step, collected until the model speaks again."""

    def __init__(self, media_in_results: bool) -> None:
        self._media_in_results = media_in_results
        self._asked: list[Asked] = []
        self._results: list[Result] = []
        self._later: list[Part] = []

    @property
    def begun(self) -> bool:
        """True if something already stands after the calls."""
        return bool(self._results or self._later)

    def ask(self, asked: list[Asked]) -> None:
        """Add calls; an id that the step holds already is changed, or Gemini could not tell the two apart."""
        taken = {item.call.id for item in self._asked}
        for item in asked:
            count = 1
            while item.call.id in taken:
                count += 1
                item.call.id = f"{item.id}_{count}"
            taken.add(item.call.id)
            self._asked.append(item)

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
        """Give each call its result: by id, then by name, then by position (PROTOCOL 4.4 rule 3)."""
        answers: list[Result | None] = [None] * len(self._asked)
        unknown: list[Result] = []
        strays: list[Result] = []
        for result in self._results:
            places = [place for place, asked in enumerate(self._asked) if result.id and asked.id == result.id]
            free = next((place for place in places if answers[place] is None), None)
            if free is not None:
                answers[free] = result
            elif not places:
                unknown.append(result)
            elif not any(_same(answers[place], result) for place in places):
                strays.append(result)  # a second, different result; the same one again says nothing new
        for result in unknown:
            open_places = [place for place, answer in enumerate(answers) if answer is None]
            named = [place for place in open_places if self._asked[place].name == result.name]
            if open_places:
                answers[(named or open_places)[0]] = result
            else:
                strays.append(result)
        return answers, strays

    def _response(self, call: FunctionCall, result: Result | None, after: list[Part]) -> Part:
        if result is None:
            return Part(function_response=FunctionResponse(call.name, _MISSING, call.id))
        inside = [part for part in result.media if self._media_in_results and _fits(part)]
        after += [part for part in result.media if part not in inside]
        return Part(
            function_response=FunctionResponse(call.name, _response_object(result.text), call.id, inside or None)
        )


def as_text(result: Result) -> list[Part]:
    """Return a result that belongs to no call, as something the user says."""
    said = [Part(text=f"Result of {result.name or 'a tool'}: {result.text}")] if result.text else []
    return said + result.media


def _same(answer: Result | None, result: Result) -> bool:
    return answer is not None and answer.text == result.text and answer.media == result.media


def _fits(part: Part) -> bool:
    return part.inline_data is not None and part.inline_data.mime_type.startswith(_IN_RESPONSE)


def _response_object(text: str) -> Any:
    """Return the response: the text itself if it is a JSON object, else the text as ``output``.

    ``{"$ref": …}`` would be looked up among the parts of the response, so an object that may hold one goes as text; the
    test is coarse on purpose: it costs nothing, and a needless wrapping does no harm (PROTOCOL 4.4 rule 7).
    """
    if text.lstrip()[:1] == "{" and '"$ref"' not in text and "\\u0024" not in text:
        try:
            _decode_object(text)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            return Raw(text.encode())
    return {"output": text}
