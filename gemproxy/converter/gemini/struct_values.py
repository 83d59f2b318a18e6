"""JSON objects on their way into a protobuf Struct: the arguments of calls, the results of tools.

In: the text that a client sent. Out: the object as it is written, where a Struct keeps what it says. There every number
is a double and every name stands once: ``-6371298176326611879`` would reach the model as ``-6.371298176326612e+18``,
and it would go on with that. Results may go as text instead; arguments must be an object, whose numbers are ``spelt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
from msgspec import Raw

from gemproxy.load.weigh import SMALL_SIZE, delimiters

LARGEST_OBJECT: Final = 1 << 22  # characters; tools do not write larger objects, and to look into one takes long
MOST_DELIMITERS: Final = 100_000  # (``load.weigh``); beyond, reading it would make too many things

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode
_pass: Final = msgspec.json.Decoder(Raw).decode  # looks whether it is JSON, and makes nothing of it

# Digits and points become "d", so that a long number is found by one search; a double holds any of up to 15 digits.
_KINDS: Final = bytes(
    ord("d" if byte in b"0123456789." else "e" if byte in b"eE" else "-" if byte == ord("-") else " ")
    for byte in range(256)
)
_LONG_NUMBER: Final = b"d" * 16
_TINY_NUMBER: Final = b"e-ddd"  # below 1e-307 doubles have fewer digits, or none
_PIECE: Final = 1 << 20  # bytes that are looked at at once: no other thread runs meanwhile

# The next long or tiny number and what stands before it, where no escape hides a quote: a thousand steps at most, since
# no other thread runs meanwhile. The steps as a whole are not possessive: Python before 3.11.5 loses its place there.
_SUSPECT_NUMBER: Final = r"-?(?:[0-9.]{16}|[0-9.]++[eE]-[0-9]{3})"
_NEXT_SUSPECT: Final = re.compile(
    rf'(?:[^"0-9-]++|"[^"]*+"|(?!{_SUSPECT_NUMBER})-?[0-9][0-9.eE+-]*+){{0,1000}}(?:({_SUSPECT_NUMBER}[0-9.eE+-]*+)|)'
)
_LONGEST_NUMBER: Final = 400  # characters; no double needs as many


def kept(text: str) -> Raw | None:
    """Return a JSON object as it is written; None if the text is none, one that a Struct would change, or too large."""
    value = None if unwieldy(text) else _value(text)
    if value is None or _doubled(text, value):
        return None
    sent = text.encode()
    return None if _suspect(sent) and next(_lost(text), None) else Raw(sent)


def spelt(text: str) -> Raw | None:
    """Return a JSON object, with the digits of a number that no double holds as a string; None if the text is none.

    Of names that stand twice the last counts, as it did for the tool that was called. One that is too large to be
    looked into stays as it is.
    """
    if unwieldy(text):
        return _unread(text)
    value = _value(text)
    if value is None:
        return None
    sent = text.encode()
    if _suspect(sent):
        sent = _spelt(text).encode()
    return Raw(_encode(_decode(sent)) if _doubled(text, value) else sent)


def unwieldy(text: str) -> bool:
    """Return whether a text is too large to be looked into."""
    if len(text) <= SMALL_SIZE:
        return False
    return len(text) > LARGEST_OBJECT or delimiters(text.encode(), MOST_DELIMITERS) > MOST_DELIMITERS


def _unread(text: str) -> Raw | None:
    try:
        return _pass(text) if text.lstrip()[:1] == "{" else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _value(text: str) -> dict[str, Any] | None:
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _doubled(text: str, value: dict[str, Any]) -> bool:
    """Return whether a name may stand twice in an object: reading has lost its colon then.

    An escaped colon would hide that, and no client writes one: it counts as a name that stands twice.
    """
    colons = text.count(":")
    if colons == len(value):
        return False
    return colons != _encode(value).count(b":") or "\\u003a" in text or "\\u003A" in text


def _suspect(sent: bytes) -> bool:
    """Return whether there may be a number that no double holds; it costs little to be sure of most texts."""
    if len(sent) > _PIECE:
        return any(_suspect(sent[start : start + _PIECE]) for start in range(0, len(sent), _PIECE - len(_LONG_NUMBER)))
    kinds = sent.translate(_KINDS)
    return _LONG_NUMBER in kinds or _TINY_NUMBER in kinds


def _spelt(text: str) -> str:
    pieces: list[str] = []
    done = 0
    for start, end in _lost(text):
        pieces += (text[done:start], '"', text[start:end], '"')
        done = end
    return "".join((*pieces, text[done:]))


def _lost(text: str) -> Iterator[tuple[int, int]]:
    """Return where the numbers stand that no double holds; ``text`` is an object."""
    bare = text.replace("\\\\", "__").replace('\\"', "__")  # as long as it was
    found = _NEXT_SUSPECT.match(bare)
    while found and found[0]:
        if found[1] and _lossy(found[1]):
            yield found.span(1)
        found = _NEXT_SUSPECT.match(bare, found.end())


def _lossy(number: str) -> bool:
    """Return whether a double gives a number back with other digits: the fewest that tell it from others.

    Of a fraction 17 are as good: Google writes so many in the arguments of its own calls.
    """
    if len(number) > _LONGEST_NUMBER:
        return True
    try:
        value, double = Decimal(number), float(number)
        if value == Decimal(repr(double)):
            return False
        return number.lstrip("-").isdigit() or value != Decimal(f"{double:.17g}")
    except InvalidOperation:  # an exponent beyond all measure
        return True
