"""Names that must differ from each other. In: a name that is wanted. Out: it, or one like it that nobody has yet."""

from __future__ import annotations


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
