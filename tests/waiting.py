"""Waiting until something is so: for what happens in another task, thread or process, which tells of it by no event.

A test waits for the thing itself, never for a time: a slow machine takes longer and passes all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.turned_loop import RUNNING


async def soon(holds: Callable[[], Any], seconds: float = 30.0, what: str = "it did not happen in time") -> float:
    """Wait until something is so; return the seconds that took. ``what`` is told when it never is."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    if (turned := RUNNING.get(loop)) is not None:
        await turned.until(holds, seconds, what)
        return loop.time() - begin
    while not holds():
        assert loop.time() - begin < seconds, what
        await asyncio.sleep(0.002)
    return loop.time() - begin
