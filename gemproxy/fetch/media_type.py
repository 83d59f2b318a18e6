"""Which type an image of the net is sent with, by what its bytes are.

In: the first bytes and the type its server declared. Out: a type that Gemini takes inline, or ``Unfetchable``. Pure.
"""

from __future__ import annotations

import re

from gemproxy.converter.gemini.mime import sniff
from gemproxy.networks import Unfetchable

BEGINNING = 64  # bytes that tell what a file is
# docs/protocol.md 1.3
_INLINE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "application/pdf")
_DECLARED_TYPES = re.compile(r"(?:text|audio|video)/[a-z0-9][a-z0-9.+-]{0,63}|application/json")
_HTML = (b"<!doctype html", b"<html")


def media_type(data: bytes, declared: str) -> str:
    """Return the type to send, from the bytes; ``declared`` (a Content-Type) only where bytes do not tell.

    Raises ``Unfetchable`` for what Gemini does not take inline: GIF, SVG and the like (docs/protocol.md 1.3), and HTML,
    since a page in the place of an image is a log-in or an error.
    """
    beginning = data[:BEGINNING]
    kind = sniff(beginning)
    if kind is None:
        kind = declared.partition(";")[0].strip().lower()
        if kind == "text/html" or beginning.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_HTML):
            raise Unfetchable("it is an HTML page")
        if not _DECLARED_TYPES.fullmatch(kind):
            raise Unfetchable(f"its bytes are of no known type ({_taken()})")
    elif kind not in _INLINE_TYPES and not kind.startswith(("audio/", "video/")):
        raise Unfetchable(f"it is {kind} ({_taken()})")
    return kind


def _taken() -> str:
    return f"Gemini takes {', '.join(_INLINE_TYPES)}, audio, video and text"
