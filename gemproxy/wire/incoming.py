"""Bytes of an upstream before they are decoded: are they bearable, are their characters whole. Knows neither format."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from gemproxy.load.turns import STRETCH, pass_turn

MOST_NESTED: Final = 200_000  # objects and lists in one message: 9,000 tokens, each with its twenty alternatives
MOST_VALUES: Final = 1 << 20  # commas, those in texts among them
MOST_ESCAPES: Final = 1 << 18
MOST_STOPS: Final = 1 << 22  # backslashes; a decoder stops at each, be the text kept or not
_LARGEST_TEXT: Final = 1 << 25  # bytes; what is larger is no text of a model
UNBEARABLE: Final = "The upstream's answer is made of more pieces than any model writes."

_HIGH_HALF: Final = re.compile(rb"[dD][89abAB][0-9a-fA-F]{2}")
_LOW_HALF: Final = re.compile(rb"[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF: Final = re.compile(rb"[dD][89a-fA-F][0-9a-fA-F]{2}")


def bearable(message: bytes) -> bool:
    """Return whether a message can be decoded within reason: ``{}`` becomes 100 bytes, a million of them stop all else.

    The threads beside it, too: a whole decode is one step of the interpreter.
    """
    nested = sum(map(partial(_count, message), (b"{", b"[")))
    return (
        nested <= MOST_NESTED
        and _count(message, b",") <= MOST_VALUES
        and (len(message) < STRETCH or _count(message, b"\\") <= MOST_STOPS)
    )


def _count(message: bytes, character: bytes) -> int:
    pass_turn(len(message))
    return message.count(character)


def whole(message: bytes) -> bytes:
    r"""Return JSON with U+FFFD in place of each half of a surrogate pair (``\ud83d``), else as it is.

    Models cut characters in two, and Google writes the halves down: no JSON (RFC 8259 8.2), but what a model said. For
    messages that cannot be decoded; one that is larger or has more escapes than any model writes stays as it is.
    """
    if len(message) > _LARGEST_TEXT or not 0 < message.count(rb"\u") + message.count(rb"\\") <= MOST_ESCAPES:
        return message
    # what stands between two escaped backslashes holds no other: there each backslash begins an escape
    return rb"\\".join(map(_whole, message.split(rb"\\")))


def _whole(text: bytes) -> bytes:
    pieces = text.split(rb"\u")
    place = 1
    while place < len(pieces):
        if _HIGH_HALF.fullmatch(pieces[place]) and place + 1 < len(pieces) and _LOW_HALF.match(pieces[place + 1]):
            place += 2
            continue
        if _HALF.match(pieces[place]):
            pieces[place] = b"fffd" + pieces[place][4:]
        place += 1
    return rb"\u".join(pieces)
