"""Long texts, kept as the JSON strings they came as. Knows neither format.

A text goes on as it is: to make characters of its bytes and bytes of them again costs more than all else in a long
question or answer. What is kept is a whole JSON string: msgspec looks at every escape of what it passes over, though
not at its UTF-8, which is for those to check who keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw

LONG: Final = 1 << 14  # bytes; to look at a shorter text costs more than to decode it
_QUOTE: Final = ord('"')

_decode: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.Encoder().encode


def is_long(sent: Raw) -> bool:
    """Return whether this JSON is a text to be kept."""
    return len(sent) >= LONG and memoryview(sent)[0] == _QUOTE


def plain(text: str | Raw) -> str:
    """Return a text as characters."""
    return text if isinstance(text, str) else _decode(text)


def joined(texts: Sequence[str | Raw]) -> str | Raw:
    """Return one text of several; as JSON if one of them is long."""
    if len(texts) == 1:
        return texts[0]
    short = [text for text in texts if isinstance(text, str)]
    if len(short) == len(texts):
        return "".join(short)
    return Raw(b"".join((b'"', *(_encode(text)[1:-1] for text in texts), b'"')))
