"""The simulated Gemini as a server: its addresses, its life, its record of requests."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from gemproxy.simulator import Account, Answer, Hang, Simulator, sse, text_answer
from gemproxy.simulator.recorder import Recorder
from tests.simulator.over_http import BODY, FRAME, STREAM, got, post
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time


async def test_every_upstream_answers_at_its_address(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "fake-refresh-1", "client_id": "c", "client_secret": "s"}
    async with session.post(simulator.token_url, data=form) as response:
        token = (await response.json())["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    envelope = {"model": "gemini-3.8-flash", "project": "sim-project", "request": BODY}
    async with session.post(simulator.code_assist_url + ":generateContent", json=envelope, headers=bearer) as response:
        assert "response" in await response.json()
    place = "/projects/p/locations/global/publishers/google/models/gemini-3.8-flash:generateContent"
    async with session.post(simulator.vertex_url + place, json=BODY, headers=bearer) as response:
        assert "candidates" in await response.json()
    assert await got(session, simulator)
    assert [request.upstream for request in simulator.requests] == ["oauth", "code_assist", "vertex", "ai_studio"]
    assert len(simulator.generations) == 3


async def test_consent_page_redirects_at_once(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    query = {"redirect_uri": "http://127.0.0.1:9/back", "state": "s"}
    async with session.get(simulator.auth_url, params=query, allow_redirects=False) as response:
        assert response.status == 302
        assert response.headers["Location"].startswith("http://127.0.0.1:9/back?state=s&code=")


async def test_body_beyond_the_limit_gets_the_page_of_the_front_end(
    simulator: Simulator, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemproxy.simulator.app._MAX_BODY", 1000)
    async with Simulator() as small, session.post(small.ai_studio_url + STREAM, data=b"x" * 2000) as response:
        assert response.status == 413
        assert "too large" in await response.text()
    assert small.requests == []


async def test_closing_does_not_wait_for_hanging_answers_nor_blame_the_caller() -> None:
    simulator = Simulator()
    await simulator.start()
    simulator.script(Answer((sse(FRAME), Hang())))
    async with aiohttp.ClientSession() as session, post(session, simulator) as response:
        await response.content.readexactly(10)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await simulator.close()
        assert loop.time() - begun < 1
    assert not simulator.generations[0].disconnected
    await simulator.close()  # twice does no harm


# ------------------------------------------------------------------------------------------------ the record


async def test_request_is_recorded_as_it_arrived(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    await got(session, simulator)
    (seen,) = simulator.requests
    assert seen.json() == BODY
    assert seen.headers["X-Goog-Api-Key"] == "test-key-1"
    assert seen.query["alt"] == "sse"
    assert seen.raw_path == "/v1beta" + STREAM
    assert "test-key-1" not in repr(seen)
    simulator.script(text_answer("x"))
    simulator.clear()
    assert simulator.requests == []
    assert b"Hello" in await got(session, simulator)


async def test_clock_stamps_arrival_and_end(session: aiohttp.ClientSession) -> None:
    times = iter(range(100, 200))
    async with Simulator(lambda: next(times)) as simulator:
        await got(session, simulator)
        await soon(lambda: simulator.requests[0].finished_at is not None)
        assert simulator.requests[0].arrived == 100
        assert simulator.requests[0].finished_at > 100


@pytest.mark.parametrize(("keep", "kept"), [(0, 0), (2, 4), (10, 7)])
def test_record_is_bounded(keep: int, kept: int) -> None:
    recorder = Recorder(keep)
    for number in range(7):
        recorder.add(number)  # type: ignore[arg-type]
    assert len(recorder.requests) == kept
    assert recorder.requests == [*range(7)][7 - kept :]


async def test_seed_makes_signatures_and_ids_the_same(session: aiohttp.ClientSession) -> None:
    clock = lambda: 1_800_000_000.0  # noqa: E731
    answers = []
    for seed in (1, 1, 2):
        async with Simulator(clock, seed) as simulator:
            answers.append(await got(session, simulator))
    assert answers[0] == answers[1] != answers[2]


async def test_refreshes_are_counted_per_credential(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    simulator.accounts.add(Account("fake-refresh-1"))
    form = {"grant_type": "refresh_token", "refresh_token": "fake-refresh-1", "client_id": "c", "client_secret": "s"}
    for _ in range(3):
        async with session.post(simulator.token_url, data=form) as response:
            assert response.status == 200
    assert simulator.refreshes["fake-refresh-1"] == 3
