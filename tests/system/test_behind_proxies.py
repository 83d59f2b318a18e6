"""What ``deploy/`` ships, as it stands but for ports and certificates: streams, large requests, restarts under load.

Whether a proxy holds a stream back is told by order: Gemini says the next word when the client has heard the last one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from msgspec import Struct

from gemproxy.simulator import Answer, Hang, KeyState, Simulator, Wait, frames_answer
from tests.faults.client import AUTH, CHAT, Got, ask, hello, post
from tests.faults.load import LAST, TICK, Load
from tests.server_process import ServerProcess, configured, free_port, serving
from tests.system.conftest import Program
from tests.system.deployed import Proxy, caddy, certificate, haproxy, nginx, shipped
from tests.waiting import soon

KEYS = '[auth]\nkeys = ["sk-test"]\n'
DELAY = "[timeouts]\ndrain_delay = 4\n"  # as haproxy.cfg wants it
WORDS = 12
LARGE, MAX_BODY = 20_000_000, 32 << 20  # bytes
CLIENTS = 6


class Shipped(Struct, frozen=True):
    """A file of ``deploy/``: who runs it, and which parts of it a machine must change.

    ``ports``: what stands for the port that is listened on. ``servers``: the gemproxys behind. ``certificate``: what
    stands for it. ``packing``: what has it compress answers.
    """

    name: str
    run: Callable[..., AbstractAsyncContextManager[Proxy]]
    ports: dict[str, str]
    servers: Sequence[str]
    certificate: dict[str, str]
    packing: dict[str, str]


NGINX = Shipped(
    "nginx.conf",
    nginx,
    {"listen 443 ssl": "listen 127.0.0.1:{port} ssl", "    listen [::]:443 ssl http2;\n": ""},
    ["127.0.0.1:8080"],
    {
        "/etc/letsencrypt/live/gemproxy.example.org/fullchain.pem": "{certificate}",
        "/etc/letsencrypt/live/gemproxy.example.org/privkey.pem": "{certificate}",
    },
    {"gzip on;": "gzip off;"},
)
HAPROXY = Shipped(
    "haproxy.cfg",
    haproxy,
    {"bind :::443 v4v6 ssl": "bind 127.0.0.1:{port} ssl"},
    ["127.0.0.1:8080", "127.0.0.1:8081"],
    {"/etc/haproxy/certs/gemproxy.example.org.pem": "{certificate}"},
    {"compression algo gzip": "", "compression type application/json": ""},
)
CADDY = Shipped(
    "Caddyfile",
    caddy,
    {"\ngemproxy.example.org {\n": "\nhttps://127.0.0.1:{port} {{\n\ttls {certificate} {certificate}\n"},
    ["127.0.0.1:8080"],
    {},
    {"\tencode zstd gzip {\n\t\tmatch {\n\t\t\theader Content-Type application/json*\n\t\t}\n\t}\n": ""},
)
ALL = [pytest.param(one, id=one.name) for one in (NGINX, HAPROXY, CADDY)]


@asynccontextmanager
async def before(
    one: Shipped, find: Program, folder: Path, ports: Sequence[int], *, packed: bool = True
) -> AsyncIterator[Proxy]:
    """Run a shipped file in front of servers on these ports."""
    file, tls = certificate(folder)

    def write(port: int) -> str:
        fixed = {old: f"127.0.0.1:{to}" for old, to in zip(one.servers, ports, strict=True)}
        named = {old: new.format(port=port, certificate=file) for old, new in (one.ports | one.certificate).items()}
        return shipped(one.name, fixed | named | ({} if packed else one.packing))

    async with one.run(find, folder, write, tls) as proxy:
        yield proxy


@asynccontextmanager
async def standing(
    one: Shipped, find: Program, simulator: Simulator, folder: Path, *, packed: bool = True
) -> AsyncIterator[tuple[Proxy, list[ServerProcess]]]:
    """Run a shipped file with as many servers behind as it names."""
    async with AsyncExitStack() as stack:
        toml = configured(simulator.ai_studio_url, KEYS)
        servers = [
            await stack.enter_async_context(serving(folder, toml, name=f"gemproxy-{number}"))
            for number, _ in enumerate(one.servers)
        ]
        ports = [server.port for server in servers]
        yield await stack.enter_async_context(before(one, find, folder, ports, packed=packed)), servers


async def asked(session: aiohttp.ClientSession, proxy: Proxy, body: object) -> Got:
    """Ask through a proxy, which must not answer in gemproxy's place."""
    try:
        return await ask(session, proxy.url, body, tls=proxy.tls)
    except msgspec.DecodeError:
        raise AssertionError("an answer that is the proxy's own") from None


# ---------------------------------------------------------------------------------------------------------- streams


def dialogue() -> tuple[list[bytes], list[asyncio.Event], Answer]:
    """Return words, what lets Gemini say the one after each, and the answer. One of the words is large."""
    words = [f"<{number}>{'x' * (100_000 if number == WORDS // 2 else 200)}<{number}/>" for number in range(WORDS)]
    frames = [{"candidates": [{"content": {"parts": [{"text": word}]}}]} for word in words]
    gates = [asyncio.Event() for _ in words]
    body = [frames_answer([frame]).body[0] for frame in frames]
    steps = [step for said, gate in zip(body, gates, strict=True) for step in (said, Wait(gate))]
    ends = [f"<{number}/>".encode() for number in range(WORDS)]
    return ends, gates, Answer((*steps, *frames_answer([LAST]).body), content_type="text/event-stream")


@pytest.mark.parametrize("packed", [True, False], ids=["as shipped", "without compression"])
@pytest.mark.parametrize("one", ALL)
async def test_each_piece_reaches_the_client_before_the_next_is_sent(
    program: Program, simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession, one: Shipped, packed: bool
) -> None:
    async with standing(one, program, simulator, tmp_path, packed=packed) as (proxy, _):
        ends, gates, answer = dialogue()
        simulator.script(answer)
        async with session.post(
            proxy.url + CHAT, data=msgspec.json.encode(hello(stream=True)), headers=AUTH, ssl=proxy.tls
        ) as response:
            assert response.headers["Cache-Control"] == "no-cache, no-transform"
            assert "Content-Encoding" not in response.headers
            for end, gate in zip(ends, gates, strict=True):
                await heard(response, end)
                gate.set()
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        simulator.script(frames_answer([TICK] * 1000 + [LAST]))
        async with session.post(
            proxy.url + CHAT, data=msgspec.json.encode(hello()), headers=AUTH, ssl=proxy.tls
        ) as response:
            await response.read()
            assert ("Content-Encoding" in response.headers) is packed, "answers in JSON are compressed, as shipped"


async def heard(response: aiohttp.ClientResponse, end: bytes) -> None:
    """Read until these bytes have come."""
    got = b""
    async with asyncio.timeout(20):
        while end not in got:
            got = got[-len(end) :] + await response.content.readany()


@pytest.mark.parametrize("one", ALL)
async def test_client_that_leaves_ends_the_upstream_request(
    program: Program, simulator: Simulator, tmp_path: Path, one: Shipped
) -> None:
    async with standing(one, program, simulator, tmp_path) as (proxy, servers):
        port = int(proxy.url.rpartition(":")[2])
        for stream in (True, False):
            simulator.clear()
            simulator.script(frames_answer([TICK]).then(Hang()))
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=proxy.tls)
            writer.write(post(msgspec.json.encode(hello(stream=stream))))
            await soon(lambda: bool(simulator.generations))
            writer.transport.abort()
            await soon(lambda: simulator.generations[0].disconnected)
        await soon(lambda: sum(server.log.count("status=499") for server in servers) == 2)


# --------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("one", ALL)
async def test_20_mb_go_through_and_too_much_is_told_in_our_words(
    program: Program, simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession, one: Shipped
) -> None:
    async with standing(one, program, simulator, tmp_path) as (proxy, _):
        got = await asked(session, proxy, hello("x" * LARGE))
        assert got.whole
        assert len(simulator.generations[-1].json()["contents"][0]["parts"][0]["text"]) == LARGE
        refused = await asked(session, proxy, hello("x" * MAX_BODY))
        assert (refused.status, refused.code) == (413, "request_too_large")


@pytest.mark.parametrize("one", ALL)
async def test_true_status_comes_through_when_nothing_can_be_served(
    program: Program, simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession, one: Shipped
) -> None:
    """/ready is 503 then: a proxy that asks it must not answer in gemproxy's place."""
    simulator.keys["test-key-1"] = KeyState.INVALID
    async with standing(one, program, simulator, tmp_path) as (proxy, servers):
        for server in servers:
            await ask(session, server.url, hello())
        for server in servers if one is HAPROXY else []:
            await server.logged("path=/ready status=503", times=3)  # it takes a server out after the second
        got = await asked(session, proxy, hello())
        assert (got.status, got.code) == (503, "no_upstream_credentials")


# ---------------------------------------------------------------------------------------------------------- restarts


@asynccontextmanager
async def load(session: aiohttp.ClientSession, simulator: Simulator, proxy: Proxy) -> AsyncIterator[Load]:
    """Clients that ask for streams and JSON in turn, of which some are under way at any moment."""
    simulator.script(frames_answer([TICK] * 3 + [LAST]).paced(0.03), times=None)
    running = Load(lambda number: asked(session, proxy, hello(stream=number % 2 == 0)))
    async with running.running(CLIENTS):
        yield running


async def until(running: Load, more: int) -> None:
    """Wait until so many more requests have ended."""
    wanted = running.outcomes.total() + more
    await soon(lambda: running.outcomes.total() >= wanted, seconds=30)


@pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in (NGINX, CADDY)])
async def test_restart_of_the_only_server_loses_no_request(
    program: Program, simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession, one: Shipped
) -> None:
    """The port is held, as gemproxy.socket does it; the successor starts when the old one has ended."""
    toml = configured(simulator.ai_studio_url, KEYS)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as port:
        async with before(one, program, tmp_path, [port.getsockname()[1]]) as proxy, AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(tmp_path, toml, inherited=[port], name="0"))
            async with load(session, simulator, proxy) as running:
                for number in ("1", "2", "3"):
                    await until(running, 30)
                    server.process.terminate()
                    assert await server.ended() == 0
                    server = await stack.enter_async_context(serving(tmp_path, toml, inherited=[port], name=number))
                await until(running, 30)
            assert set(running.outcomes) == {"whole"}


async def test_rolling_restart_of_two_servers_loses_no_request(
    program: Program, simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    ports = [free_port(), free_port()]
    tomls = [configured(simulator.ai_studio_url, KEYS + DELAY).replace("port = 0", f"port = {port}") for port in ports]
    async with AsyncExitStack() as stack:

        async def start(which: int, name: str) -> ServerProcess:
            return await stack.enter_async_context(serving(tmp_path, tomls[which], name=name))

        servers = [await start(0, "one"), await start(1, "two")]
        proxy = await stack.enter_async_context(before(HAPROXY, program, tmp_path, ports))
        async with load(session, simulator, proxy) as running:
            for which, server in enumerate(servers):
                await until(running, 30)
                server.process.terminate()
                assert await server.ended(30) == 0
                fresh = await start(which, f"fresh-{which}")
                await fresh.logged("status=200")  # HAProxy sends requests here again
            await until(running, 30)
        assert set(running.outcomes) == {"whole"}
