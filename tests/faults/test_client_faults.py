"""What a client can do wrong, against the real process: hang up, read slowly or not at all, crawl.

The rules (docs/architecture.md 14.6): a client that leaves ends its upstream request within milliseconds and costs the
credential nothing; memory per stream is bounded, whoever reads; nothing that a client sends is a 500, and everybody
else goes on being served.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gemproxy.simulator import Answer, Hang, Simulator, Wait, frames_answer, sse
from tests.faults.client import CHAT, MODEL, Got, ask, bare, goes_on, hello, post, read_answer
from tests.faults.figures import note, spread
from tests.faults.raw_upstream import END, RawUpstream, chunk, head
from tests.server_process import FAST, ServerProcess, configured, serving
from tests.waiting import soon

FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
LAST = {"candidates": [{"content": {"parts": [{"text": "end"}]}, "finishReason": "STOP"}]}
MIB = 1 << 20
pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server stands most of this


# ------------------------------------------------------------------------------------------------------- hanging up


@pytest.mark.parametrize(
    ("moment", "answer", "stream"),
    [
        ("before the answer", Answer().after(Hang()), True),
        ("before the first token", Answer((Hang(),), content_type="text/event-stream"), True),
        ("in mid-stream", frames_answer([FRAME]).then(Hang()), True),
        ("before a unary answer", Answer().after(Hang()), False),
        ("in mid-unary", Answer((b'{"candidates":', Hang())), False),
    ],
)
async def test_client_that_hangs_up_ends_the_upstream_request_at_once(
    google: Simulator, server: ServerProcess, session: aiohttp.ClientSession, moment: str, answer: Answer, stream: bool
) -> None:
    google.script(answer, times=None)
    took = []
    for number in range(15):
        async with bare(server.port) as client:
            await client.say(post(msgspec.json.encode(hello(stream=stream))))
            await soon(lambda: len(google.generations) > number)  # noqa: B023 - waited for in this turn
            if moment == "in mid-stream":
                await client.reader.readuntil(b"tick")
            left = time.monotonic()
        request = google.generations[number]
        await soon(lambda: request.disconnected, what="the upstream request went on")  # noqa: B023 - as above
        took.append(request.disconnected_at - left)
    note(f"client hangs up {moment}: upstream request ended after {spread(took)}")
    assert statistics.median(took) < 0.05
    assert max(took) < 1.0
    await server.logged("status=499", times=15)
    google.clear()
    await goes_on(server, session)


@pytest.mark.parametrize("hold", [30, 0], ids=["status with the answer", "status at once"])
async def test_client_that_hangs_up_as_the_answer_begins_is_no_bug(
    google: Simulator, tmp_path: Path, session: aiohttp.ClientSession, hold: int
) -> None:
    """Both in one turn of the server's loop: it stands still meanwhile. ``serving`` finds any traceback in the log."""
    gate, clients = asyncio.Event(), 40
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
FRAMES = 800  # of 30 kB: 24 MB a stream


def flood(frames: int) -> list[bytes]:
    """Return a long stream in large frames, as one write each."""
    frame = sse({"candidates": [{"content": {"parts": [{"text": LARGE}]}}]})
    last = sse({"candidates": [{"content": {"parts": [{"text": "end"}]}, "finishReason": "STOP"}]})
    return [head("text/event-stream"), *[chunk(frame)] * frames, chunk(last), END]


@pytest.mark.slow
async def test_slow_readers_hold_the_upstream_back_and_cost_little_memory(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    streams = 5
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
    """Wait until a growing number stands still for 0.7 s, and return it."""
    last, since, loop = -1, 0.0, asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while last != value() or loop.time() - since < 0.7:
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
    """Else a few hundred of them hold all the memory and every credential's cap for ever."""
    async with RawUpstream() as upstream, serving(tmp_path, configured(upstream.ai_studio_url, FAST)) as server:
        if stream:
            upstream.script(MODEL, flood(FRAMES))
        else:
            whole = msgspec.json.encode(
                {"candidates": [{"content": {"parts": [{"text": "x" * 30 * MIB}]}, "finishReason": "STOP"}]}
            )
            upstream.script(MODEL, (head("application/json"), chunk(whole), END))
        async with bare(server.port, receive=1 << 14) as client:
            await client.say(post(msgspec.json.encode(hello(stream=stream))))
            client.writer.transport.pause_reading()
            await soon(lambda: upstream.asked[MODEL])
            begin = time.monotonic()
            try:
                await server.logged("status=499", seconds=8)
            except AssertionError:
                pytest.fail("a client that takes nothing must be dropped after timeouts.send = 1 s; it was not after 8")
            took = time.monotonic() - begin
        await soon(lambda: not upstream.playing.total())
    note(f"client that takes nothing of a {'stream' if stream else 'unary answer'}: dropped after {took:.1f} s (1 s)")
    assert took < 6


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
    begin = time.monotonic()
    async with bare(server.port) as client:
        await client.say(first)
        if first:
            assert await client.status() == 200
            await client.reader.readuntil(b"}")
        await client.say(said)
        try:
            async with asyncio.timeout(4):
                while await client.reader.read(1 << 16):
                    pass
        except TimeoutError:
            pytest.fail("a connection without headers must end after timeouts.headers = 0.6 s; it lives after 4")
    note(f"client that {'says nothing' if not said else 'crawls'}: dropped after {time.monotonic() - begin:.2f} s")
    await goes_on(server, session)


async def test_client_that_trickles_its_headers_is_dropped(
    server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    async with bare(server.port) as client:

        async def trickle() -> None:
            for byte in b"GET /health HTTP/1.1\r\n" + b"x-slow: yes\r\n" * 100:
                await client.say(bytes([byte]))
                await asyncio.sleep(0.02)

        crawling = asyncio.get_running_loop().create_task(trickle())
        assert await client.status() in (408, 0), "timeouts.headers counts from the first byte, not from the last"
        crawling.cancel()
        await asyncio.gather(crawling, return_exceptions=True)
    await goes_on(server, session)


async def test_slow_body_is_408_and_the_connection_ends(server: ServerProcess, session: aiohttp.ClientSession) -> None:
    request = post(msgspec.json.encode(hello()))
    async with bare(server.port) as client:
        begin = time.monotonic()
        await client.say(request[:-20])
        crawling = asyncio.get_running_loop().create_task(_one_by_one(client.say, request[-20:-1]))
        assert await client.status() == 408
        took = time.monotonic() - begin
        crawling.cancel()
        await asyncio.gather(crawling, return_exceptions=True)
    assert took < 3, "timeouts.body = 0.6 s is for the whole body"
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
