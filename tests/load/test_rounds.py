"""A round of the loop takes in a few connections, and nobody is left out for it."""

from __future__ import annotations

import asyncio
import select
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from gemproxy.load.rounds import EVENTS_PER_ROUND, new_loop

MANY = 3 * EVENTS_PER_ROUND


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = new_loop()
    yield made
    made.close()


def test_many_ready_connections_are_taken_in_turn(loop: asyncio.AbstractEventLoop) -> None:
    """Each stays ready, as one does whose client sends without end."""
    pairs = [socket.socketpair() for _ in range(MANY)]
    reads: Counter[int] = Counter()
    rounds: list[int] = [0]

    def count() -> None:
        rounds.append(0)
        if len(rounds) <= 3 * MANY // EVENTS_PER_ROUND:
            loop.call_soon(count)
        else:
            loop.stop()

    def read(place: int) -> None:
        reads[place] += 1
        rounds[-1] += 1

    for place, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        loop.add_reader(ours, read, place)
    loop.call_soon(count)
    loop.run_forever()
    for ours, theirs in pairs:
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
    assert max(rounds) == EVENTS_PER_ROUND
    assert len(reads) == MANY, "nobody waits for ever"
    assert max(reads.values()) - min(reads.values()) <= 1


def test_the_loop_does_what_any_loop_does(loop: asyncio.AbstractEventLoop) -> None:
    async def talk() -> bytes:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            said = await reader.read()
            writer.close()
        return said

    assert loop.run_until_complete(asyncio.wait_for(talk(), 10)) == b"hello\n"


def test_without_epoll_there_is_a_loop_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    made = new_loop()
    assert made.run_until_complete(asyncio.sleep(0, "served")) == "served"
    made.close()
