"""The real process, as an operator starts it: a kill, a taken port, another loop, systemd.

Signals under load, clients that hang up and limits are in ``faults/``.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gemproxy.simulator import KeyState, Simulator
from tests.server_process import configured, serving
from tests.waiting import soon

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello"}]}
AUTH = {"Authorization": "Bearer sk-test"}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=AUTH) as made:
        yield made


def rows(file: Path, table: str) -> int:
    """Return how many rows another process has written."""
    with closing(sqlite3.connect(file)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_rests_survive_a_kill(simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession) -> None:
    simulator.keys["test-key-1"] = KeyState.PER_DAY
    state = tmp_path / "state.db"
    toml = configured(simulator.ai_studio_url, f'[state]\npath = "{state}"\n')
    async with serving(tmp_path, toml) as server:
        async with session.post(server.url + CHAT, json=HELLO) as response:
            assert response.status == 429
        await soon(lambda: rows(state, "rests"), what="a rest is written soon, not at the end: there is none")
        server.tell(signal.SIGKILL)
        await server.ended()
    async with serving(tmp_path, toml) as server:
        async with session.get(server.url + "/v1/debug/cache") as response:
            [row] = (await response.json())["credentials"]
        assert row["state"] == "cooling"
        async with session.post(server.url + CHAT, json=HELLO) as response:
            assert response.status == 429
    assert len(simulator.generations) == 1, "a key that rests is not asked after a restart either"


async def test_tokens_and_projects_survive_a_kill(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    file, state = tmp_path / "team.json", tmp_path / "state.db"
    file.write_bytes(msgspec.json.encode({"refresh_token": "refresh-team", "expiry_date": 1}))
    more = (
        f'[state]\npath = "{state}"\n[oauth]\nclient_id = "fake-client"\nclient_secret = "fake-secret"\n'
        f'[[credentials]]\nname = "team"\nkind = "oauth"\nfile = "{file}"\n'
    )
    for _ in range(2):
        async with serving(tmp_path, configured(simulator.ai_studio_url, more)) as server:
            for _ in range(4):
                async with session.post(server.url + CHAT, json=HELLO | {"stream": False}) as response:
                    assert response.status == 200
            await soon(lambda: rows(state, "grants") and rows(state, "projects"))
            server.tell(signal.SIGKILL)
            await server.ended()
    asked = [request.call for request in simulator.requests if request.upstream in ("oauth", "code_assist")]
    assert asked.count("token") == 1, "a token that lives is not refreshed after a restart"
    assert asked.count("loadCodeAssist") == 1
    assert asked.count("generateContent") == 4


async def test_uvloop_serves_as_well(simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with serving(tmp_path, configured(simulator.ai_studio_url, server='loop = "uvloop"')) as server:
        async with session.post(server.url + CHAT, json=HELLO) as response:
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        server.tell(signal.SIGTERM)
        assert await server.ended() == 0


async def test_a_taken_port_is_told(simulator: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "gemproxy.toml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        toml = configured(simulator.ai_studio_url).replace("port = 0", f"port = {taken.getsockname()[1]}")
        file.write_text(toml, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gemproxy", "serve", "--config", str(file), stderr=asyncio.subprocess.PIPE
        )
        _, told = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 1
    assert b"server.port" in told
    assert b"Traceback" not in told


async def test_systemd_hears_of_readiness_reload_and_stop(simulator: Simulator, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        heard.setblocking(False)
        toml = configured(simulator.ai_studio_url)
        async with serving(tmp_path, toml, NOTIFY_SOCKET=address, WATCHDOG_USEC="200000") as server:
            loop = asyncio.get_running_loop()

            async def hear(words: bytes) -> bytes:
                async with asyncio.timeout(5):
                    while True:
                        message = await loop.sock_recv(heard, 4096)
                        if words in message:
                            return message

            await hear(b"READY=1")
            await hear(b"WATCHDOG=1")
            server.tell(signal.SIGHUP)
            assert b"MONOTONIC_USEC=" in await hear(b"RELOADING=1")
            await hear(b"READY=1")
            server.tell(signal.SIGTERM)
            await hear(b"STOPPING=1")
            assert await server.ended() == 0
