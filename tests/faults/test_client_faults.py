"""What a client can do wrong, against the real process: hang up, read slowly or not at all, crawl.

The rules (docs/architecture.md 14.6): a client that leaves ends its upstream request within milliseconds and costs the
credential nothing; memory per stream is bounded, whoever reads; nothing that a client sends is a 500, and everybody
else goes on being served.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gemproxy.simulator import Answer, Hang, Simulator, Wait, frames_answer, sse
from tests.faults.client import CHAT, MODEL, Got, ask, bare, goes_on, hello, port_of, post, read_answer
from tests.faults.figures import note
from tests.faults.raw_upstream import END, RawUpstream, chunk, head
from tests.running import running
from tests.server_process import FAST, ServerProcess, configured, serving
from tests.turned_loop import turned_time
from tests.waiting import soon

FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
LAST = {"candidates": [{"content": {"parts": [{"text": "end"}]}, "finishReason": "STOP"}]}
MIB = 1 << 20
pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server stands most of this


# ------------------------------------------------------------------------------------------------------- hanging up


MOMENTS = [
    ("before the answer", Answer().after(Hang()), True),
    ("before the first token", Answer((Hang(),), content_type="text/event-stream"), True),
    ("in mid-stream", frames_answer([FRAME]).then(Hang()), True),
    ("before a unary answer", Answer().after(Hang()), False),
    ("in mid-unary", Answer((b'{"candidates":', Hang())), False),
]


@pytest.mark.parametrize(("moment", "answer", "stream"), MOMENTS)
async def test_client_that_hangs_up_ends_the_upstream_request(
    google: Simulator, server: ServerProcess, session: aiohttp.ClientSession, moment: str, answer: Answer, stream: bool
) -> None:
    google.script(answer, times=None)
    for number in range(3):
        await _ask_and_leave(google, server.port, moment, stream)
        request = google.generations[number]
        await soon(lambda: request.disconnected, what="the upstream request went on")  # noqa: B023 - for this turn
    await server.logged("status=499", times=3)
    google.clear()
    await goes_on(server, session)


async def _ask_and_leave(google: Simulator, port: int, moment: str, stream: bool) -> None:
    seen = len(google.generations)
    async with bare(port) as client:
        await client.say(post(msgspec.json.encode(hello(stream=stream))))
        await soon(lambda: len(google.generations) > seen)
        if moment == "in mid-stream":
            await client.reader.readuntil(b"tick")


@pytest.mark.parametrize(("moment", "answer", "stream"), MOMENTS)
async def test_nothing_waits_for_a_time_before_the_upstream_request_of_one_that_left_ends(
    moment: str, answer: Answer, stream: bool
) -> None:
    """That is what "at once" means: time here is turned, and stands still as long as anything is done."""
    with turned_time() as turned:
        async with Simulator() as google, running(google) as server:
            google.script(answer, times=None)
            await _ask_and_leave(google, port_of(server), moment, stream)
            left = turned.now
            await soon(lambda: google.generations[0].disconnected, what="the upstream request went on")
            assert turned.now == left


@pytest.mark.parametrize("hold", [30, 0], ids=["status with the answer", "status at once"])
async def test_client_that_hangs_up_as_the_answer_begins_is_no_bug(
    google: Simulator, tmp_path: Path, session: aiohttp.ClientSession, hold: int
) -> None:
    """Both in one turn of the server's loop: it stands still meanwhile. ``serving`` finds any traceback in the log."""
    gate, clients = asyncio.Event(), 15
    google.script(frames_answer([FRAME, FRAME, LAST]).after(Wait(gate)), times=clients)
    toml = configured(google.ai_studio_url, f"[timeouts]\nhold = {hold}\n")
    async with serving(tmp_path, toml) as server, contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(bare(server.port)) for _ in range(clients)]
        for client in opened:
            await client.say(post(msgspec.json.encode(hello(stream=True))))
        await soon(lambda: len(google.generations) == clients)
        server.tell(signal.SIGSTOP)
        gate.set()
        await asyncio.sleep(0.2)
        for client in opened:
            client.writer.close()
        await asyncio.sleep(0.1)
        server.tell(signal.SIGCONT)
        await server.logged(CHAT, times=clients)
        assert "status=500" not in server.log
        await goes_on(server, session)


async def test_client_that_hangs_up_while_it_sends_costs_nothing(
    google: Simulator, server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    for _ in range(10):
        async with bare(server.port) as client:
            await client.say(post(msgspec.json.encode(hello()))[:-10])
    await goes_on(server, session)
    assert len(google.generations) == 1


async def test_client_that_closes_its_sending_side_is_taken_for_one_that_left(
    google: Simulator, server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    """``printf … | nc -N``: HTTP allows either reading (RFC 9112, 9.6), aiohttp has this one; nothing is half sent."""
    google.script(Answer().after(Hang()))
    async with bare(server.port) as client:
        await client.say(post(msgspec.json.encode(hello())))
        await soon(lambda: google.generations)
        client.writer.write_eof()
        assert await client.rest() == b""
    await soon(lambda: google.generations[0].disconnected)
    await goes_on(server, session)


# ------------------------------------------------------------------------------------------ slow and stalled readers


LARGE = "x" * 30_000
FRAMES = 600  # of 30 kB: 18 MB a stream


def flood(frames: int) -> list[bytes]:
    """Return a long stream in large frames, as one write each."""
    frame = sse({"candidates": [{"content": {"parts": [{"text": LARGE}]}}]})
    last = sse({"candidates": [{"content": {"parts": [{"text": "end"}]}, "finishReason": "STOP"}]})
    return [head("text/event-stream"), *[chunk(frame)] * frames, chunk(last), END]


@pytest.mark.slow
async def test_slow_readers_hold_the_upstream_back_and_cost_little_memory(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    streams = 3
    patient = FAST.replace("send = 1.0", "send = 60")
    async with RawUpstream() as upstream, serving(tmp_path, configured(upstream.ai_studio_url, patient)) as server:
        upstream.script(MODEL, flood(40), flood(FRAMES))
        assert (await ask(session, server.url, hello(stream=True))).whole, "warm"
        upstream.written.clear()
        before = server.resident()
        gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(_late_reader(server, gate)) for _ in range(streams)]
            await soon(lambda: upstream.asked[MODEL] == streams + 1)
            taken = await _still(lambda: upstream.written[MODEL])
            stalled = max(0, server.resident() - before) / streams
            gate.set()
            peak = stalled
            while not all(reader.done() for reader in readers):
                peak = max(peak, (server.resident() - before) / streams)
                await asyncio.sleep(0.02)
        texts = [reader.result().text for reader in readers]
    whole = len(LARGE) * FRAMES
    note(
        f"{streams} clients that do not read, {whole / MIB:.0f} MiB each: upstream held back after "
        f"{taken / streams / MIB:.1f} MiB a stream, memory +{stalled / MIB:.1f} MiB a stream; "
        f"at most +{peak / MIB:.1f} MiB a stream once they read again"
    )
    assert all(len(text) == whole + 3 for text in texts), "who reads late gets everything"
    assert taken / streams < whole * 0.7, "backpressure must reach the upstream"
    assert stalled < 5 * MIB, "what is read in one go, in and out; the rest is the kernel's"
    assert peak < 8 * MIB, "what has been said need not be kept"


async def _late_reader(server: ServerProcess, gate: asyncio.Event) -> Got:
    """Ask, read nothing until the gate opens, then read everything."""
    async with bare(server.port, receive=1 << 18) as client:
        await client.say(post(msgspec.json.encode(hello(stream=True)), headers="Connection: close\r\n"))
        client.writer.transport.pause_reading()
        await gate.wait()
        client.writer.transport.resume_reading()
        return _parsed(await client.rest(60))


async def _still(value: Callable[[], int]) -> int:
    """Wait until a growing number stands still for half a second, and return it."""
    last, since, loop = -1, 0.0, asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while last != value() or loop.time() - since < 0.5:
            if last != value():
                last, since = value(), loop.time()
            await asyncio.sleep(0.05)
    return last


def _parsed(answer: bytes) -> Got:
    """Return what a whole HTTP answer in the chunked coding says."""
    top, _, coded = answer.partition(b"\r\n\r\n")
    body = bytearray()
    place = 0
    while place < len(coded):
        end = coded.index(b"\r\n", place)
        size = int(coded[place:end], 16)
        body += coded[end + 2 : end + 2 + size]
        place = end + 4 + size
    return read_answer(int(top.split(b" ")[1]), {"Content-Type": "text/event-stream"}, bytes(body))


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_client_that_takes_nothing_is_dropped_after_the_send_limit(tmp_path: Path, stream: bool) -> None:
    """Else a few hundred of them hold all the memory and every credential's cap for ever. No other limit is near."""
    async with RawUpstream() as upstream, serving(tmp_path, configured(upstream.ai_studio_url, FAST)) as server:
        if stream:
            upstream.script(MODEL, flood(FRAMES))
        else:
            whole = msgspec.json.encode(
                {"candidates": [{"content": {"parts": [{"text": "x" * 15 * MIB}]}, "finishReason": "STOP"}]}
            )
            upstream.script(MODEL, (head("application/json"), chunk(whole), END))
        async with bare(server.port, receive=1 << 14) as client:
            await client.say(post(msgspec.json.encode(hello(stream=stream))))
            client.writer.transport.pause_reading()
            await soon(lambda: upstream.asked[MODEL])
            await server.logged("status=499")
        await soon(lambda: not upstream.playing.total())


# --------------------------------------------------------------------------------------------------------- crawlers


@pytest.mark.parametrize(
    ("first", "said"),
    [
        pytest.param(b"", b"", id="says nothing"),
        pytest.param(b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n", id="never ends its headers"),
        pytest.param(
            b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            id="never ends the headers of its second request",
        ),
    ],
)
async def test_client_without_headers_is_dropped(
    server: ServerProcess, session: aiohttp.ClientSession, first: bytes, said: bytes
) -> None:
    async with bare(server.port) as client:
        await client.say(first)
        if first:
            assert await client.status() == 200
            await client.reader.readuntil(b"}")
        await client.say(said)
        await client.rest(30)  # timeouts.headers = 0.6 s; no other limit is near
    await goes_on(server, session)


async def test_client_that_trickles_its_headers_is_dropped(
    server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    async with bare(server.port) as client:

        async def trickle() -> None:
            for byte in b"GET /health HTTP/1.1\r\n" + b"x-slow: yes\r\n" * 1000:
                await client.say(bytes([byte]))
                await asyncio.sleep(0.02)

        crawling = asyncio.get_running_loop().create_task(trickle())
        assert await client.status(30) in (408, 0), "timeouts.headers counts from the first byte, not from the last"
        assert not crawling.done()
        crawling.cancel()
        await asyncio.gather(crawling, return_exceptions=True)
    await goes_on(server, session)


async def test_slow_body_is_408_and_the_connection_ends(server: ServerProcess, session: aiohttp.ClientSession) -> None:
    request = post(msgspec.json.encode(hello("slow " * 100)))
    async with bare(server.port) as client:
        await client.say(request[:-400])
        crawling = asyncio.get_running_loop().create_task(_one_by_one(client.say, request[-400:-1]))
        assert await client.status(30) == 408
        assert not crawling.done(), "timeouts.body = 0.6 s is for the whole body"
        crawling.cancel()
        await asyncio.gather(crawling, return_exceptions=True)
    await goes_on(server, session)


async def _one_by_one(say: Callable[[bytes], Any], data: bytes) -> None:
    for byte in data:
        await asyncio.sleep(0.2)
        await say(bytes([byte]))


async def test_body_without_end_is_413_before_it_fills_the_memory(
    google: Simulator, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    limit = 4 * MIB
    more = configured(google.ai_studio_url, server=f"max_body = {limit}")
    async with serving(tmp_path, more) as server, bare(server.port) as client:
        before = server.resident()
        top = (
            f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await client.say(top.encode())
        sent = 0
        answered = asyncio.get_running_loop().create_task(client.status(20))
        with contextlib.suppress(ConnectionError):
            while not answered.done():
                await client.say(chunk(b" " * 65536))
                sent += 65536
                await asyncio.sleep(0)
        status = await answered
        grown = server.resident() - before
        note(f"body without end, limit {limit / MIB:.0f} MiB: {status} after {sent / MIB:.1f} MiB sent")
        assert status in (413, 0), "0: reset, since what it went on sending was not read"
        assert sent < 10 * limit
        assert grown < 6 * limit
        assert (await ask(session, server.url, hello())).whole
        await server.logged("status=413")
