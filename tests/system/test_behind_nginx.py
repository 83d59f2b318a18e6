"""Behind a reverse proxy that gives up on silence: pings keep a thinking stream alive, statuses stay true.

A model that thinks for 90 s behind a proxy with a limit of 60 s: once with the settings as they are and a clock that
goes 20 times faster, and with settings a fraction of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from gemproxy.simulator import Answer, Hang, KeyState, Pause, Simulator, Wait, frames_answer, text_answer
from tests.faults.client import AUTH, CHAT, Got, ask, hello
from tests.faults.figures import note
from tests.server_process import ServerProcess, configured, serving
from tests.system import deployed
from tests.system.conftest import find
from tests.waiting import soon

IDLE_LIMIT = 1.0  # proxy_read_timeout; 60 s in life
THINKS = 1.5 * IDLE_LIMIT * 2  # twice the scaled 90 s, so that a slow machine proves the same
HURRY = 20  # times faster goes the server's clock in the test with real settings
PINGS = "ping_interval = 0.25"  # 15 s in life
HOLD = "[timeouts]\nhold = 0.3\n"  # 10 s and more in life
TICK = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
LAST = {"candidates": [{"content": {"parts": [{"text": "end"}]}, "finishReason": "STOP"}]}

CONFIG = """
events {{ worker_connections 256; }}
http {{
  upstream pool {{ {pool} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://pool;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host {host};
      proxy_read_timeout {limit}ms;
      proxy_next_upstream error http_503 non_idempotent;
    }}
  }}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, *ports: int, host: str = "127.0.0.1", limit: float = IDLE_LIMIT) -> AsyncIterator[str]:
    """Run nginx in front of gemproxy as a page of documentation would set it up; yields its URL."""
    place = folder / "nginx"
    place.mkdir()
    pool = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)

    def write(port: int) -> str:
        return CONFIG.format(pool=pool, port=port, host=host, limit=round(limit * 1000))

    async with deployed.nginx(find, place, write) as running:
        yield running.url


SILENCES = {
    "headers withheld": text_answer("At last.").after(Pause(THINKS)),
    "silence before the first frame": Answer(
        (Pause(THINKS), *text_answer("At last.").body), content_type="text/event-stream"
    ),
    "silence in mid-stream": Answer(
        (*frames_answer([TICK]).body, Pause(THINKS), *frames_answer([LAST]).body), content_type="text/event-stream"
    ),
}


@pytest.mark.slow
async def test_thinking_model_outlives_the_proxys_patience(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with (
        serving(tmp_path, configured(simulator.ai_studio_url, HOLD, server=PINGS)) as server,
        nginx(tmp_path, server.port) as url,
    ):

        async def think(number: int, answer: Answer) -> Got:
            model = f"gemini-2.5-think-{number}"
            simulator.script(answer, model=model)
            return await ask(session, url, hello(model=model, stream=True))

        thoughts = await asyncio.gather(*(think(number, answer) for number, answer in enumerate(SILENCES.values())))
    for what, got in zip(SILENCES, thoughts, strict=True):
        pings = got.body.count(b": ping\n\n")
        note(f"nginx gives up after {IDLE_LIMIT:g} s; {what} for {THINKS:g} s: {got.outcome}, {pings} pings")
        assert got.whole, what
        assert pings >= 4, what


@pytest.mark.slow
async def test_model_that_thinks_for_90_s_behind_a_limit_of_60_s(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """With every setting as it comes: hold 10 s, ping_interval 15 s."""
    async with hurried(simulator, tmp_path) as url:
        got = await ask(session, url, hello(stream=True))
    pings = got.body.count(b": ping\n\n")
    note(f"nginx gives up after 60 s; a model thinks for 90 s: {got.outcome}, {pings} pings")
    assert got.whole
    assert pings >= 4


@pytest.mark.slow
async def test_without_pings_the_proxy_would_cut_the_stream(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """The counter-test: what the tests above measure is the pings' doing."""
    async with hurried(simulator, tmp_path, "ping_interval = 600") as url:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(session, url, hello(stream=True))


@asynccontextmanager
async def hurried(simulator: Simulator, folder: Path, server: str = "") -> AsyncIterator[str]:
    """A server whose clock goes faster, behind nginx and before a model that thinks for 90 s by that clock."""
    simulator.script(text_answer("At last.").after(Pause(90 / HURRY)))
    toml = configured(simulator.ai_studio_url, server=server)
    async with (
        serving(folder, toml, program=("tests.faults.hurried", str(HURRY))) as running,
        nginx(folder, running.port, limit=60 / HURRY) as url,
    ):
        yield url


async def test_text_arrives_as_it_comes_without_any_setting_of_the_proxy(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    gate = asyncio.Event()
    first, last = frames_answer([TICK, LAST]).body
    simulator.script(Answer((first, Wait(gate), last), content_type="text/event-stream"))
    async with (
        serving(tmp_path, configured(simulator.ai_studio_url, HOLD, server=PINGS)) as server,
        nginx(tmp_path, server.port) as url,
        session.post(url + CHAT, data=msgspec.json.encode(hello(stream=True)), headers=AUTH) as response,
    ):
        async with asyncio.timeout(5):
            await response.content.readuntil(b"tick")
        gate.set()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_true_status_and_its_headers_come_through(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    simulator.keys["test-key-1"] = KeyState.PER_MINUTE
    async with (
        serving(tmp_path, configured(simulator.ai_studio_url, HOLD, server=PINGS)) as server,
        nginx(tmp_path, server.port) as url,
    ):
        got = await ask(session, url, hello(stream=True))
        assert (got.status, got.code) == (429, "rate_limit_exceeded")
        assert int(got.headers["Retry-After"]) > 0
        assert re.fullmatch(r"req_[0-9a-f]+", got.headers["X-Request-ID"])


async def test_client_that_leaves_the_proxy_ends_the_upstream_request(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    simulator.script(frames_answer([TICK]).then(Hang()))
    async with (
        serving(tmp_path, configured(simulator.ai_studio_url, HOLD, server=PINGS)) as server,
        nginx(tmp_path, server.port) as url,
    ):
        async with session.post(url + CHAT, data=msgspec.json.encode(hello(stream=True)), headers=AUTH) as response:
            await response.content.readuntil(b"tick")
            response.close()
        took = await soon(lambda: simulator.generations[0].disconnected)
        note(f"client leaves nginx: upstream request ended after {took * 1000:.0f} ms")
        await server.logged("status=499")


async def test_public_name_needs_a_key_and_says_so(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """A proxy that passes the public name on makes the loopback server public: then any token must not do."""
    async with (
        serving(tmp_path, configured(simulator.ai_studio_url)) as server,
        nginx(tmp_path, server.port, host="chat.example.org") as url,
    ):
        got = await ask(session, url, hello())
        assert got.status == 403
        assert b"auth.keys" in got.body
    assert not simulator.generations


@pytest.mark.slow
async def test_one_of_two_servers_restarts_and_no_request_fails(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    toml = configured(simulator.ai_studio_url, "[timeouts]\ndrain_delay = 0.5\n")
    async with (
        serving(tmp_path, toml, name="one") as one,
        serving(tmp_path, toml, name="two") as two,
        nginx(tmp_path, one.port, two.port) as url,
    ):
        outcomes, stop = [], asyncio.Event()

        async def client() -> None:
            while not stop.is_set():
                outcomes.append((await ask(session, url, hello(stream=len(outcomes) % 2 == 0))).outcome)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(client())
            await asyncio.sleep(0.5)
            await _stopped(one)
            await asyncio.sleep(0.3)
            stop.set()
        note(f"one of two servers stops behind nginx: {len(outcomes)} requests, {set(outcomes)}")
        assert set(outcomes) == {"whole"}
        await one.logged("draining")
        await two.logged("status=200")


async def _stopped(server: ServerProcess) -> None:
    server.process.terminate()
    assert await server.ended() == 0
