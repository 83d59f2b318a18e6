"""Time that is turned jumps over what is only waited for, and over nothing that is done."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.turned_loop import RUNNING, Turned, turned_time
from tests.waiting import soon


async def test_a_wait_takes_as_long_as_it_says_by_the_loops_time_alone(turned: Turned) -> None:
    loop = asyncio.get_running_loop()
    begun, real = loop.time(), time.monotonic()
    await asyncio.sleep(80_000)
    assert loop.time() - begun == pytest.approx(80_000)
    assert time.monotonic() - real < 40_000
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3_600):
            await asyncio.Event().wait()
    assert loop.time() - begun == pytest.approx(83_600)
    assert turned.jumps == 2


async def test_timers_run_in_their_order_and_none_is_passed_over(turned: Turned) -> None:
    loop, heard = asyncio.get_running_loop(), []
    for seconds in (30, 1, 20, 0.001, 10):
        loop.call_later(seconds, heard.append, seconds)
    await asyncio.sleep(25)
    assert heard == [0.001, 1, 10, 20]


async def test_time_stands_still_while_the_loop_works(turned: Turned) -> None:
    async with asyncio.timeout(0.01):
        for _ in range(5):
            time.sleep(0.01)
            await asyncio.sleep(0)
    assert turned.jumps == 0


async def test_nothing_is_jumped_over_while_a_job_of_an_executor_is_under_way(turned: Turned) -> None:
    go_on = threading.Event()
    threading.Timer(0.1, go_on.set).start()
    async with asyncio.timeout(100):
        await asyncio.to_thread(go_on.wait)
    assert turned.jumps == 0


async def test_time_passes_beside_a_job_that_waits_for_the_loop(turned: Turned) -> None:
    go_on = threading.Event()
    asyncio.get_running_loop().call_later(0.02, go_on.set)
    assert await asyncio.to_thread(go_on.wait, 10)
    assert turned.jumps == 0


async def test_it_is_turned_by_hand_while_a_job_is_under_way(turned: Turned) -> None:
    go_on = threading.Event()
    job = asyncio.get_running_loop().run_in_executor(None, go_on.wait)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            turned.advance(11)
            await asyncio.shield(job)
    go_on.set()
    await job


async def test_what_goes_to_and_fro_over_loopback_is_nothing_to_jump_over(turned: Turned) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, asyncio.timeout(0.01):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for size in [1] * 500 + [1 << 20] * 10:
            writer.write(bytes(size))
            assert len(await reader.readexactly(size)) == size
        writer.close()
    assert turned.jumps == 0


async def test_soon_wakes_when_it_is_so_and_makes_no_time_pass_by_itself(turned: Turned) -> None:
    loop = asyncio.get_running_loop()
    heard: list[int] = []
    begun = loop.time()
    loop.call_later(7, heard.append, 1)
    loop.call_later(9, heard.append, 2)
    assert await soon(lambda: heard) == pytest.approx(7)
    threading.Timer(0.05, heard.append, [3]).start()
    jumps = turned.jumps
    await soon(lambda: 3 in heard)
    assert turned.jumps <= jumps + 1  # the timer of 9 s
    assert loop.time() - begun <= 9.001


async def test_soon_fails_by_real_time_and_tells_what_its_question_raised(turned: Turned) -> None:
    with pytest.raises(AssertionError, match="no such thing"):
        await soon(lambda: False, 0.01, "no such thing")
    with pytest.raises(ZeroDivisionError):
        await soon(lambda: 1 / 0)


async def test_a_process_is_refused_since_its_time_is_not_turned(turned: Turned) -> None:
    with pytest.raises(RuntimeError, match="a time of its own"):
        await asyncio.create_subprocess_exec("true")


async def test_afterwards_time_is_real_and_never_goes_back() -> None:
    loop = asyncio.get_running_loop()
    with turned_time():
        await asyncio.sleep(1_000)
        last = loop.time()
    assert loop not in RUNNING
    assert loop.time() >= last
    real = time.monotonic()
    await asyncio.sleep(0.02)
    assert time.monotonic() - real >= 0.019
    assert loop.time() - last >= 0.019
    await asyncio.to_thread(int)
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
