"""Look-ups: a silent name server is told in time, and its late word is not lost."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gemproxy.transport import resolver as resolving
from gemproxy.transport.resolver import SILENT_NAME_SERVER, Resolver

FOUND = [ResolveResult(hostname="h", host="127.0.0.1", port=443, family=socket.AF_INET, proto=0, flags=0)]


class Server(AbstractResolver):
    """A name server that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.fault: OSError | None = None
        self.answering = asyncio.Event()

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        self.asked += 1
        await self.answering.wait()
        if self.fault is not None:
            raise self.fault
        return FOUND

    async def close(self) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(resolving, "DefaultResolver", lambda: made)
    monkeypatch.setattr(resolving, "LOOKUP_TIMEOUT", 0.01)
    return made


async def test_an_answer_is_passed_on_and_asked_for_anew(server: Server) -> None:
    server.answering.set()
    resolver = Resolver()
    assert [await resolver.resolve("h"), await resolver.resolve("h")] == [FOUND, FOUND]
    assert server.asked == 2, "how long an answer is good is the connector's to know"


async def test_silence_is_told_and_a_late_answer_serves_the_next(server: Server) -> None:
    resolver = Resolver()
    for _ in range(3):
        with pytest.raises(socket.gaierror, match=SILENT_NAME_SERVER):
            await resolver.resolve("h")
    assert server.asked == 1, "those who ask meanwhile join"
    server.answering.set()
    await asyncio.sleep(0)
    assert await resolver.resolve("h") == FOUND
    assert server.asked == 1
    assert await resolver.resolve("h") == FOUND
    assert server.asked == 2


async def test_an_answer_that_nobody_asks_for_in_time_is_forgotten(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "LATE_ANSWER_TTL", 0.0)
    resolver = Resolver()
    with pytest.raises(socket.gaierror, match=SILENT_NAME_SERVER):
        await resolver.resolve("h")
    server.answering.set()
    await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    assert await resolver.resolve("h") == FOUND
    assert server.asked == 2, "addresses may have changed since"


async def test_a_late_failure_is_forgotten(server: Server) -> None:
    resolver = Resolver()
    server.fault = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    with pytest.raises(socket.gaierror, match=SILENT_NAME_SERVER):
        await resolver.resolve("h")
    server.answering.set()
    await asyncio.sleep(0.001)
    with pytest.raises(socket.gaierror, match="Temporary failure"):
        await resolver.resolve("h")
    assert server.asked == 2
    server.fault = None
    assert await resolver.resolve("h") == FOUND


async def test_names_are_looked_up_side_by_side_and_ended_together(server: Server) -> None:
    resolver = Resolver()
    for host in ("h", "i"):
        with pytest.raises(socket.gaierror):
            await resolver.resolve(host)
    assert server.asked == 2
    await resolver.close()
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if "look-up" in task.get_name()]
