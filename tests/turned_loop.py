"""An event loop whose time is turned: a wait of seconds in the code under test takes milliseconds here.

With the fixture ``turned`` (or ``with turned_time():`` around a part of a test) the running loop's ``time()`` stands
still while anything is done in the loop, and jumps to the next timer when nothing is left to do. So a slow machine does
not run into the timeouts of a test, and a fast one need not wait for them. ``asyncio.sleep``, ``asyncio.timeout``,
``call_later`` and aiohttp's timeouts all follow, since they ask the loop.

Nothing is left to do when the selector has shown nothing for ``QUIET`` seconds of real time and no job of an executor
is under way; beside one, time passes as it does elsewhere, since the job may wait for this loop. On loopback the kernel
delivers within the call that sends (asyncio sets TCP_NODELAY), so what one end wrote the other end sees by then, as
long as both ends live in this loop. It is not so, and this is not the means,

- where another process works or answers (``subprocess_exec`` is refused here, for that reason);
- where a thread works that no executor of this loop began (``fetch/resolver`` begins some): its time is real;
- where the kernel itself waits: for a peer whose window is closed to open it again, for an accept queue that is full;
- where the kernel counts the time: ``TCP_USER_TIMEOUT`` runs out for a client that takes nothing in real seconds only.

``time.monotonic`` and wall clocks are not turned; pass in a ``tests.clock.Clock`` for those. Who waits for a time to
come by ``sleep(0)`` alone waits for ever, since there is always something to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import pytest

QUIET = 0.005
SLICE = 0.001  # a bit of QUIET; between two bits other processes have had their turn
RUNNING: WeakKeyDictionary[asyncio.AbstractEventLoop, Turned] = WeakKeyDictionary()


class Awaited(NamedTuple):
    """What somebody waits for."""

    holds: Callable[[], Any]
    late: float
    what: str
    came: asyncio.Future[None]

    def tell(self) -> bool:
        """Return whether the one who waits was woken."""
        if self.came.done():
            return False
        try:
            if self.holds():
                self.came.set_result(None)
            elif time.monotonic() > self.late:
                self.came.set_exception(AssertionError(self.what))
        except Exception as problem:  # noqa: BLE001 - it is raised where it was waited for
            self.came.set_exception(problem)
        return self.came.done()


class Turned:
    """The time of one loop while it is turned."""

    def __init__(self, loop: Any) -> None:
        self.now: float = loop.time()
        self.jumps = 0
        self._loop = loop
        self._jobs = 0
        self._awaited: list[Awaited] = []
        self._select = loop._selector.select
        self._run_in_executor = loop.run_in_executor
        loop._selector.select = self._selected
        loop.run_in_executor = self._run_job
        loop.subprocess_exec = loop.subprocess_shell = _refuse
        loop.time = lambda: self.now
        RUNNING[loop] = self

    def end(self) -> None:
        """Let time go on as the machine's does, from where it stands."""
        del RUNNING[self._loop], self._loop.run_in_executor, self._loop.subprocess_exec, self._loop.subprocess_shell
        del self._loop._selector.select
        ahead = self.now - time.monotonic()
        self._loop.time = lambda: time.monotonic() + ahead

    def advance(self, seconds: float) -> None:
        """Turn it by hand: for what is to happen long before a job of an executor ends."""
        self.now += seconds
        self._loop.call_soon(lambda: None)

    async def until(self, holds: Callable[[], Any], seconds: float, what: str) -> None:
        """Wait until something is so, for so many real seconds at most; timers run meanwhile, none is made for it."""
        awaited = Awaited(holds, time.monotonic() + seconds, what, self._loop.create_future())
        self._awaited.append(awaited)
        try:
            await awaited.came
        finally:
            self._awaited.remove(awaited)

    def _selected(self, timeout: float | None = None) -> Any:
        """Stand for the selector: return what is ready, or nothing when a timer is due or somebody is to wake."""
        if self._tell() or (timeout is not None and timeout <= 0):
            return self._select(0)
        quiet, passed = 0.0, 0.0
        while not (ready := self._select(SLICE if self._awaited or timeout is not None else None)):
            quiet, passed = (0.0, passed + SLICE) if self._jobs else (quiet + SLICE, passed)
            if self._tell():
                break
            if timeout is not None and (quiet >= QUIET or passed >= timeout):
                passed = timeout
                self.jumps += quiet >= QUIET
                break
        self.now += passed
        return ready

    def _tell(self) -> bool:
        """Wake those who wait for what has come to be so, and those who have waited too long."""
        return sum(awaited.tell() for awaited in self._awaited) > 0

    def _run_job(self, executor: Any, work: Any, *arguments: Any) -> Any:
        job = self._run_in_executor(executor, work, *arguments)
        self._jobs += 1
        job.add_done_callback(self._job_done)
        return job

    def _job_done(self, _: object) -> None:
        self._jobs -= 1


def _refuse(*_: object, **__: object) -> Any:
    raise RuntimeError("another process has a time of its own: tests/turned_loop.py")


@contextmanager
def turned_time() -> Iterator[Turned]:
    """Turn the time of the running loop."""
    turned = Turned(asyncio.get_running_loop())
    try:
        yield turned
    finally:
        turned.end()


@pytest.fixture
async def turned() -> Any:
    """Turn the time of the test's loop."""
    with turned_time() as running:
        yield running
