"""Every limit of the server and of its clients: beyond it a clear answer at once, cheaply, and memory stays flat.

Beyond a limit: 413 408 503 504 429, ``Retry-After`` on 429 and 503, the message names the setting
(docs/architecture.md 14.3). What is about memory, connections or clients that leave runs against the real process.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import aiohttp
import msgspec
import pytest

from gemproxy.simulator import Answer, Hang, Pause, Simulator, Wait, frames_answer, text_answer
from tests.faults.client import AUTH, CHAT, Got, ask, bare, error_code, hello, pool, post
from tests.faults.figures import note
from tests.running import configuration, running
from tests.server_process import configured, serving
from tests.turned_loop import Turned
from tests.waiting import soon

MIB = 1 << 20
TICK = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
LAST = {"candidates": [{"content": {"parts": [{"text": "end"}]}, "finishReason": "STOP"}]}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as made:
        yield made


@asynccontextmanager
async def held(google: Simulator, session: aiohttp.ClientSession, url: str, count: int) -> AsyncIterator[None]:
    """Keep so many requests open at the upstream."""
    seen = len(google.generations)
    google.script(Answer().after(Hang()), times=count)
    tasks = [asyncio.get_running_loop().create_task(ask(session, url, hello(stream=True))) for _ in range(count)]
    await soon(lambda: len(google.generations) == seen + count, 30)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await soon(lambda: all(request.disconnected for request in google.generations[seen : seen + count]))


def refused(got: Got, status: int, code: str, setting: str) -> None:
    """Check a refusal: its status and code, that it names the setting and says when to come back."""
    assert (got.status, got.code) == (status, code)
    assert setting in msgspec.json.decode(got.body)["error"]["message"]
    if status in (429, 503):
        assert 1 <= int(got.headers["Retry-After"]) <= 60


# --------------------------------------------------------------------------------------------------- the whole server


async def test_requests_beyond_max_requests_are_503_at_once_and_cost_nothing(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    toml = configured(simulator.ai_studio_url, server="max_requests = 20")
    async with serving(tmp_path, toml) as server:
        body = msgspec.json.encode(hello("x" * MIB))
        async with held(simulator, session, server.url, 20):
            await asyncio.gather(*(ask(session, server.url, body) for _ in range(30)))
            before = server.resident()
            for _ in range(3):
                answers = await asyncio.gather(*(ask(session, server.url, body) for _ in range(30)))
                for got in answers:
                    refused(got, 503, "overloaded", "server.max_requests")
            grown = server.resident() - before
            async with session.get(server.url + "/v1/models", headers=AUTH) as response:
                assert response.status == 200, "what costs nothing goes on"
            assert len(simulator.generations) == 20, "nobody beyond the limit is asked for upstream"
        note(f"90 requests of 1 MiB beyond server.max_requests: 503, memory +{grown / MIB:.1f} MiB")
        assert grown < 24 * MIB
        assert (await ask(session, server.url, hello())).whole, "there is room again"


async def test_connections_beyond_max_connections_hear_503_at_once(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    toml = configured(simulator.ai_studio_url, server="max_connections = 30")
    async with serving(tmp_path, toml) as server:
        idle = server.descriptors()
        async with _connected(server.port, 30):
            await soon(lambda: server.descriptors() >= idle + 30, 30, "not all were accepted")
            before = server.descriptors()
            outcomes = await asyncio.gather(*(_knock(server.port) for _ in range(60)))
            await soon(lambda: server.descriptors() <= before, 30, "who is refused leaves something behind")
        told = sum(outcome == 503 for outcome in outcomes)
        note(f"60 connections beyond server.max_connections: {told} told 503")
        assert told >= 57, "a server that closes on what it has not read resets, and the 503 with it"
        # not only fewer than before: one that was just open for something else would do
        await soon(lambda: server.descriptors() < idle + 15, 30, "those who left are still counted")
        assert (await ask(session, server.url, hello())).whole


@asynccontextmanager
async def _connected(port: int, count: int) -> AsyncIterator[None]:
    """Hold connections that have been used once, as keep-alive clients do."""
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        for reader, writer in clients:
            writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"200" in await reader.readline()
        yield
    finally:
        for _, writer in clients:
            writer.transport.abort()


async def _knock(port: int) -> int:
    """Send a whole request, as a client does that knows of no limit, and return the status it reads."""
    async with bare(port) as client:
        with suppress(ConnectionError):
            await client.say(post(msgspec.json.encode(hello("x" * 100_000))))
        status = await client.status()
        if status and not (rest := await client.rest()):
            status = 0  # the connection was reset before all of the answer could be read
        if status:
            assert b"Retry-After: " in rest
            assert error_code(msgspec.json.decode(rest.partition(b"\r\n\r\n")[2])) == "overloaded"
    return status


async def test_model_names_that_clients_make_up_do_not_fill_the_state(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """Every unknown name is a 404 that rests; of such rests only so many are kept, in memory and on disk."""
    file = tmp_path / "state.db"
    names, places = 700, asyncio.Semaphore(20)
    async with running(simulator, configuration(simulator, tmp_path, f'[state]\npath = "{file}"\n')) as server:

        async def make_up(number: int) -> int:
            async with places:
                return (await ask(session, server.url, hello(model=f"gemini-made-up-{number}"))).status

        assert set(await asyncio.gather(*map(make_up, range(names)))) == {404}
        [row] = await pool(session, server.url)
    with closing(sqlite3.connect(file)) as database:
        [[kept]] = database.execute("SELECT count(*) FROM rests").fetchall()
    note(f"{names} model names made up by a client: {len(row['cooling'])} rests in memory, {kept} on disk")
    assert len(row["cooling"]) <= 600
    assert kept <= 600


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"], ids=["sends at once", "asks first"])
async def test_announced_body_beyond_max_body_is_413_before_it_is_sent(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession, expect: str
) -> None:
    async with serving(tmp_path, configured(simulator.ai_studio_url, server=f"max_body = {MIB}")) as server:
        async with bare(server.port) as client:
            length = f"{expect}Content-Length: {MIB * 900}\r\n\r\n{{"
            top = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer x\r\n{length}"
            await client.say(top.encode())
            assert await client.status(30) == 413, "Content-Length alone tells that the body is too large"
            assert b"server.max_body" in await client.reader.readuntil(b"}}")
        assert (await ask(session, server.url, hello())).whole


async def test_request_without_a_key_is_refused_before_its_body_is_read(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    toml = configured(simulator.ai_studio_url, '[auth]\nkeys = ["sk-known"]')
    async with serving(tmp_path, toml) as server, bare(server.port) as client:
        await client.say(post(b"x" * 100, headers="Expect: 100-continue\r\n")[:-100])
        assert await client.status(30) == 401


# ------------------------------------------------------------------------------------------------------ waiting rooms


async def test_queue_is_in_order_bounded_and_says_when_to_come_back(
    turned: Turned, simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    more = "[rotation]\nmax_in_flight = 1\n[timeouts]\nqueue = 0.5\n"
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        async with held(simulator, session, server.url, 1):
            begin = turned.now
            answers = await asyncio.gather(*(ask(session, server.url, hello()) for _ in range(40)))
            took = turned.now - begin
        for got in answers:
            refused(got, 429, "rate_limit_exceeded", "timeouts.queue")
            assert got.headers["Retry-After"] == "1"
        assert 0.5 <= took < 0.6, "timeouts.queue"

    simulator.clear()
    simulator.script(text_answer("x").after(Pause(0.1)), times=None)
    patient = configuration(simulator, tmp_path, more.replace("queue = 0.5", "queue = 5"))
    async with running(simulator, patient) as server:
        answers = await asyncio.gather(*(ask(session, server.url, hello(str(n))) for n in range(4)))
        assert all(got.whole for got in answers), "who waits less than the limit is served"
        asked = [request.json()["contents"][0]["parts"][0]["text"] for request in simulator.generations]
        assert asked == sorted(asked), "first come, first served"
        assert [row["in_flight"] for row in await pool(session, server.url)] == [0]


LIMITS = [
    pytest.param("first", Answer().after(Hang()), False, "504", id="first: no headers"),
    pytest.param("first", Answer().after(Hang()), True, "504", id="first: no headers, stream"),
    pytest.param("idle", Answer((Hang(),)), False, "504", id="idle: no body"),
    pytest.param("idle", frames_answer([TICK]).then(Hang()), True, '"tick " + upstream_timeout', id="idle: mid-stream"),
    pytest.param("total", Answer().after(Hang()), False, "504", id="total: unary"),
    pytest.param("total", Answer((Hang(),), content_type="text/event-stream"), True, "504", id="total: no token"),
    pytest.param("total", frames_answer([TICK] * 200).paced(0.1), False, "504", id="total: a unary answer that crawls"),
    pytest.param("total", frames_answer([TICK] * 200).paced(0.4), True, "tick", id="total: a stream that never ends"),
]


@pytest.mark.parametrize(("limit", "answer", "stream", "outcome"), LIMITS)
async def test_answer_beyond_a_time_limit_is_504_or_an_event(
    turned: Turned,
    simulator: Simulator,
    tmp_path: Path,
    session: aiohttp.ClientSession,
    limit: str,
    answer: Answer,
    stream: bool,
    outcome: str,
) -> None:
    simulator.script(answer, times=None)
    async with running(simulator, configuration(simulator, tmp_path, f"[timeouts]\n{limit} = 0.8\n")) as server:
        begin = turned.now
        got = await ask(session, server.url, hello(stream=stream))
        took = turned.now - begin
        assert outcome in got.outcome
        assert got.code == "upstream_timeout"
        assert f"timeouts.{limit} = 0.8 s" in got.body.decode()
        assert 0.79 < took < (8 if limit == "idle" else 1.2), "idle is tried elsewhere before the content commit"
        await soon(lambda: all(request.disconnected for request in simulator.generations))
        assert [row["in_flight"] for row in await pool(session, server.url)] == [0]


async def test_no_total_means_none(
    turned: Turned, simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    simulator.script(frames_answer([TICK] * 8 + [LAST]).paced(0.15))
    async with running(
        simulator, configuration(simulator, tmp_path, "[timeouts]\nfirst = 0.6\nidle = 0.6\n")
    ) as server:
        assert (await ask(session, server.url, hello(stream=True))).text == "tick " * 8 + "end"


# --------------------------------------------------------------------------------------------------------- one client

CLIENTS = """
[auth]
keys = ["sk-free"]
[[auth.clients]]
name = "narrow"
key = "sk-narrow"
max_concurrent = 2
[[auth.clients]]
name = "calm"
key = "sk-calm"
requests_per_minute = 6
"""


def bearer(key: str) -> dict[str, str]:
    return AUTH | {"Authorization": f"Bearer {key}"}


async def test_client_beyond_its_concurrency_is_429_and_the_others_are_not(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with running(simulator, configuration(simulator, tmp_path, CLIENTS)) as server:
        for stream in (True, False):
            gate = asyncio.Event()
            simulator.script(text_answer("late").after(Wait(gate)), times=2)
            async with asyncio.TaskGroup() as group:
                seen = len(simulator.generations)
                open_ones = [
                    group.create_task(ask(session, server.url, hello(stream=stream), bearer("sk-narrow")))
                    for _ in range(2)
                ]
                await soon(lambda: len(simulator.generations) == seen + 2)  # noqa: B023 - waited for in this turn
                third = await ask(session, server.url, hello(stream=stream), bearer("sk-narrow"))
                refused(third, 429, "rate_limit_exceeded", "auth.clients.max_concurrent")
                assert (await ask(session, server.url, hello(), bearer("sk-free"))).whole
                gate.set()
            assert all(task.result().whole for task in open_ones)
            assert (await ask(session, server.url, hello(), bearer("sk-narrow"))).whole, "its places are free again"


async def test_client_that_hangs_up_gives_its_place_back(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with serving(tmp_path, configured(simulator.ai_studio_url, CLIENTS)) as server:
        for _ in range(5):
            simulator.script(Answer().after(Hang()))
            async with bare(server.port) as client:
                seen = len(simulator.generations)
                request = post(msgspec.json.encode(hello())).replace(b"Bearer sk-test", b"Bearer sk-narrow")
                await client.say(request)
                await soon(lambda: len(simulator.generations) > seen)  # noqa: B023 - as above
        await server.logged("status=499", times=5)
        assert (await ask(session, server.url, hello(), bearer("sk-narrow"))).whole


async def test_client_beyond_its_rate_is_429_with_openais_headers(
    simulator: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with running(simulator, configuration(simulator, tmp_path, CLIENTS)) as server:
        left = []
        for number in range(6):
            got = await ask(session, server.url, hello(stream=bool(number % 2)), bearer("sk-calm"))
            assert got.whole
            assert got.headers["x-ratelimit-limit-requests"] == "6"
            assert _seconds(got.headers["x-ratelimit-reset-requests"]) <= 60
            left.append(int(got.headers["x-ratelimit-remaining-requests"]))
        assert left == [5, 4, 3, 2, 1, 0]
        asked = len(simulator.generations)
        for _ in range(3):
            got = await ask(session, server.url, hello(), bearer("sk-calm"))
            refused(got, 429, "rate_limit_exceeded", "auth.clients.requests_per_minute")
            assert got.headers["x-ratelimit-remaining-requests"] == "0"
            assert 1 <= int(got.headers["Retry-After"]) <= 10, "one of six a minute comes back every ten seconds"
        assert len(simulator.generations) == asked
        free = await ask(session, server.url, hello(), bearer("sk-free"))
        assert free.whole
        assert not [name for name in free.headers if name.lower().startswith("x-ratelimit")]
        async with session.get(server.url + "/v1/models", headers=bearer("sk-calm")) as response:
            assert response.status == 200, "what costs no quota does not count"


def _seconds(text: str) -> float:
    """Return a duration as OpenAI writes it (``12ms``, ``1s``, ``6m0s``) in seconds."""
    if text.endswith("ms"):
        return float(text[:-2]) / 1000
    minutes, _, rest = text.rpartition("m")
    return float(minutes or 0) * 60 + float(rest.removesuffix("s") or 0)
