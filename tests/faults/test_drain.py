"""Restart while requests run: nothing that was begun is lost, nothing that comes is left unanswered.

Against the real process, told by signals as systemd does; for socket activation the test plays systemd
(docs/architecture.md 11).
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from gemproxy.simulator import Hang, Simulator, frames_answer
from tests.faults.client import ask, bare, hello, post
from tests.faults.figures import note
from tests.faults.load import TEXT, TICK, Load, fresh_connections, halfway
from tests.server_process import configured, rewrite, serving
from tests.waiting import soon

# ------------------------------------------------------------------------------------------------------------ drain


async def test_sigterm_on_a_socket_of_our_own_loses_no_running_stream(simulator: Simulator, tmp_path: Path) -> None:
    gate = asyncio.Event()
    simulator.script(halfway(gate), times=30)
    toml = configured(simulator.ai_studio_url, "[timeouts]\ndrain = 60\ndrain_delay = 1\n")
    async with serving(tmp_path, toml) as server, fresh_connections() as session:
        async with aiohttp.ClientSession() as keeping, asyncio.TaskGroup() as group:
            streams = [group.create_task(ask(session, server.url, hello(stream=True))) for _ in range(30)]
            await soon(lambda: len(simulator.generations) == 30)
            server.tell(signal.SIGTERM)
            await server.logged("draining")
            for path, status in (("/ready", 503), ("/health", 200), ("/", 200)):
                async with keeping.get(server.url + path) as response:
                    assert response.status == status, path
            late = [await ask(session, server.url, hello(stream=turn % 2 == 0)) for turn in range(6)]
            assert [(got.outcome, got.headers["Connection"]) for got in late] == [("whole", "close")] * 6
            gate.set()
        assert [task.result().text for task in streams] == [TEXT] * 30
        assert await server.ended() == 0
    assert len(simulator.generations) == 36, "what comes within the delay is served"


async def test_connection_whose_answer_began_before_sigterm_closes_after_it(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Its head told the client to keep it: a proxy would send the next request there, to nobody."""
    gate = asyncio.Event()
    simulator.script(halfway(gate))
    toml = configured(simulator.ai_studio_url, "[timeouts]\ndrain_delay = 20\n")
    async with serving(tmp_path, toml) as server, bare(server.port) as client:
        await client.say(post(msgspec.json.encode(hello(stream=True))))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"close" not in head
        server.tell(signal.SIGTERM)
        await server.logged("draining")
        gate.set()
        assert (await client.rest()).endswith(b"[DONE]\n\n\r\n0\r\n\r\n"), "whole, and closed within the delay"


async def test_idle_keep_alive_connections_close_at_once(simulator: Simulator, tmp_path: Path) -> None:
    """Not after the delay: a client that asks again on one must not wait for an answer that never comes."""
    toml = configured(simulator.ai_studio_url, "[timeouts]\ndrain_delay = 3600\n")
    async with serving(tmp_path, toml) as server, bare(server.port) as idle, bare(server.port) as asks_again:
        for client in (idle, asks_again):
            await client.say(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert await client.status() == 200
            await client.reader.readuntil(b"}")
        server.tell(signal.SIGTERM)
        await server.logged("draining")
        await asks_again.say(post(msgspec.json.encode(hello())))
        assert await asks_again.status(60) in (503, 0), "0: closed"
        assert await idle.rest(60) == b""


LIMITS = {
    "of the start": ("drain = 0.5", ""),
    "of a reload": ("drain = 30", "drain = 0.5"),
    "none: what runs ends at once": ("drain = 0", ""),
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_drain_ends_at_its_limit_and_tells_the_clients(simulator: Simulator, tmp_path: Path, limit: str) -> None:
    """A stream that outlives ``timeouts.drain`` must not look complete to its client; nor is JSON cut in silence."""
    simulator.script(frames_answer([TICK]).then(Hang()), times=7)
    first, later = (configured(simulator.ai_studio_url, f"[timeouts]\n{drain}\n") for drain in LIMITS[limit])
    async with serving(tmp_path, first) as server, fresh_connections() as session:
        asked = [ask(session, server.url, hello(stream=turn < 5)) for turn in range(7)]
        running = [asyncio.get_running_loop().create_task(one) for one in asked]
        await soon(lambda: len(simulator.generations) == 7)
        await asyncio.sleep(0.1)  # for their first content
        if LIMITS[limit][1]:
            rewrite(tmp_path, later)
            server.tell(signal.SIGHUP)
            await server.logged("configuration reloaded")
        server.tell(signal.SIGTERM)
        got = await asyncio.gather(*running)
        assert await server.ended() == 0
        assert [one.outcome for one in got[:5]] == ['"tick " + draining'] * 5
        assert [(one.status, one.code, one.headers["Retry-After"]) for one in got[5:]] == [(503, "draining", "1")] * 2
        await server.logged("status=503", times=7)
        await server.logged("error=draining", times=7)
    assert all(asked.disconnected for asked in simulator.generations), "nothing goes on upstream"


async def test_request_that_comes_when_the_drain_is_over_is_told(simulator: Simulator, tmp_path: Path) -> None:
    toml = configured(simulator.ai_studio_url, "[timeouts]\ndrain = 0\n")
    async with serving(tmp_path, toml) as server, bare(server.port) as late:
        await asyncio.sleep(0.1)
        server.tell(signal.SIGTERM)
        await server.logged("draining")
        await late.say(post(msgspec.json.encode(hello())))
        assert b" 503 " in (said := await late.rest())
        assert b"Retry-After: 1" in said
        assert await server.ended() == 0
    assert not simulator.generations


async def test_second_sigterm_does_not_cut_what_the_first_lets_finish(simulator: Simulator, tmp_path: Path) -> None:
    gate = asyncio.Event()
    simulator.script(halfway(gate))
    async with serving(tmp_path, configured(simulator.ai_studio_url)) as server, fresh_connections() as session:
        async with asyncio.TaskGroup() as group:
            stream = group.create_task(ask(session, server.url, hello(stream=True)))
            await soon(lambda: simulator.generations)
            for _ in range(3):
                server.tell(signal.SIGTERM)
                await asyncio.sleep(0.1)
            gate.set()
        assert stream.result().text == TEXT
        assert await server.ended() == 0


# ------------------------------------------------------------------------------------------------ socket activation


@asynccontextmanager
async def systemd_socket() -> AsyncIterator[socket.socket]:
    """The listening socket that outlives the service, as a .socket unit holds it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(512)
        sock.set_inheritable(True)
        yield sock


async def test_restart_on_an_inherited_socket_fails_no_request(simulator: Simulator, tmp_path: Path) -> None:
    toml = configured(simulator.ai_studio_url)
    async with systemd_socket() as sock, fresh_connections() as session:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        load = Load(lambda count: ask(session, url, hello(stream=count % 2 == 0)))
        servers = AsyncExitStack()
        server = await servers.enter_async_context(serving(tmp_path, toml, inherited=[sock], name="first"))
        async with servers, load.running(12):
            await soon(lambda: load.outcomes.total() > 100)
            for name in ("second", "third"):
                server.tell(signal.SIGTERM)
                assert await server.ended() == 0
                server = await servers.enter_async_context(serving(tmp_path, toml, inherited=[sock], name=name))
                reached = load.outcomes.total() + 100
                await soon(lambda: load.outcomes.total() > reached, 10)  # noqa: B023 - waited for in this turn
    note(
        "two restarts on an inherited socket: "
        f"{load.outcomes.total()} requests on connections of their own, {dict(load.outcomes)}"
    )
    assert set(load.outcomes) == {"whole"}


async def test_inherited_socket_is_left_to_the_successor_at_once(simulator: Simulator, tmp_path: Path) -> None:
    """While the old process still serves its streams, every new connection is the new process's."""
    gate = asyncio.Event()
    simulator.script(halfway(gate), times=10)
    toml = configured(simulator.ai_studio_url, "[timeouts]\ndrain_delay = 5\n")
    async with systemd_socket() as sock, fresh_connections() as session:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with (
            serving(tmp_path, toml, inherited=[sock], name="old") as old,
            asyncio.TaskGroup() as group,
        ):
            streams = [group.create_task(ask(session, url, hello(stream=True))) for _ in range(10)]
            await soon(lambda: len(simulator.generations) == 10)
            old.tell(signal.SIGTERM)
            await old.logged("draining")
            await asyncio.sleep(0.1)
            async with serving(tmp_path, toml, inherited=[sock], name="new") as new:
                assert old.process.returncode is None, "its streams still run"
                late = [await ask(session, url, hello()) for _ in range(20)]
                assert {got.outcome for got in late} == {"whole"}
                await new.logged("status=200", times=20)
                gate.set()
                assert [(await task).text for task in streams] == [TEXT] * 10
                assert await old.ended() == 0


async def test_connection_whose_request_is_on_its_way_is_served_or_untouched(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Accepted, but nothing said yet when SIGTERM comes: its request must not be lost with the connection."""
    async with systemd_socket() as sock:
        port = sock.getsockname()[1]
        async with serving(tmp_path, configured(simulator.ai_studio_url), inherited=[sock]) as server:
            async with bare(port) as client, bare(port) as half:
                await half.say(post(msgspec.json.encode(hello()))[:60])
                await asyncio.sleep(0.2)
                server.tell(signal.SIGTERM)
                await server.logged("draining")
                await asyncio.sleep(0.1)
                statuses = []
                for one, rest in ((half, post(msgspec.json.encode(hello()))[60:]), (client, post(b"{}"))):
                    try:
                        await one.say(rest)
                        statuses.append(await one.status())
                    except ConnectionError:
                        statuses.append(0)
            assert 0 not in statuses, f"an accepted connection was cut without a word: {statuses}"
