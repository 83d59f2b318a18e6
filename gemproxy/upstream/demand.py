"""What one request asks of a quota beyond its model: features, and size. Says whom else its refusal concerns.

In: a neutral body. Out: the kinds of cooldowns that it falls under, and the kind that a refusal of it begins. A kind is
a short text, "" for all requests; operators read it beside the model's name ("with search, from 64 KiB on"). Nothing is
worked out before a cooldown or a refusal asks: most requests meet neither.

A refusal that a feature or the size of one request has drawn says nothing of requests without it, and rests none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Raw

from gemproxy.upstream.cause import Cause
from gemproxy.wire.gemini import GenerateRequest, Part
from gemproxy.wire.text import length

LEAST_CHARACTERS: Final = 32 << 10
"""Characters; a smaller request that is refused says that there is room for none."""

CHARACTERS_PER_TOKEN: Final = 6
"""Characters of one token at most: English has up to 4.6, other scripts fewer; so tokens are rather counted too few."""

TOKENS_PER_MEDIUM: Final = 258
"""Tokens of the smallest picture or page (docs/protocol.md 1.3); what a medium has beyond is not known here."""

# Close together, so that few are held that are smaller than what was refused: a quarter at most.
_SIZE_MARKS: Final = tuple(int(LEAST_CHARACTERS * 1.25**step) for step in range(32))  # to 32 MiB
_SIZE_KINDS: Final = tuple(f"from {mark >> 10} KiB on" for mark in _SIZE_MARKS)

# A closed set: a client's own words make no kinds.
_MEDIA: Final = {"image": "images", "audio": "audio", "video": "video", "application": "documents", "text": "documents"}


class Demand:
    """The features and the size of one request. Holds its body, so it should live no longer than that is needed."""

    __slots__ = ("_body", "_kinds", "_sums")
    apart = False  # whether cooldowns of the model as such are none of its own

    def __init__(self, body: GenerateRequest) -> None:
        self._body = body
        self._kinds: tuple[str, ...] | None = None
        self._sums: _Sums | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of cooldowns that this request falls under, but for those that hold for all."""
        if self._kinds is None:
            sums = self._summed()
            features = ("", sums.features) if sums.features else ("",)
            sizes = ("", *_SIZE_KINDS[: sums.marks])
            self._kinds = tuple(_joined(feature, size) for feature in features for size in sizes)[1:]
        return self._kinds

    def kind(self, cause: Cause) -> str:
        """Return the kind of the requests that a refusal of this one concerns; "": all."""
        if cause is Cause.ANY or cause is Cause.MISSING:
            return ""
        sums = self._summed()
        large = cause is not Cause.FEATURE and sums.marks > 0
        return _joined(sums.features, _SIZE_KINDS[sums.marks - 1] if large else "")

    @property
    def tokens(self) -> int:
        """Return about how many tokens go in, rather too few than too many."""
        sums = self._summed()
        return sums.text // CHARACTERS_PER_TOKEN + sums.media * TOKENS_PER_MEDIUM

    @property
    def brings(self) -> bool:
        """Return whether it names a file or a cache: a client's own, which may not be there."""
        return self._body.cached_content is not None or self._summed().files

    def _summed(self) -> _Sums:
        if self._sums is None:
            self._sums = _Sums(self._body)
        return self._sums


class MethodDemand(Demand):
    """What is asked by a method that has quotas of its own: it rests apart from all else, and rests nothing else."""

    __slots__ = ()
    apart = True

    def __init__(self, method: str) -> None:
        super().__init__(GenerateRequest())
        self._kinds = (f"by {method}",)

    def kind(self, cause: Cause) -> str:
        """Return the kind of the method's requests, whatever the cause."""
        return self.kinds[0]


class _Sums:
    """What one walk through a body finds."""

    def __init__(self, body: GenerateRequest) -> None:
        self.text = self.media = 0  # characters, and pieces
        self.files = False
        self._data = 0
        self._found = set(_settings(body))
        for content in body.contents:
            self._add(content.parts)
        if body.system_instruction is not None:
            self._add(body.system_instruction.parts)
        for tool in body.tools or ():
            for each in tool.function_declarations or ():
                self.text += len(each.parameters_json_schema) + len(each.description or "")
        self.features = f"with {' and '.join(sorted(self._found))}" if self._found else ""
        self.marks = bisect_right(_SIZE_MARKS, self.text + self._data)

    def _add(self, parts: Iterable[Part] | None) -> None:
        for part in parts or ():
            if part.text is not None:
                self.text += length(part.text)
            elif part.function_call is not None:
                self.text += length(part.function_call.args)
            elif part.function_response is not None:
                self.text += _result(part.function_response.response)
                self._add(part.function_response.parts)
            else:
                self._medium(part)

    def _medium(self, part: Part) -> None:
        if part.file_data is not None:
            self.files = True
            self._found.add("files")
        elif part.inline_data is not None:
            self._data += len(part.inline_data.data)
            kind = _MEDIA.get(part.inline_data.mime_type.partition("/")[0])
            if kind is not None:
                self._found.add(kind)
        else:
            return
        self.media += 1


PLAIN_DEMAND: Final = Demand(GenerateRequest())
"""A request without anything special."""


def _settings(body: GenerateRequest) -> Iterator[str]:
    """Yield what the body asks for beside its contents, as far as Google may count it by itself."""
    for tool in body.tools or ():
        if tool.google_search is not None:
            yield "search"
        if tool.url_context is not None:
            yield "URL context"
        if tool.code_execution is not None:
            yield "code execution"
    if body.cached_content is not None:
        yield "cached content"
    if body.service_tier is not None:
        yield f"{body.service_tier} tier"
    config = body.generation_config
    if config is not None and "IMAGE" in (config.response_modalities or ()):
        yield "image output"


def _result(told: object) -> int:
    if isinstance(told, Raw):
        return length(told)
    return sum(length(text) for text in told.values() if isinstance(text, str | Raw)) if isinstance(told, dict) else 0


def _joined(features: str, size: str) -> str:
    return f"{features}, {size}" if features and size else features or size
