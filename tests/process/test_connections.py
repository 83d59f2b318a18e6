"""Before HTTP: too many connections, and those that never say what they want."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from gemproxy.aiohttp_parts import PLAIN
from gemproxy.errors import StartFault
from gemproxy.process.connections import GuardedSite, connections
from gemproxy.process.sockets import bind
from gemproxy.process.watched import Runner
from gemproxy.simulator import Simulator
from tests.faults.client import bare, port_of
from tests.plain import needs_parts
from tests.running import running
from tests.server_process import configured, serving
from tests.waiting import soon


async def test_connection_beyond_the_limit_hears_503_at_once(simulator: Simulator, tmp_path: Path) -> None:
    async with serving(tmp_path, configured(simulator.ai_studio_url, server="max_connections = 2")) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"}")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        told = await asyncio.wait_for(reader.read(), 60)
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in told
        assert b"server.max_connections" in told
        held[0][1].close()
        writer.close()
        async with asyncio.timeout(60):
            while b" 200 " not in await health(server.port):
                pass
        held[1][1].close()


async def health(port: int) -> bytes:
    """Return the status line that a connection of its own hears."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    line = await reader.readline()
    writer.close()
    return line


@pytest.mark.parametrize("said", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nX-Slow: "])
async def test_connection_that_says_nothing_is_closed(simulator: Simulator, tmp_path: Path, said: bytes) -> None:
    toml = configured(simulator.ai_studio_url, "[timeouts]\nheaders = 0.3\n")
    async with serving(tmp_path, toml) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(said)
        told = await asyncio.wait_for(reader.read(), 60)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert b"timeouts.headers" in told
        writer.close()


async def test_connection_that_spoke_in_time_stays(simulator: Simulator, tmp_path: Path) -> None:
    toml = configured(simulator.ai_studio_url, "[timeouts]\nheaders = 0.3\n")
    async with serving(tmp_path, toml) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(2):
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"}")
            await asyncio.sleep(0.5)
        writer.close()


def test_one_port_can_be_shared_only_when_asked() -> None:
    [first] = bind("127.0.0.1", 0, reuse_port=True)
    first.listen()
    port = first.getsockname()[1]
    [second] = bind("127.0.0.1", port, reuse_port=True)
    second.close()
    with pytest.raises(StartFault, match=r"server\.port"):
        bind("127.0.0.1", port, reuse_port=False)[0].listen()
    first.close()


@pytest.mark.parametrize(("keep", "shared", "told"), [("memory", True, 1), ("memory", False, 0), ("off", True, 0)])
async def test_processes_of_one_port_say_what_each_keeps_for_itself(
    simulator: Simulator, tmp_path: Path, keep: str, shared: bool, told: int
) -> None:
    more = f'[responses]\nkeep = "{keep}"\n'
    [sock] = bind("127.0.0.1", 0, reuse_port=shared)  # as systemd does it with ReusePort=
    sock.listen()
    toml = configured(simulator.ai_studio_url, more)
    async with serving(tmp_path, toml, inherited=[sock]) as server:
        assert server.log.count("responses.keep") == told
    sock.close()


@pytest.mark.parametrize("turns", range(6))
async def test_connection_that_comes_while_the_site_stops_is_served_or_left(turns: int) -> None:
    """Asyncio needs a turn of the loop from accepting a connection to serving it; a stop may fall into it."""

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        inherited.setblocking(False)
        site = GuardedSite(runner, inherited.dup(), limit=lambda: 0, patience=lambda: 30.0)
        await site.start()
        with socket.create_connection(inherited.getsockname()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            client.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            await site.stop()
            try:
                inherited.accept()[0].close()  # as the successor would
            except BlockingIOError:
                answer = await asyncio.wait_for(loop.sock_recv(client, 4096), 5)
                assert answer.startswith(b"HTTP/1.1 200 ")
    await runner.cleanup()


async def test_whoever_waits_when_the_site_stops_is_served() -> None:
    """A listener that closes resets what its queue holds."""

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    [sock] = bind("127.0.0.1", 0, reuse_port=False)
    site = GuardedSite(runner, sock, limit=lambda: 0, patience=lambda: 30.0)
    await site.start()
    with ExitStack() as clients:
        waiting = [clients.enter_context(socket.create_connection(sock.getsockname())) for _ in range(100)]
        await site.stop()
        for client in waiting:
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            client.setblocking(False)
            answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 4096), 5)
            assert answer.startswith(b"HTTP/1.1 200 ")
    await runner.cleanup()


# ------------------------------------------------------------------------------------------------ what is kept of it


FAT = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 8000) for n in range(120))
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = HEALTH[:-2] + b"Connection: close\r\n\r\n"
CHUNKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


async def told(port: int, *pieces: bytes) -> list[int]:
    """Say this, one piece after the other, and return the status of each answer until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        answers = await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()
    found = re.findall(rb"HTTP/1\.[01] (\d+) .*?\r\n\r\n(\{.*?\})(?=HTTP/1|$)", answers, re.DOTALL)
    assert len(found) == len(re.findall(rb"HTTP/1\.[01] \d", answers))
    assert all((status == b"200") != ("error" in msgspec.json.decode(body)) for status, body in found)
    return [int(status) for status, _ in found]


@pytest.mark.parametrize(
    ("pieces", "statuses"),
    [
        pytest.param([FAT], [431], id="a head without end, at once"),
        pytest.param([FAT[:50_000], FAT[50_000:100_000]], [431], id="a head without end, in pieces"),
        pytest.param([FAT + b"\r\n"], [431], id="a head that ends too late"),
        pytest.param([HEALTH * 2_000 + LAST], [], id="more requests than are read at once"),
        pytest.param([HEALTH, FAT], [431], id="a head without end behind an answer"),
        pytest.param([HEALTH * 3 + FAT[:100_000]], [431], id="a head without end behind other requests"),
        pytest.param([b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"], [414], id="a URL too long"),
        pytest.param([HEALTH[:-2] + b"X: " + b"a" * 9_000 + b"\r\n\r\n"], [431], id="a header too long"),
        pytest.param(
            [b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n"], [431], id="too many lines"
        ),
        pytest.param([CHUNKED + b"2\r\n{}\r\n0\r\n" + FAT[39:]], [431], id="trailers without end"),
        pytest.param([CHUNKED, b"2\r\n{}\r\n0\r\n", FAT[39:]], [431], id="trailers without end, in pieces"),
        pytest.param([CHUNKED, b"2;" + b"x" * 200_000], [431], id="an extension of a chunk without end"),
        pytest.param(
            [CHUNKED, b"2\r\n{}\r\n", b"zz\r\n"],
            [400],
            marks=needs_parts("its reader waits for timeouts.body"),
            id="a chunk that is none behind one that is",
        ),
        pytest.param([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0" * 100_000], [400], id="HTTP/2"),
    ],
)
async def test_what_does_not_end_is_refused_and_kept_no_longer(
    simulator: Simulator, pieces: list[bytes], statuses: list[int]
) -> None:
    async with running(simulator) as server:
        assert [status for status in await told(port_of(server), *pieces) if status != 200] == statuses


async def test_heads_without_end_hold_little_memory(simulator: Simulator, tmp_path: Path) -> None:
    """100 connections that send 1 MiB of headers each held 200 MiB for timeouts.headers."""
    async with serving(tmp_path, configured(simulator.ai_studio_url)) as server:
        await health(server.port)
        before = server.resident()
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(100)]
        for reader, writer in held:
            writer.write(FAT)
            assert b" 431 " in await reader.readline()
        grown = server.resident() - before
        for _, writer in held:
            writer.close()
    assert grown < 40 << 20


@asynccontextmanager
async def guarded(handler: Handler, send: float = 60.0) -> AsyncIterator[tuple[web.AppRunner, int]]:
    """Serve one handler on a guarded site; gives the runner and the port."""
    app = web.Application()
    app.router.add_get("/", handler)
    runner = Runner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    [sock] = bind("127.0.0.1", 0, reuse_port=False)
    await GuardedSite(runner, sock, limit=lambda: 0, patience=lambda: 30.0, send=lambda: send).start()
    try:
        yield runner, sock.getsockname()[1]
    finally:
        await runner.cleanup()


async def test_only_few_requests_wait_behind_another() -> None:
    """What a client sends ahead of its answers stays in the kernel: each request may hold 64 KiB."""

    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with guarded(hang) as (runner, port), bare(port) as client:
        client.writer.write(
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: %b\r\n" % (b"a" * 8000) * 7 + b"\r\n") * 60
        )
        await soon(lambda: [one for one in connections(runner) if one.busy])
        await asyncio.sleep(0.2)
        [connection] = connections(runner)
        assert len(connection._messages) <= 2 + (256 << 10) // 56_000 + 1


async def test_client_that_takes_no_answer_is_dropped() -> None:
    async def large(request: web.Request) -> web.Response:
        return web.Response(body=bytes(16 << 20))

    async with guarded(large, send=0.2) as (runner, port), bare(port, receive=4096) as client:
        client.writer.transport.pause_reading()
        await client.say(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await soon(lambda: list(connections(runner)))
        await soon(lambda: not list(connections(runner)), seconds=60)


async def test_the_kernel_gives_up_a_client_that_confirms_nothing() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        sock = request.transport.get_extra_info("socket")
        return web.Response(text=str(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)))

    async with guarded(answer, send=7.5) as (_, port), bare(port) as client:
        await client.say(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await client.reader.read()).endswith(b"7500")


@pytest.mark.parametrize("send", [1e-6, 31_536_000.0], ids=["no time at all", "a year"])
async def test_any_limit_on_silence_is_one_that_the_kernel_takes(send: float) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="served")

    async with guarded(answer, send=send) as (_, port), bare(port) as client:
        await client.say(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(client.reader.read(), 60)).endswith(b"served")


@pytest.mark.parametrize("chunks", [16_384, 16_385, 16_386])
async def test_a_body_in_tiny_chunks_that_waits_behind_an_answer_comes_whole(chunks: int) -> None:
    """Of more than 16,384 aiohttp stops reading, and what its parser keeps then is asked for again."""
    first = asyncio.Event()
    bodies: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        if not bodies:
            await first.wait()
        bodies.append(len(await request.content.read()))
        return web.Response(text="served")

    head = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    async with guarded(answer) as (runner, port), bare(port) as client:
        await client.say(head + b"\r\n" + head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.say(b"1\r\nx\r\n" * chunks)
        await soon(
            lambda: any(
                PLAIN or (one._messages and one._messages[0][1].total_bytes == chunks) for one in connections(runner)
            )
        )
        first.set()
        await soon(lambda: len(bodies) == 1)
        await asyncio.sleep(0.05)  # the second is being read
        await client.say(b"1\r\ny\r\n0\r\n\r\n")
        await asyncio.wait_for(client.reader.read(), 60)
    assert bodies == [0, chunks + 1]


async def test_a_request_that_came_before_its_connection_was_to_close_is_served() -> None:
    """A proxy that keeps connections may just have sent one; closed, it could only be lost."""
    asked = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="served")

    async with guarded(answer) as (runner, port), bare(port) as client:
        await client.say(asked)
        await client.reader.readuntil(b"served")
        [connection] = connections(runner)
        await soon(lambda: not connection.busy)
        client.writer.write(asked)
        connection.retire()
        assert (await asyncio.wait_for(client.reader.read(), 60)).endswith(b"served")
