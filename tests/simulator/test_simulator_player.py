"""Answers as they cross a real socket: pieces, silences, resets, and callers that hang up."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from gemproxy.simulator import (
    Answer,
    CutOff,
    Hang,
    Pause,
    Reset,
    Simulator,
    Wait,
    drip,
    error_answer,
    frames_answer,
    replay,
    sse,
    text_answer,
)
from tests.corpus import path_of
from tests.simulator.over_http import FRAME, got, post
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time


async def test_pieces_arrive_one_by_one(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    simulator.script(Answer(drip(sse(FRAME), 10, 0.005)))
    async with post(session, simulator) as response:
        pieces = [piece async for piece in response.content.iter_any()]
    assert b"".join(pieces) == sse(FRAME)
    assert len(pieces) > 3


async def test_status_headers_and_type_are_as_scripted(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    simulator.script(error_answer(429, "wait", content_type="text/plain", headers={"Retry-After": "7"}))
    async with post(session, simulator) as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "7"
        assert response.content_type == "text/plain"


async def test_gzip_answer_is_compressed_piece_by_piece(simulator: Simulator) -> None:
    simulator.script(Answer((sse(FRAME), Hang()), content_type="text/event-stream", gzip=True))
    async with aiohttp.ClientSession() as session, post(session, simulator) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert await response.content.readexactly(len(sse(FRAME))) == sse(FRAME)


async def test_whole_gzip_answer_ends_well(simulator: Simulator) -> None:
    simulator.script(Answer((b"a" * 1000, b"b"), gzip=True))
    async with aiohttp.ClientSession() as session:
        assert await got(session, simulator) == b"a" * 1000 + b"b"


async def test_content_length_is_sent_when_announced(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    simulator.script(Answer((b"abc",), content_length=3))
    async with post(session, simulator) as response:
        assert response.headers["Content-Length"] == "3"
        assert await response.read() == b"abc"


async def test_pause_and_wait_hold_the_answer_back(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    event = asyncio.Event()
    simulator.script(Answer((b"a", Pause(60), b"b", Wait(event), b"c")).after(Pause(50)))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with post(session, simulator) as response:
        assert loop.time() - begun == pytest.approx(50)
        assert await response.content.readexactly(2) == b"ab"
        assert loop.time() - begun == pytest.approx(110)
        event.set()
        assert await response.read() == b"c"


@pytest.mark.parametrize(
    "file",
    [
        "aistudio/stream/text__gemini-2.5-flash__rubyllm-03.sse",
        "aistudio/stream/function-call_json-array__gemini-3-flash-preview__llmgemini-01.json",
        "vertex/stream/error-mid-stream__unknown__firebase-01.sse",
        "errors/429-resource-exhausted-per-day__aistudio__invented-02.json",
        "errors/404__vertex__firebase-01.html",
    ],
)
async def test_recording_crosses_the_wire_unchanged(
    file: str, simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    path = path_of(f"corpus/{file}")
    simulator.script(replay(path, size=1000))
    assert await got(session, simulator) == path.read_bytes()


# ------------------------------------------------------------------------------------------------ broken off

BROKEN = {
    "reset in the middle": Answer((b"abc", Pause(0.01), Reset())),
    "cut off in the middle": Answer((b"abc", CutOff())),
    "short of its length": Answer((b"abc",), content_length=10),
    "cut off before its length": Answer((b"abc", CutOff()), content_length=10),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
async def test_broken_answer_raises_after_what_was_sent(
    answer: Answer, simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    simulator.script(answer)
    async with post(session, simulator) as response:
        assert await response.content.readexactly(3) == b"abc"
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert not simulator.generations[0].disconnected


@pytest.mark.parametrize("step", [Reset(), CutOff()])
async def test_connection_can_end_before_the_status(
    step: Any, simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    simulator.script(text_answer("never").after(step), times=5)  # the client tries an idempotent request again
    with pytest.raises((aiohttp.ServerDisconnectedError, ConnectionResetError, aiohttp.ClientOSError)):
        await got(session, simulator)


async def test_reset_is_a_reset_and_not_an_end(simulator: Simulator) -> None:
    simulator.script(Answer().after(Reset()))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(simulator.url.rpartition(":")[2]))
    writer.write(b"POST /v1beta/models/m:generateContent HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_bytes_before_the_status_are_a_mistake_of_the_test(
    simulator: Simulator, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.script(Answer().after(b"too early"))
    async with post(session, simulator) as response:
        assert response.status == 500
    assert "no bytes before the status line" in caplog.text


# ------------------------------------------------------------------------------------------------ who hung up


@pytest.mark.parametrize("step", [Hang(), Pause(60)])
@pytest.mark.parametrize("early", [True, False], ids=["before the status", "after a frame"])
async def test_caller_that_hangs_up_is_noticed(
    step: Any, early: bool, simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    simulator.script(Answer((sse(FRAME),)).after(step) if early else Answer((sse(FRAME), step)))
    if early:
        leaving = asyncio.get_running_loop().create_task(got(session, simulator))
        await soon(lambda: simulator.generations)
        leaving.cancel()
    else:
        async with post(session, simulator) as response:
            await response.content.readexactly(len(sse(FRAME)))
            response.close()
    await soon(lambda: simulator.generations[0].disconnected)
    assert simulator.generations[0].finished_at is None


async def test_caller_that_leaves_a_busy_stream_is_noticed(
    simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    simulator.script(Answer((b"x" * 65536,) * 2000))
    async with post(session, simulator) as response:
        await response.content.readexactly(10)
        response.close()
    await soon(lambda: simulator.generations[0].disconnected)


async def test_caller_that_stays_is_not_taken_for_gone(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    await got(session, simulator)
    await soon(lambda: simulator.generations[0].finished_at is not None)
    assert not simulator.generations[0].disconnected
    assert simulator.generations[0].status == 200


async def test_many_streams_run_at_once(simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME] * 10).paced(0.001), times=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        bodies = await asyncio.gather(*(got(session, simulator) for _ in range(200)))
    assert {len(body) for body in bodies} == {10 * len(sse(FRAME))}
    assert len(simulator.requests) == 200
