"""The very secrets this process holds, and how they are found in a text whatever became of them on the way.

In: values, as they come and go. Out: texts without them. A credential comes back from an upstream as software writes
it down: as it is, in another case, escaped for JSON, HTML or a URL (once or several times), in base64 of any
alignment, in hexadecimal, with line ends, blanks or invisible characters in between. Pure; linear in the text, whatever
the number of secrets. Must not show a value.

Not looked for: what only somebody who means to deceive writes (reversed, enciphered, packed). An upstream of that mind
has the credential already, and many more ways to give it away.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

CUT_MARK: Final = "[secret]"
SHORTEST_SECRET: Final = 8
"""Characters; a shorter secret is not looked for: it would be found in ordinary words."""

_REMEMBERED_VALUES: Final = 16  # of one owner: a token that was replaced lives on for an hour
_PIECE_LENGTH: Final = 512  # characters; a longer value is looked for in pieces
_WINDOW_LENGTH: Final = 1 << 16  # characters of a text looked at together: bounds the memory for a long one
_OVERLAP_LENGTH: Final = 1 << 13  # a secret that begins in one window ends in it, or begins in the next

_ESCAPED: Final = re.compile(
    r"%([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})|&#[xX]([0-9A-Fa-f]{1,5});|&#([0-9]{1,6});"
    r"|&(amp|lt|gt|quot|apos);|\\(.)"
)
_DEEPEST_ESCAPE: Final = 3  # escapes within escapes: a URL in a JSON text in a JSON text
_NAMED_ENTITIES: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_BLANK_ESCAPES: Final = frozenset("bfnrt")  # behind a backslash
_FIRST, _FINAL = "!", "~"  # of the characters that secrets are made of; all others may stand between them

# one form for both alphabets of base64, and for any case
_FOLDED: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", "abcdefghijklmnopqrstuvwxyz+/")


class Secrets:
    """What must not get out. One thread at a time may ``hold``; any may ``cut``."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[str, ...]] = {}
        self._forms: dict[str, frozenset[str]] = {}  # of each value, all needles
        self._version = 0
        self._index: tuple[int, _Index] = (0, _Index({}, frozenset()))

    def __repr__(self) -> str:
        return f"Secrets({len(self._forms)} held)"

    def hold(self, owner: str, values: Iterable[str]) -> None:
        """Look for these from now on. Of an owner's earlier ones the last few stay: they may still be in force."""
        fresh = dict.fromkeys(piece for value in values for piece in _pieces(value))
        before = self._owners.get(owner, ())
        kept = [*(piece for piece in before if piece not in fresh), *fresh]
        self._owners[owner] = tuple(kept[-max(_REMEMBERED_VALUES, len(fresh)) :])
        if set(self._owners[owner]) == set(before):
            return
        wanted = {piece for pieces in self._owners.values() for piece in pieces}
        self._forms = {piece: self._forms.get(piece) or _forms(piece) for piece in wanted}
        self._version += 1

    def cut(self, text: str) -> str:
        """Return the text with ``CUT_MARK`` in the place of every secret."""
        if not self._forms or len(text) < SHORTEST_SECRET:
            return text
        index = self._current()
        spans: list[tuple[int, int]] = []
        for start in range(0, max(1, len(text) - _OVERLAP_LENGTH), _WINDOW_LENGTH):
            window = text[start : start + _WINDOW_LENGTH + _OVERLAP_LENGTH]
            spans += [(start + begin, start + end) for begin, end in index.found(window)]
        return _without(text, sorted(spans)) if spans else text

    def _current(self) -> _Index:
        """Return the needles in force, put in order by whoever needs them first after a change."""
        version, index = self._index
        if version != self._version:
            version, forms = self._version, list(self._forms.values())
            index = _Index.of({needle for needles in forms for needle in needles})
            self._index = version, index
        return index

    """Needles by their last ``SHORTEST_SECRET`` characters: the beginnings of keys and tokens do not differ."""


class _Index(NamedTuple):
    """Needles by their last ``SHORTEST_SECRET`` characters: the beginnings of keys and tokens do not differ."""

    lengths: dict[str, tuple[int, ...]]  # of the needles that end so
    needles: frozenset[str]

    def __repr__(self) -> str:
        return f"_Index({len(self.needles)})"

    @classmethod
    def of(cls, needles: set[str]) -> _Index:
        lengths: dict[str, set[int]] = {}
        for needle in needles:
            lengths.setdefault(needle[-SHORTEST_SECRET:], set()).add(len(needle))
        return cls({ending: tuple(found) for ending, found in lengths.items()}, frozenset(needles))

    def found(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where secrets stand in a text, with all that belongs to them."""
        for layer in _layers(text):
            for begin, end in self._matches(layer.text.translate(_FOLDED)):
                yield layer.begins[begin], layer.ends[end - 1]

    def _matches(self, text: str) -> Iterator[tuple[int, int]]:
        known = self.lengths.get
        for place in range(len(text) - SHORTEST_SECRET + 1):
            for length in known(text[place : place + SHORTEST_SECRET], ()):
                begin = place + SHORTEST_SECRET - length
                if begin >= 0 and text[begin : begin + length] in self.needles:
                    yield begin, begin + length


class _Layer(NamedTuple):
    """A text without blanks and, below the first layer, without escapes; and where each character came from."""

    text: str
    begins: list[int]
    ends: list[int]


def _layers(text: str) -> Iterator[_Layer]:
    places = [place for place, char in enumerate(text) if _FIRST <= char <= _FINAL]
    layer = _Layer("".join([text[place] for place in places]), places, [place + 1 for place in places])
    yield layer
    for _ in range(_DEEPEST_ESCAPE):
        if not any(sign in layer.text for sign in "%\\&"):
            return
        layer = _unescaped(layer)
        yield layer


def _unescaped(layer: _Layer) -> _Layer:
    text, begins, ends = layer
    written: list[str] = []
    new_begins: list[int] = []
    new_ends: list[int] = []
    last = 0
    for escape in _ESCAPED.finditer(text):
        begin, end = escape.span()
        written.append(text[last:begin])
        new_begins += begins[last:begin]
        new_ends += ends[last:begin]
        char = _meant(escape)
        if _FIRST <= char <= _FINAL:
            written.append(char)
            new_begins.append(begins[begin])
            new_ends.append(ends[end - 1])
        last = end
    return _Layer("".join((*written, text[last:])), new_begins + begins[last:], new_ends + ends[last:])


def _meant(escape: re.Match[str]) -> str:
    """Return the character that an escape stands for; a blank for those that may stand within a secret."""
    percent, unicode, byte, entity, number, name, char = escape.groups()
    code = percent or unicode or byte or entity
    if code:
        return chr(int(code, 16))
    if number:
        return chr(int(number))
    if name:
        return _NAMED_ENTITIES[name]
    return " " if char in _BLANK_ESCAPES else char


def _pieces(value: str) -> Iterator[str]:
    """Yield what is looked for of a value: all of it, or its lines where it is a private key in PEM."""
    pem = value.startswith("-----BEGIN")
    lines = [line for line in value.splitlines() if not line.startswith("-----")] if pem else [value]
    for line in lines:
        # the dots at the end of some tokens come and go
        plain = "".join([char for char in line if _FIRST <= char <= _FINAL]).strip(".=")
        for start in range(0, len(plain), _PIECE_LENGTH):
            if len(piece := plain[start : start + _PIECE_LENGTH]) >= SHORTEST_SECRET:
                yield piece


def _forms(piece: str) -> frozenset[str]:
    data = piece.encode()
    coded = (_base64(data, before) for before in range(3))
    plain = (layer.text for layer in _layers(piece))  # where it looks escaped itself, it is unescaped with its text
    forms = {form.translate(_FOLDED) for form in (*plain, data.hex(), *coded)}
    return frozenset(form for form in forms if len(form) >= SHORTEST_SECRET)


def _base64(data: bytes, before: int) -> str:
    """Return the digits that say nothing but ``data`` when so many bytes of something else stand before it."""
    digits = b64encode(bytes(before) + data)
    return digits[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6].decode()


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    kept: list[str] = []
    last = 0
    for begin, end in spans:
        if begin > last or not kept:  # else it goes on where the one before ends, or within it
            kept += (text[last:begin], CUT_MARK)
        last = max(last, end)
    return "".join((*kept, text[last:]))
