"""Long texts, kept as the JSON strings they came as. Knows neither format.

A text goes on as it is: to make characters of its bytes and bytes of them again costs more than all else in a long
question or answer. What is kept is a whole JSON string: msgspec looks at every escape of what it passes over, though
not at its UTF-8, which is for those to check who keep it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Raw

LONG_TEXT: Final = 1 << 14  # bytes; to look at a shorter text costs more than to decode it
SLICE: Final = 1 << 16  # bytes of a text decoded in one go: a decoder keeps every other thread waiting
_LONGEST_CHARACTER: Final = 12  # bytes of JSON that make one character: ``\\ud83d\\ude00``
_CONTINUATION_BYTES: Final = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that begin no character
_QUOTE: Final = ord('"')

_decode: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.Encoder().encode


def is_long(sent: Raw) -> bool:
    """Return whether this JSON is a text to be kept."""
    return len(sent) >= LONG_TEXT and memoryview(sent)[0] == _QUOTE


def plain(text: str | Raw) -> str:
    """Return a text as characters."""
    if isinstance(text, str):
        return text
    return _decode(text) if len(text) <= SLICE else "".join(_pieces(text))


def quoted(sent: Raw) -> str | Raw:
    """Return JSON as a text that one can read; as JSON if it is long."""
    if len(sent) < LONG_TEXT:
        return bytes(sent).decode()
    decoder, view = codecs.getincrementaldecoder("utf-8")(), memoryview(sent)
    pieces = (view[place : place + SLICE] for place in range(0, len(view), SLICE))
    return Raw(b"".join((b'"', *(_encode(decoder.decode(piece))[1:-1] for piece in pieces), b'"')))


def length(text: str | Raw) -> int:
    """Return how many characters a text has; of a long one about as many, rather too few."""
    if isinstance(text, str):
        return len(text)
    characters = units = 0
    view = memoryview(text)
    for place in range(0, len(view), SLICE):
        piece = bytes(view[place : place + SLICE])
        characters += len(piece.translate(None, _CONTINUATION_BYTES))
        units += piece.count(b"\\u")
    return max(0, characters - 5 * units)


def check_encoding(body: bytes | Raw) -> None:
    """Raise ``UnicodeDecodeError`` for what is not UTF-8; keeps no characters of it."""
    decoder, view = codecs.getincrementaldecoder("utf-8")(), memoryview(body)
    for place in range(0, len(view), SLICE):
        decoder.decode(view[place : place + SLICE])
    decoder.decode(b"", final=True)


def _pieces(sent: Raw) -> Iterator[str]:
    """Yield a long text piece by piece: to decode all of it is one long step."""
    body = memoryview(sent)[1:-1]
    place = 0
    while place < len(body):
        piece, place = _slice(body, place, min(place + SLICE, len(body)))
        yield piece


def _slice(body: memoryview, place: int, end: int) -> tuple[str, int]:
    """Return the characters up to ``end``, or up to a little before it: no character is cut in two."""
    for last in range(end, max(end - _LONGEST_CHARACTER, place), -1):
        try:
            return _decode(b'"%b"' % bytes(body[place:last])), last
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return _decode(b'"%b"' % bytes(body[place:end])), end  # it is no text: raises why


def joined(texts: Sequence[str | Raw]) -> str | Raw:
    """Return one text of several; as JSON if one of them is long."""
    if len(texts) == 1:
        return texts[0]
    short = [text for text in texts if isinstance(text, str)]
    if len(short) == len(texts):
        return "".join(short)
    return Raw(b"".join((b'"', *(_encode(text)[1:-1] for text in texts), b'"')))
