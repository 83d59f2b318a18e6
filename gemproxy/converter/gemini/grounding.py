"""Gemini's grounding metadata -> annotations with character offsets. Pure.

Google counts bytes of UTF-8, OpenAI characters (docs/protocol.md 4.8). Where the stretch that Google names does not
stand at its offset, it is looked for in the text; a source whose stretch stands nowhere, or twice, is not annotated.

Sources times places may be many times the frame that names them, so annotations are bounded: the first are given, and
what is beyond is left out, since an answer is of use without its last sources, and of none if it breaks off for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Raw

from gemproxy.converter.events import Annotation
from gemproxy.wire import UNREADABLE
from gemproxy.wire.gemini import GroundingChunk, GroundingMetadata, GroundingSupport, Segment

# of one choice; long answers have been seen with some hundred annotations of 300 characters
MOST_ANNOTATIONS = 4096
MOST_CHARACTERS = 1 << 21  # of URLs and titles
MOST_METADATA = 1 << 21  # bytes; what is larger is not read
_MOST_SEARCHED = 1 << 24  # characters looked through in all for stretches that are not where Google says

_decode = msgspec.json.Decoder(GroundingMetadata).decode
_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that begin no character


def annotate(choice: int, metadata: Raw, text: str) -> list[Annotation]:
    """Return one annotation for each source of each supported stretch of ``text``, in Google's order.

    None for metadata that cannot be read: the text is whole without it.
    """
    try:
        grounding = _decode(metadata)
    except UNREADABLE:
        return []
    supports = [support for support in grounding.grounding_supports or () if support.grounding_chunk_indices]
    places = _Places(text, (support.segment for support in supports))
    return _bounded(_annotations(choice, supports, grounding.grounding_chunks or [], places))


def _annotations(
    choice: int, supports: list[GroundingSupport], chunks: list[GroundingChunk], places: _Places
) -> Iterator[Annotation]:
    for support in supports:
        place = places.of(support.segment)
        if place is not None:
            yield from _sources(choice, place, support, chunks)


def _sources(
    choice: int, place: tuple[int, int], support: GroundingSupport, chunks: list[GroundingChunk]
) -> Iterator[Annotation]:
    for number in support.grounding_chunk_indices or ():
        if 0 <= number < len(chunks):
            web = chunks[number].web or chunks[number].retrieved_context
            if web is not None and web.uri:
                yield Annotation(choice, *place, web.uri, web.title or "")


def _bounded(annotations: Iterator[Annotation]) -> list[Annotation]:
    found: list[Annotation] = []
    room = MOST_CHARACTERS
    for annotation in annotations:
        room -= len(annotation.url) + len(annotation.title)
        if room < 0 or len(found) == MOST_ANNOTATIONS:
            break
        found.append(annotation)
    return found


class _Places:
    """Where segments stand in a text, in characters; each answer costs no more than the segment itself."""

    def __init__(self, text: str, segments: Iterable[Segment | None]) -> None:
        self._text = text
        self._encoded = text.encode()
        offsets = {offset for segment in segments if segment is not None for offset in _bounds(segment)}
        self._characters = _characters(self._encoded, sorted(offsets))
        self._searched = 0

    def of(self, segment: Segment | None) -> tuple[int, int] | None:
        """Return where a segment begins and ends, or None."""
        if segment is None or segment.end_index is None:
            return None
        first, last = _bounds(segment)
        if 0 <= first < last <= len(self._encoded) and self._says(first, last, segment.text):
            return self._characters[first], self._characters[last]
        return self._found(segment.text) if segment.text else None

    def _says(self, first: int, last: int, text: str | None) -> bool:
        if text is None:
            return True
        encoded = text.encode()
        return len(encoded) == last - first and self._encoded.startswith(encoded, first)

    def _found(self, text: str) -> tuple[int, int] | None:
        self._searched += len(self._text)
        if self._searched > _MOST_SEARCHED or self._text.count(text) != 1:
            return None
        start = self._text.index(text)
        return start, start + len(text)


def _bounds(segment: Segment) -> tuple[int, int]:
    return segment.start_index or 0, segment.end_index or 0


def _characters(encoded: bytes, offsets: list[int]) -> dict[int, int]:
    """Return how many characters stand before each of these offsets (ascending), in one walk through the text."""
    counted: dict[int, int] = {}
    characters = last = 0
    for offset in offsets:
        if 0 <= offset <= len(encoded):
            characters += len(encoded[last:offset].translate(None, _CONTINUATION_BYTES))
            counted[offset] = characters
            last = offset
    return counted
