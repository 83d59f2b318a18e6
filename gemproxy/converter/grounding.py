"""Gemini's grounding metadata -> annotations with character offsets. Pure.

Google counts bytes of UTF-8, OpenAI characters (PROTOCOL 4.8). Where the stretch that Google names does not stand at
its offset, it is looked for in the text; a source whose stretch stands nowhere, or twice, is not annotated.
"""

from __future__ import annotations

from gemproxy.converter.events import Annotation
from gemproxy.wire.gemini import GroundingChunk, GroundingMetadata, GroundingSupport, Segment


def annotate(choice: int, grounding: GroundingMetadata, text: str) -> list[Annotation]:
    """Return one annotation for each source of each supported stretch of ``text``, in Google's order."""
    chunks = grounding.grounding_chunks or []
    encoded = text.encode()
    found = []
    for support in grounding.grounding_supports or ():
        place = _place(support.segment, text, encoded)
        if place is not None:
            found += _sources(choice, place, support, chunks)
    return found


def _place(segment: Segment | None, text: str, encoded: bytes) -> tuple[int, int] | None:
    if segment is None or segment.end_index is None:
        return None
    first, last = segment.start_index or 0, segment.end_index
    stretch = encoded[first:last].decode(errors="replace")
    if 0 <= first < last <= len(encoded) and (segment.text is None or stretch == segment.text):
        start = len(encoded[:first].decode(errors="replace"))
        return start, start + len(stretch)
    if not segment.text or text.count(segment.text) != 1:
        return None
    start = text.index(segment.text)
    return start, start + len(segment.text)


def _sources(
    choice: int, place: tuple[int, int], support: GroundingSupport, chunks: list[GroundingChunk]
) -> list[Annotation]:
    named = [chunks[number] for number in support.grounding_chunk_indices or () if 0 <= number < len(chunks)]
    webs = [chunk.web or chunk.retrieved_context for chunk in named]
    return [Annotation(choice, *place, web.uri, web.title or "") for web in webs if web is not None and web.uri]
