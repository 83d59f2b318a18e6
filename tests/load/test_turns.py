"""Heavy work lets the loop have its turn, and reads take little at a time."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

from gemproxy.load import turns
from gemproxy.load.reads import CRUMB, READ, read_little
from gemproxy.load.turns import LONG, pass_turn
from gemproxy.load.worker import Worker


def test_a_turn_is_passed_only_in_the_workers_thread_and_for_much() -> None:
    passed: list[str] = []
    pass_turn(LONG)  # here nobody waits
    turns.passed_by(lambda: passed.append("turn"))
    try:
        pass_turn(LONG - 1)
        assert passed == []
        pass_turn(LONG)
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
        pass_turn(LONG)
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
    worker.drop(things)
    await worker.run("ann", int)
    assert things == []
    worker.close()


def test_reads_are_short_with_and_without_tls() -> None:
    plain: Any = SimpleNamespace(max_size=1 << 18)
    read_little(plain)
    assert plain.max_size == READ
    read_little(plain, CRUMB)
    assert plain.max_size == CRUMB
    below: Any = SimpleNamespace(max_size=1 << 18)
    read_little(SimpleNamespace(_ssl_protocol=SimpleNamespace(_transport=below)))  # type: ignore[arg-type]
    assert below.max_size == READ
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
        writer.write(bytes(20 * READ))
        await writer.drain()
        writer.close()
        await done
    assert sum(sizes) == 20 * READ
    assert max(sizes) <= READ
