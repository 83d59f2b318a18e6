"""Clients that ask again and again while something is done to the server, and keep what they were told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from gemproxy.simulator import Answer, Wait, frames_answer
from tests.faults.client import Got

TICK = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
LAST = {"candidates": [{"content": {"parts": [{"text": "end"}]}, "finishReason": "STOP"}]}
TEXT = "tick " * 10 + "end"


def halfway(gate: asyncio.Event) -> Answer:
    """Return a stream that says half of TEXT, and the rest once the gate is open."""
    return frames_answer([TICK] * 5).then(Wait(gate), *frames_answer([TICK] * 5 + [LAST]).body)


@asynccontextmanager
async def fresh_connections() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that opens a connection for each request."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:
        yield session


class Load:
    """Clients that ask again and again until told to stop; every outcome is kept."""

    def __init__(self, ask_once: Callable[[int], Any]) -> None:
        self._ask_once = ask_once
        self._stop = asyncio.Event()
        self.outcomes: Counter[str] = Counter()

    async def client(self) -> None:
        while not self._stop.is_set():
            try:
                got: Got = await self._ask_once(self.outcomes.total())
                self.outcomes[got.outcome] += 1
            except (aiohttp.ClientError, ConnectionError, AssertionError) as fault:
                self.outcomes[repr(fault)[:120]] += 1
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def running(self, clients: int) -> AsyncIterator[None]:
        """Run so many clients; they end their last request before this returns."""
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self.client())
            try:
                yield
            finally:
                self._stop.set()
