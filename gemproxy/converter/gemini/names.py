"""Names that go over the wire: fit for Gemini, and no two the same.

In: a name that is wanted. Out: it, or one like it that nobody has yet.
"""

from __future__ import annotations

import re

MAX_NAME = 64  # the least that any upstream takes (docs/protocol.md 1.4)
_VALID_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_INVALID_CHARACTER = re.compile(r"[^A-Za-z0-9_.:-]")


class Distinct:
    """The names given so far; the first to ask for one gets it, the next get ``_2``, ``_3`` and so on."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}  # the last number behind each stem: to count from 1 again is quadratic

    def take(self, name: str, room: int | None = None) -> str:
        """Return ``name``, or its first ``room`` characters with a number behind them."""
        found, stem = name, name[:room]
        while found in self._taken:
            self._counts[stem] = self._counts.get(stem, 1) + 1
            found = f"{stem}_{self._counts[stem]}"
        self._taken.add(found)
        return found


class Names:
    """The names of functions on the wire: as the client's where Gemini allows it, else made fit, never two the same.

    The same names in the same order always give the same result, so a history reads alike in every turn.
    """

    def __init__(self) -> None:
        self._wire: dict[str, str] = {}
        self._distinct = Distinct()

    def reserve(self, names: list[str]) -> None:
        """Give the declared names their wire names; those that are fit as they are come first and stay untouched."""
        for name in names:
            if _VALID_NAME.fullmatch(name):
                self._wire[name] = self._distinct.take(name)
        for name in names:
            self.wire(name)

    def wire(self, name: str) -> str:
        """Return the name that goes over the wire."""
        found = self._wire.get(name)
        if found is None:
            found = self._wire[name] = self._distinct.take(_fit(name), MAX_NAME - 8)
        return found

    def changed(self) -> dict[str, str]:
        """Return wire name -> the client's name, for those that differ."""
        return {wire: name for name, wire in self._wire.items() if wire != name} if self._wire else {}


def _fit(name: str) -> str:
    clean = _INVALID_CHARACTER.sub("_", name[:MAX_NAME])  # a name may be megabytes long
    if not clean or not (clean[0].isalpha() or clean[0] == "_"):
        clean = "_" + clean
    return clean[:MAX_NAME]
