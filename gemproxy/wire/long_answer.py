"""Gemini's answers once more, for bodies that may hold a long text (``wire.text``)."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gemproxy.wire.gemini import Candidate, Content, GenerateResponse, Part
from gemproxy.wire.text import check_encoding, is_long

_decode: Final = msgspec.json.Decoder(str | None).decode


class LongPart(Part):
    """A part whose ``text`` stays ``Raw`` if it is long."""

    text: Raw = Raw(b"null")  # as it is decoded

    def __post_init__(self) -> None:
        """Decode a text that is short, or none; refuse a long one that is not UTF-8."""
        part: Part = self
        if is_long(self.text):
            check_encoding(self.text)
        else:
            part.text = _decode(self.text)


class LongContent(Content):
    parts: list[LongPart] | None = None  # type: ignore[assignment]  # nobody adds to the parts of an answer


class LongCandidate(Candidate):
    content: LongContent | None = None


class LongResponse(GenerateResponse):
    candidates: list[LongCandidate] | None = None  # type: ignore[assignment]  # nor to its candidates
