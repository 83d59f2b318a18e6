"""Requests that ask the same go one at a time, so that each finds what the one before it has left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0  # by so many, its holder included


class Turns:
    """Who has the turn of a key. A key that nobody wants is forgotten."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    async def take(self, key: str) -> Callable[[], None]:
        """Wait until nobody else has the turn of this key; returns what gives it back."""
        turn = self._turns.setdefault(key, _Turn())
        turn.wanted += 1
        try:
            await turn.lock.acquire()
        except BaseException:
            self._leave(key, turn)
            raise
        return partial(self._end, key, turn)

    def _end(self, key: str, turn: _Turn) -> None:
        turn.lock.release()
        self._leave(key, turn)

    def _leave(self, key: str, turn: _Turn) -> None:
        turn.wanted -= 1
        if not turn.wanted:
            del self._turns[key]
