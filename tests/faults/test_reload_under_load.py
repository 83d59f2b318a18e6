"""Reload while requests run: credentials, keys and limits change, no request fails, a broken file changes nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gemproxy.simulator import Answer, Hang, Simulator, Wait, text_answer
from tests.faults.client import AUTH, ask, bare, hello
from tests.faults.figures import note
from tests.faults.load import TEXT, Load, fresh_connections, halfway
from tests.server_process import ServerProcess, configured, rewrite, serving
from tests.waiting import soon

# ------------------------------------------------------------------------------------------------------------ reload


def auth(*keys: str) -> str:
    return "[auth]\nkeys = [" + ", ".join(f'"{key}"' for key in keys) + "]\n"


def credential(number: int) -> str:
    return f'[[credentials]]\nname = "studio-{number}"\nkind = "api_key"\nkey = "test-key-{number}"\n'


async def reloaded(server: ServerProcess, times: int) -> None:
    server.tell(signal.SIGHUP)
    await server.logged("configuration reloaded", times=times)


async def test_reload_swaps_credentials_keys_and_limits_with_no_failed_request(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.pace = 0.01
    url = simulator.ai_studio_url
    base = configured(url, keys=0)
    async with (
        serving(tmp_path, base + auth("sk-old", "sk-test") + credential(1)) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        load = Load(lambda count: ask(session, server.url, hello(stream=count % 2 == 0)))
        async with load.running(16):
            for times in range(1, 11):
                await soon(lambda: load.outcomes.total() > 40 * times, 20)  # noqa: B023 - waited for in this turn
                alias = '[models.aliases]\nnewest = "gemini-3.5-flash"\n'
                limits = alias + f"[rotation]\nmax_in_flight = {20 + times}\n[timeouts]\nqueue = {3 + times}\n"
                both = credential(times) + credential(times + 1)
                rewrite(tmp_path, base + auth("sk-test", f"sk-new-{times}") + limits + both)
                await reloaded(server, times)
            await soon(lambda: load.outcomes.total() > 500, 20)
        note(f"10 reloads under load: {load.outcomes.total()} requests, {dict(load.outcomes)}")
        assert set(load.outcomes) == {"whole"}
        simulator.clear()
        for _ in range(4):
            assert (await ask(session, server.url, hello())).whole
        assert {request.credential for request in simulator.generations} == {"test-key-10", "test-key-11"}
        statuses = [
            (await ask(session, server.url, hello(), AUTH | {"Authorization": f"Bearer {key}"})).status
            for key in ("sk-old", "sk-new-9", "sk-new-10")
        ]
        assert statuses == [401, 401, 200]
        assert (await ask(session, server.url, hello(model="newest"))).whole
        assert simulator.generations[-1].model == "gemini-3.5-flash"


BROKEN = {
    "is no TOML": "[server\nport = 1",
    "has an unknown key": "[server]\nprot = 1\n" + credential(2),
    "has a wrong type": '[timeouts]\nidle = "long"\n' + credential(2),
    "has no credential": "[server]\nport = 0\n",
    "names a file that is not there": '[[credentials]]\nname = "a"\nkind = "oauth"\nfile = "/nowhere/x.json"\n',
    "opens the door": '[server]\nhost = "0.0.0.0"\n' + credential(2),
    "is not UTF-8": "# \udcff\n" + credential(2),
    "is empty": "",
}


async def test_broken_file_changes_nothing(simulator: Simulator, tmp_path: Path) -> None:
    toml = configured(simulator.ai_studio_url)
    async with serving(tmp_path, toml) as server, aiohttp.ClientSession() as session:
        load = Load(lambda _: ask(session, server.url, hello()))
        async with load.running(4):
            for times, (what, text) in enumerate(BROKEN.items(), 1):
                (tmp_path / "gemproxy.toml").write_bytes(text.encode(errors="surrogateescape"))
                server.tell(signal.SIGHUP)
                line = await server.logged("reload refused", times=times)
                assert "the old configuration stays" in line, what
                assert ("server.prot" in line) == ("prot" in text), "an unknown key is named"
            (tmp_path / "gemproxy.toml").unlink()
            server.tell(signal.SIGHUP)
            await server.logged("reload refused", times=len(BROKEN) + 1)
        assert set(load.outcomes) == {"whole"}
        assert {request.credential for request in simulator.generations} == {"test-key-1"}
        rewrite(tmp_path, toml.replace("test-key-1", "test-key-9"))
        await reloaded(server, 1)
        assert (await ask(session, server.url, hello())).whole
        assert simulator.generations[-1].credential == "test-key-9"


async def test_credential_that_a_reload_removes_ends_its_running_answer_in_peace(
    simulator: Simulator, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    simulator.script(halfway(gate))
    base = configured(simulator.ai_studio_url, keys=0)
    async with serving(tmp_path, base + credential(1)) as server, aiohttp.ClientSession() as session:
        async with asyncio.TaskGroup() as group:
            stream = group.create_task(ask(session, server.url, hello(stream=True)))
            await soon(lambda: simulator.generations)
            rewrite(tmp_path, base + credential(2))
            await reloaded(server, 1)
            gate.set()
        assert stream.result().text == TEXT
        assert (await ask(session, server.url, hello())).whole
        assert simulator.generations[-1].credential == "test-key-2"


# Each limit: TOML that sets it low, and the status that the request then gets.
async def _too_large(session: aiohttp.ClientSession, server: ServerProcess, google: Simulator) -> int:
    return (await ask(session, server.url, hello("x" * 50_000))).status


async def _one_too_many(session: aiohttp.ClientSession, server: ServerProcess, google: Simulator) -> int:
    gate = asyncio.Event()
    google.script(text_answer("late").after(Wait(gate)))
    seen = len(google.generations)
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(session, server.url, hello()))
        await soon(lambda: len(google.generations) > seen)
        second = await ask(session, server.url, hello())
        gate.set()
    return second.status


async def _second(session: aiohttp.ClientSession, server: ServerProcess, google: Simulator) -> int:
    await ask(session, server.url, hello())
    return (await ask(session, server.url, hello())).status


async def _held(session: aiohttp.ClientSession, server: ServerProcess, google: Simulator) -> int:
    google.script(Answer().after(Hang()))
    async with asyncio.timeout(5):
        return (await ask(session, server.url, hello())).status


async def _third_connection(session: aiohttp.ClientSession, server: ServerProcess, google: Simulator) -> int:
    async with bare(server.port) as one, bare(server.port) as two:
        for client in (one, two):
            await client.say(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await client.status()
        async with fresh_connections() as other:
            return (await ask(other, server.url, hello())).status


NARROW = '[[auth.clients]]\nname = "one"\nkey = "sk-test"\n'


@pytest.mark.parametrize(
    ("limit", "provoke", "status"),
    [
        pytest.param("[server]\nmax_requests = 1\n", _one_too_many, 503, id="server.max_requests"),
        pytest.param("[server]\nmax_body = 20000\n", _too_large, 413, id="server.max_body"),
        pytest.param("[server]\nmax_connections = 2\n", _third_connection, 503, id="server.max_connections"),
        pytest.param("[rotation]\nmax_in_flight = 1\n[timeouts]\nqueue = 0.1\n", _one_too_many, 429, id="in flight"),
        pytest.param("[timeouts]\nfirst = 0.3\n", _held, 504, id="timeouts.first"),
        pytest.param("[timeouts]\ntotal = 0.3\n", _held, 504, id="timeouts.total"),
        pytest.param(NARROW + "max_concurrent = 1\n", _one_too_many, 429, id="a client's max_concurrent"),
        pytest.param(NARROW + "requests_per_minute = 1\n", _second, 429, id="a client's requests_per_minute"),
    ],
)
async def test_reload_changes_limits(
    simulator: Simulator, tmp_path: Path, limit: str, provoke: Callable[..., Any], status: int
) -> None:
    end = f'\n[upstream]\nai_studio_url = "{simulator.ai_studio_url}"\n' + credential(1)
    start = NARROW if "auth" in limit else ""
    narrow = limit if "[server]" in limit else "[server]\nport = 0\n" + limit
    async with (
        serving(tmp_path, "[server]\nport = 0\n" + start + end) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
    ):
        if "first" not in limit and "total" not in limit:
            assert await provoke(session, server, simulator) == 200, "without the limit"
        rewrite(tmp_path, narrow + end)
        await reloaded(server, 1)
        assert await provoke(session, server, simulator) == status
