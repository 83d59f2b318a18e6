"""Writes to a connection no faster than the other side takes it, and lets others have their turn in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

SLICE = 1 << 18  # bytes
_AT_ONCE = 4  # pieces in one turn of the loop: a peer that takes everything must not keep it


class Pouring(asyncio.Protocol):
    """A connection; ``pour`` pieces, and ``then`` is called when the last one is written."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: Iterator[bytes | memoryview] = iter(())
        self._then: Callable[[], None] | None = None
        self._paused = False
        self._waiting = False  # for its turn

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._pieces, self._then = iter(()), None

    def pour(self, pieces: Iterable[bytes | memoryview], then: Callable[[], None]) -> None:
        """Write everything, one after the other."""
        self._pieces, self._then = iter(pieces), then
        self._turn()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._turn()

    def _turn(self) -> None:
        self._waiting = False
        for _ in range(_AT_ONCE):
            if self._paused or self._then is None:
                return
            piece = next(self._pieces, None)
            if piece is None:
                then, self._then = self._then, None
                then()
                return
            self.transport.write(piece)
        if not self._waiting:
            self._waiting = True
            self._loop.call_soon(self._turn)


def slices(data: bytes) -> Iterator[memoryview]:
    """Return data in pieces, without copying it."""
    view = memoryview(data)
    return (view[place : place + SLICE] for place in range(0, len(view), SLICE))
