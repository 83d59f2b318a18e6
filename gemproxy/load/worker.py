"""(edge) Heavy work off the loop, in one thread: small requests pass it, and heavy ones take turns by client.

One thread and not many: Python runs one at a time anyway, so more of them only make the loop wait longer for its turn;
and what a conversion holds besides its request is then held once. ``sys.setswitchinterval`` (``process``) says how
soon the loop gets its turn. What runs here must come back to Python often: one call into C that takes long holds up
everybody (``load.weigh``).
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from gemproxy.load.turns import left_by, pass_turn, passed_by

T = TypeVar("T")
TURN_ROUNDS = 8  # of the loop, of 64 connections each: three serve a small request, and hundreds may be ready before it
TURN_PAUSE = 0.01  # seconds more: a small request and its way to the upstream and back fit in
TURN_TIMEOUT = 0.1  # seconds for them; a loop that has more to do than that gets its turns between Python's own


class Worker:
    """Runs functions one after the other; of several clients that wait each is served in turn."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "heavy", initializer=lambda: passed_by(self._pass_turn))
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order in which clients get their turn
        self._busy = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, owner: str, work: Callable[..., T], *arguments: Any) -> T:
        """Return what ``work`` returns, or raise what it raises. Cancelled while it waits, it is never begun."""
        await self._turn(owner)
        self._loop = asyncio.get_running_loop()
        left = threading.Event()
        try:
            job = self._loop.run_in_executor(self._thread, partial(_undisturbed, left.is_set, work, *arguments))
        except RuntimeError:  # closed
            self._free()
            raise
        job.add_done_callback(self._next)  # also when whoever waits for it has left: the thread is not free before
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            left.set()
            raise

    def drop(self, things: list[Any], freed: Callable[[], object]) -> None:
        """Let go of things in the thread: to free what a large request was made of takes long as well.

        ``freed`` is called on the loop when that is done.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._thread.submit(self._let_go, things, freed)
        except RuntimeError:  # closed
            freed()

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _let_go(self, things: list[Any], freed: Callable[[], object]) -> None:
        pass_turn()
        things.clear()
        with suppress(RuntimeError):  # the loop is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(freed)

    def _pass_turn(self) -> None:
        """(in the thread) Wait until the loop has gone round: then what had come was read, and answered.

        That is, of as many connections as a round takes in (``rounds``); more of them get theirs between Python's own.
        """
        turned = threading.Event()
        with suppress(RuntimeError):  # the loop is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(_go_round, self._loop, TURN_ROUNDS, turned)
                turned.wait(TURN_TIMEOUT)
                time.sleep(TURN_PAUSE)

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


def _undisturbed(left: Callable[[], bool], work: Callable[..., T], *arguments: Any) -> T:
    """Work without the garbage collector: it would go through all that a large request is made of, again and again,
    10 to 20 ms each time, and find nothing.
    """
    left_by(left)
    gc.disable()
    try:
        return work(*arguments)
    finally:
        gc.enable()
        left_by(_nobody)


def _nobody() -> bool:
    return False


def _go_round(loop: asyncio.AbstractEventLoop, rounds: int, turned: threading.Event) -> None:
    if rounds:
        loop.call_soon(_go_round, loop, rounds - 1, turned)
    else:
        turned.set()
