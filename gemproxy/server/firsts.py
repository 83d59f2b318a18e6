"""Which line of the log is the first of its kind: that one is for whoever reads warnings only, the rest is detail."""

from __future__ import annotations

import logging
from collections.abc import Callable

KIND_TTL = 3600.0  # seconds after which the next of a kind is told anew
MAX_KINDS = 1000  # kinds; those told longest ago are forgotten first


class Firsts:
    """``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[tuple[str, ...], float] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._told)

    def level(self, *kind: str) -> int:
        """Return WARNING for the first of a kind within an hour, INFO for the others."""
        now = self._clock()
        if 0 <= now - self._told.get(kind, -KIND_TTL) < KIND_TTL:
            return logging.INFO
        self._told.pop(kind, None)
        self._told[kind] = now
        if len(self._told) > MAX_KINDS:
            del self._told[next(iter(self._told))]
        return logging.WARNING
