"""Heavy work lets the loop have its turn, and reads take little at a time."""

from __future__ import annotations

import asyncio
import gc
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from gemproxy.load import turns
from gemproxy.load.reads import CRUMB_SIZE, READ_SIZE, read_little
from gemproxy.load.turns import STRETCH, Abandoned, go_on, pass_turn
from gemproxy.load.worker import Worker
from tests.waiting import soon


def test_a_turn_is_passed_only_in_the_workers_thread_and_for_much() -> None:
    passed: list[str] = []
    pass_turn(STRETCH)  # here nobody waits
    turns.passed_by(lambda: passed.append("turn"))
    try:
        pass_turn(STRETCH - 1)
        assert passed == []
        pass_turn(STRETCH)
        assert passed == ["turn"]
    finally:
        del turns._thread.wait


async def test_the_loop_goes_round_before_the_work_goes_on() -> None:
    worker, seen = Worker(), [0]

    async def tick() -> None:
        while True:
            await asyncio.sleep(0)
            seen[0] += 1

    def work() -> tuple[int, int]:
        before = seen[0]
        pass_turn(STRETCH)
        return before, seen[0]

    ticking = asyncio.create_task(tick())  # noqa: TID251
    before, after = await worker.run("ann", work)
    ticking.cancel()
    worker.close()
    assert after - before >= 3


async def test_the_collector_rests_while_the_worker_works() -> None:
    worker = Worker()
    assert gc.isenabled()
    assert not await worker.run("ann", gc.isenabled)
    assert gc.isenabled()
    worker.close()


async def test_what_is_dropped_is_let_go_in_the_thread() -> None:
    worker, things = Worker(), [object()]
    freed: list[str] = []
    worker.drop(things, lambda: freed.append("freed"))
    await worker.run("ann", int)
    await soon(lambda: freed == ["freed"])
    assert things == []
    worker.close()
    worker.drop(things, lambda: freed.append("closed"))
    assert freed == ["freed", "closed"]


async def test_work_ends_at_its_next_turn_once_its_client_has_left() -> None:
    worker, begun, ended = Worker(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        try:
            while True:
                go_on()
        except Abandoned:
            ended.set()
            raise

    task = asyncio.create_task(worker.run("ann", work))  # noqa: TID251
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 5)
    assert await worker.run("ann", int) == 0, "what comes next is not ended"
    worker.close()


async def test_a_closed_worker_keeps_nobody_waiting() -> None:
    worker = Worker()
    worker.close()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await worker.run("ann", int)


def test_reads_are_short_with_and_without_tls() -> None:
    plain: Any = SimpleNamespace(max_size=1 << 18)
    read_little(plain)
    assert plain.max_size == READ_SIZE
    read_little(plain, CRUMB_SIZE)
    assert plain.max_size == CRUMB_SIZE
    below: Any = SimpleNamespace(max_size=1 << 18)
    read_little(SimpleNamespace(_ssl_protocol=SimpleNamespace(_transport=below)))  # type: ignore[arg-type]
    assert below.max_size == READ_SIZE
    read_little(SimpleNamespace())  # type: ignore[arg-type]  # uvloop's


async def test_asyncio_reads_as_little_as_it_is_told() -> None:
    """The number is asyncio's own affair: this fails when another Python keeps it elsewhere."""
    sizes: list[int] = []
    done = asyncio.get_running_loop().create_future()

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            read_little(transport)

        def data_received(self, data: bytes) -> None:
            sizes.append(len(data))

        def connection_lost(self, exc: Exception | None) -> None:
            done.set_result(None)

    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        _, writer = await asyncio.open_connection(host, port)
        writer.write(bytes(20 * READ_SIZE))
        await writer.drain()
        writer.close()
        await done
    assert sum(sizes) == 20 * READ_SIZE
    assert max(sizes) <= READ_SIZE
