"""Before HTTP: too many connections, and those that never say what they want."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web

from gemproxy.errors import StartFault
from gemproxy.listening import GuardedSite
from gemproxy.serving import bind
from gemproxy.simulator import Simulator
from tests.server_process import configured, serving


async def test_connection_beyond_the_limit_hears_503_at_once(simulator: Simulator, tmp_path: Path) -> None:
    async with serving(tmp_path, configured(simulator.ai_studio_url, server="max_connections = 2")) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"}")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        told = await asyncio.wait_for(reader.read(), 2)
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in told
        assert b"server.max_connections" in told
        held[0][1].close()
        writer.close()
        async with asyncio.timeout(5):
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
        told = await asyncio.wait_for(reader.read(), 3)
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
