"""(edge) Heavy work off the loop, in one thread: small requests pass it, and heavy ones take turns by client.

One thread and not many: Python runs one at a time anyway, so more of them only make the loop wait longer for its turn;
and what a conversion holds besides its request is then held once. ``sys.setswitchinterval`` (``process``) says how
soon the loop gets its turn. What runs here must come back to Python often: one call into C that takes long holds up
everybody (``load.weigh``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Runs functions one after the other; of several clients that wait each is served in turn."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="heavy")
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order in which clients get their turn
        self._busy = False

    async def run(self, owner: str, work: Callable[..., T], *arguments: Any) -> T:
        """Return what ``work`` returns, or raise what it raises. Cancelled while it waits, it is never begun."""
        await self._turn(owner)
        job = asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        job.add_done_callback(self._next)  # also when whoever waits for it has left: the thread is not free before
        return await asyncio.shield(job)

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, owner: str) -> None:
        """Wait until the thread is free for this client."""
        if not self._busy:
            self._busy = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free()  # it was ours already
            raise

    def _next(self, job: asyncio.Future[Any]) -> None:
        if not job.cancelled():
            job.exception()  # looked at: whoever waited may have left
        self._free()

    def _free(self) -> None:
        """Give the thread to the next client in line, which then stands behind all others."""
        while self._waiting:
            owner = next(iter(self._waiting))
            line = self._waiting.pop(owner)
            turn = line.popleft()
            if line:
                self._waiting[owner] = line
            if not turn.cancelled():
                turn.set_result(None)
                return
        self._busy = False
