"""How much one round of the loop takes in. Knows nothing of what is read or written.

A request takes three rounds at least: it is read, its task begins, its answer is written. asyncio asks for all that is
ready at once, so with 300 busy connections each of these rounds waits for 300 others.
"""

from __future__ import annotations

import asyncio
import select
import selectors

EVENTS_PER_ROUND = 64  # connections; what is ready beyond them comes first in the next, the kernel sees to that


class _ShortPoll:
    """``select.epoll`` that tells of few at a time; it cannot be extended."""

    def __init__(self) -> None:
        epoll = select.epoll()
        self._poll = epoll.poll
        self.register = epoll.register
        self.unregister = epoll.unregister
        self.modify = epoll.modify
        self.fileno = epoll.fileno
        self.close = epoll.close

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        return self._poll(timeout, min(most, EVENTS_PER_ROUND))


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop whose rounds are short; where there is no epoll, one as asyncio makes it."""
    if not hasattr(select, "epoll"):
        return asyncio.SelectorEventLoop()
    return asyncio.SelectorEventLoop(_Selector())


if hasattr(select, "epoll"):

    class _Selector(selectors.EpollSelector):
        _selector_cls = _ShortPoll
