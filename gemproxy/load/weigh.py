"""How heavy JSON is, before anybody decodes it. Pure, in pieces: a few microseconds each, whatever the size.

A decoder keeps all other threads waiting until it is done, and makes an object of every ``{}``: 30 MB of them take half
a second and 760 MiB. What is counted here are the delimiters between values; what stands inside strings is left out
of the count where it could make a difference. Escapes are counted as well: a decoder stops at each, be the text kept or
not.
"""

from __future__ import annotations

from collections.abc import Iterator

SMALL_SIZE = 1 << 16  # bytes; up to here nothing is heavy: all of it is done in a millisecond or two
PIECE = 1 << 16  # bytes looked at in one go
ESCAPES_PER_DELIMITER = 4  # of them take as long as what stands between two delimiters
_DELIMITERS = b"{[,:"
_OTHER_BYTES = bytes(set(range(256)) - set(_DELIMITERS))


def delimiters(data: bytes | bytearray, most: int) -> int:
    """Return how many delimiters ``{ [ , :`` stand outside of the strings of a JSON text, and a fourth of its escapes.

    Exact only beyond ``most``; below, some inside strings may be among them.
    """
    quick = escapes = 0
    for piece in _pieces(data):
        quick += len(piece.translate(None, _OTHER_BYTES))
        escapes += piece.count(b"\\")
    escapes //= ESCAPES_PER_DELIMITER
    return quick + escapes if quick + escapes <= most else escapes + _outside(data, most - escapes)


def _pieces(data: bytes | bytearray) -> Iterator[bytes]:
    view = memoryview(data)
    for place in range(0, len(view), PIECE):
        yield bytes(view[place : place + PIECE])


def _outside(data: bytes | bytearray, most: int) -> int:
    """Return the delimiters outside of strings; stops counting beyond ``most``."""
    found, inside, rest = 0, 0, b""
    for piece in _pieces(data):
        text, rest = _without_escapes(rest + piece)
        between = text.split(b'"')
        found += len(b"".join(between[inside::2]).translate(None, _OTHER_BYTES))
        inside ^= (len(between) - 1) & 1
        if found > most:
            break
    return found


def _without_escapes(text: bytes) -> tuple[bytes, bytes]:
    """Return a text without escaped quotes and backslashes, and a last backslash, whose mate may yet come."""
    rest = b""
    if (len(text) - len(text.rstrip(b"\\"))) & 1:
        text, rest = text[:-1], b"\\"
    return text.replace(b"\\\\", b"").replace(b'\\"', b""), rest
