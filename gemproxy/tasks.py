"""Background tasks that keep a reference: the loop holds tasks weakly, so a bare one may vanish in mid-work.

What goes on for as long as the process lives is ``keep_doing``: no bug in it ends it, and none is silent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

log = logging.getLogger("gemproxy")
T = TypeVar("T")
_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start a task and keep it until it is done; whoever starts it looks at its result."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


def keep_doing(work: Callable[[], Awaitable[object]], every: float, *, name: str) -> asyncio.Task[None]:
    """Do something now and again every so many seconds, until the task is cancelled.

    A failure is logged with its traceback, once until it goes well again; so is work that another gave up.
    """
    return spawn(_go_on(work, every, name), name=name)


async def logged(work: Awaitable[object], *, name: str) -> None:
    """Do something once that nobody waits for; a failure is logged with its traceback."""
    try:
        await work
    except Exception:
        log.exception("%s failed", name)


async def _go_on(work: Callable[[], Awaitable[object]], every: float, name: str) -> None:
    well = True
    while True:
        try:
            await work()
        except (Exception, asyncio.CancelledError) as fault:
            if isinstance(fault, asyncio.CancelledError) and _is_told_to_end():
                raise
            if well:
                log.exception("%s failed; it is tried again every %g s", name, every)
            well = False
        else:
            if not well:
                log.warning("%s goes well again", name)
            well = True
        await asyncio.sleep(every)


def _is_told_to_end() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
