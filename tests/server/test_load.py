"""What one request holds is counted from its first byte to its last, and given back however it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.converter.chat import request as request_conversion
from gemproxy.load.burden import OVERHEAD
from gemproxy.load.turns import Abandoned
from gemproxy.load.weigh import SMALL_SIZE
from gemproxy.server.service import SERVICE
from gemproxy.simulator import Answer, Hang, Simulator, frames_answer, text_answer, unary_answer
from gemproxy.wiring.reload import reload
from tests.burdens import noted_work
from tests.running import Running, configuration, running
from tests.waiting import soon

CHAT = "/v1/chat/completions"
MIB = 1 << 20
TWO_KEYS = '[auth]\nkeys = ["sk-test", "sk-other"]\n'
OTHER = {"Authorization": "Bearer sk-other"}


def asks(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": text}], "stream": False, **more}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, **more}]}


def held(server: Running) -> int:
    return server.app[SERVICE].load.budget.held


@pytest.fixture
async def server(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Running]:
    config = configuration(simulator, tmp_path, f"[server]\nmemory = {8 * MIB}\nping_interval = 0.02\n{TWO_KEYS}")
    async with running(simulator, config) as made:
        yield made


class Raw:
    """A client that writes and reads as slowly as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, server: Running, length: int, body: bytes, key: str = "sk-test") -> Raw:
        """Send a head that announces so many bytes, and the first of them."""
        host, port = server.url.removeprefix("http://").split(":")
        client = cls(*await asyncio.open_connection(host, int(port), limit=1 << 12))
        head = (
            f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n"
        )
        client._writer.write(head.encode() + body)
        return client

    async def status(self) -> bytes:
        return (await self.reader.readline()).split(b" ")[1]

    def leave(self) -> None:
        self._writer.transport.abort()


@pytest.mark.parametrize("size", [SMALL_SIZE // 2, SMALL_SIZE - 200, SMALL_SIZE + 200, 2 * SMALL_SIZE, MIB])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_a_request_of_any_size_is_served_and_leaves_nothing(
    server: Running, simulator: Simulator, size: int, stream: bool
) -> None:
    text = "übrig" * (size // 6)
    answer = said(text, finishReason="STOP")
    simulator.script(frames_answer([answer]) if stream else unary_answer(answer))
    status, body = await server.post(CHAT, asks(text, stream=stream))
    assert status == 200
    assert simulator.generations[-1].json()["contents"][0]["parts"][0]["text"] == text
    if not stream:
        assert msgspec.json.decode(body)["choices"][0]["message"]["content"] == text
    else:
        lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
        deltas = [msgspec.json.decode(line)["choices"][0]["delta"].get("content") or "" for line in lines]
        assert "".join(deltas) == text
    await soon(lambda: held(server) == 0)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of what is done beside the loop, as it is."""
    return noted_work(monkeypatch)


async def test_what_is_heavy_is_done_beside_the_loop(server: Running, simulator: Simulator, done: list[str]) -> None:
    simulator.script(text_answer("Hi"), times=2)
    assert (await server.post(CHAT, asks("x" * 1_000)))[0] == 200
    assert done == []
    assert (await server.post(CHAT, asks("x" * 2 * SMALL_SIZE)))[0] == 200
    assert done == ["weighed", "read", "_plan", "ask"]


async def test_a_body_is_counted_as_it_comes_and_not_as_it_is_announced(server: Running) -> None:
    client = await Raw.open(server, 3 * MIB, b" " * MIB)
    await soon(lambda: held(server) == 2 * MIB + OVERHEAD)
    client.leave()
    await soon(lambda: held(server) == 0)


async def test_one_clients_uploads_leave_room_for_the_others(server: Running) -> None:
    assert (await server.post(CHAT, asks("Hello"), OTHER))[0] == 200  # the other is one of those who ask
    clients = [await Raw.open(server, 2 * MIB, b" " * (MIB - 1)) for _ in range(4)]
    refused = [client for client in clients if await asyncio.wait_for(_refused(client), 5)]
    assert len(refused) >= 2, "half of 8 MiB holds one body of 1 MiB twice, and no second"
    assert held(server) <= 4 * MIB
    assert (await server.post(CHAT, asks("y" * (MIB // 4)), OTHER))[0] == 200
    for client in clients:
        client.leave()
    await soon(lambda: held(server) == 0)


async def _refused(client: Raw) -> bool:
    """Return whether an answer comes before the body is whole; it is the one that names the setting."""
    try:
        async with asyncio.timeout(0.5):
            assert await client.status() == b"503"
            rest = await client.reader.read(1 << 12)
            assert b"server.memory" in rest
            return True
    except TimeoutError:
        return False


async def test_a_request_that_is_asked_for_holds_its_body_until_the_answer_begins(
    server: Running, simulator: Simulator
) -> None:
    simulator.script(Answer().after(Hang()))
    body = msgspec.json.encode(asks("x" * MIB, stream=True))
    client = await Raw.open(server, len(body), body)
    await soon(lambda: len(simulator.generations) == 1)
    assert held(server) > 2 * MIB
    client.leave()
    await soon(lambda: held(server) == 0)

    simulator.script(frames_answer([said("Well, ")]).then(Hang()))
    client = await Raw.open(server, len(body), body)
    await soon(lambda: held(server) == OVERHEAD, what="the body was not let go when the answer began")
    client.leave()
    await soon(lambda: held(server) == 0)


async def test_an_answer_that_is_larger_than_the_budget_is_refused(server: Running, simulator: Simulator) -> None:
    simulator.script(unary_answer(said("z" * 7 * MIB, finishReason="STOP")), times=6)
    status, body = await server.post(CHAT, asks("Hello"))
    assert (status, msgspec.json.decode(body)["error"]["code"]) == (503, "overloaded")
    assert b"server.memory" in body
    await soon(lambda: held(server) == 0)


async def test_a_large_frame_waits_in_one_piece_for_its_reader_and_no_ping_falls_into_it(
    server: Running, simulator: Simulator
) -> None:
    text = "0123456789" * (3 * MIB // 10)
    simulator.script(frames_answer([said(text), said(".", finishReason="STOP")]))
    body = msgspec.json.encode(asks("Hello", stream=True))
    client = await Raw.open(server, len(body), body)
    await soon(lambda: held(server) > MIB)
    await asyncio.sleep(0.2)  # ten pings would be due
    read = bytearray()
    while not read.endswith(b"0\r\n\r\n"):
        read += await client.reader.read(1 << 16)
    events = _unchunked(bytes(read.partition(b"\r\n\r\n")[2])).split(b"\n\n")
    told = [msgspec.json.decode(event[6:]) for event in events if event.startswith(b"data: {")]
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in told if one["choices"]) == text + "."
    assert all(event.startswith((b"data: ", b": ping")) for event in events if event)
    assert events[-2] == b"data: [DONE]"
    client.leave()
    await soon(lambda: held(server) == 0)


def _unchunked(data: bytes) -> bytes:
    pieces = []
    while data:
        size, _, data = data.partition(b"\r\n")
        pieces.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]
    return b"".join(pieces)


async def test_a_reader_that_takes_nothing_of_a_large_frame_is_counted_until_it_leaves(
    server: Running, simulator: Simulator
) -> None:
    simulator.script(frames_answer([said("x" * 3 * MIB)]).then(Hang()))
    body = msgspec.json.encode(asks("Hello", stream=True))
    client = await Raw.open(server, len(body), body)
    await soon(lambda: held(server) > MIB)
    client.leave()
    await soon(lambda: held(server) == 0)


async def test_the_budget_and_the_bounds_follow_a_reload(server: Running, simulator: Simulator, tmp_path: Path) -> None:
    more = f"[server]\nmemory = {4 * MIB}\nmax_values = 100\n{TWO_KEYS}"
    await reload(server.app, configuration(simulator, tmp_path, more))
    assert server.app[SERVICE].load.budget.most == 4 * MIB
    status, body = await server.post(CHAT, asks("x" * 2 * SMALL_SIZE, metadata={"a": [1] * 100}))
    assert (status, b"server.max_values = 100" in body) == (400, True)


async def test_an_answer_of_many_tiny_frames_goes_through(server: Running, simulator: Simulator) -> None:
    simulator.script(frames_answer([*[said("x")] * 20_000, said("", finishReason="STOP")]))
    status, body = await server.post(CHAT, asks("Hello"))
    assert status == 200
    assert msgspec.json.decode(body)["choices"][0]["message"]["content"] == "x" * 20_000


async def test_a_conversion_ends_when_its_client_leaves(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    def endless(*arguments: Any) -> None:
        ended.append("begun")
        try:
            while True:
                arguments[-1].spend(0)
        except Abandoned:
            ended.append("abandoned")
            raise

    monkeypatch.setattr("gemproxy.converter.chat.operation.to_call", endless)
    body = msgspec.json.encode(asks("x" * 2 * SMALL_SIZE))
    client = await Raw.open(server, len(body), body)
    await soon(lambda: ended == ["begun"])
    client.leave()
    await soon(lambda: ended == ["begun", "abandoned"])
    await soon(lambda: held(server) == 0)


async def test_small_requests_pass_a_heavy_one(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    convert = request_conversion.to_call

    def slow(asked: Any, *arguments: Any) -> Any:
        if len(asked.messages[0].content) > SMALL_SIZE:
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(10)
        return convert(asked, *arguments)

    monkeypatch.setattr("gemproxy.converter.chat.operation.to_call", slow)
    heavy = loop.create_task(server.post(CHAT, asks("x" * 2 * SMALL_SIZE)))
    await begun.wait()
    assert (await server.post(CHAT, asks("Hello")))[0] == 200
    assert not heavy.done()
    go_on.set()
    assert (await heavy)[0] == 200


async def test_a_small_requests_body_is_not_counted_through_its_answer(server: Running, simulator: Simulator) -> None:
    simulator.script(frames_answer([said("Well, ")]).then(Hang()))
    body = msgspec.json.encode(asks("x" * (SMALL_SIZE - 500), stream=True))
    client = await Raw.open(server, len(body), body)
    await soon(lambda: held(server) == OVERHEAD)
    assert await client.status() == b"200"
    assert held(server) == OVERHEAD
    client.leave()


async def test_a_web_of_refs_in_few_bytes_is_walked_beside_the_loop(
    server: Running, simulator: Simulator, done: list[str]
) -> None:
    simulator.script(text_answer("Hi"), times=2)
    links = {
        f"A{n}": {"properties": {k: {"$ref": f"#/$defs/A{n + 1}", "description": k} for k in "pq"}} for n in range(8)
    }
    web = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A0"}}, "$defs": {**links, "A8": {"type": "string"}}}
    plain = {"type": "object", "properties": {"a": {"type": "string"}}}
    for schema, expected in ((plain, []), (web, ["_plan"])):
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        status, body = await server.post(CHAT, asks("Hello", tools=[tool]))
        assert (status, done) == (200, expected), body


async def test_a_broken_end_is_told_to_a_client_that_is_behind(server: Running, simulator: Simulator) -> None:
    """The last bytes of an answer may find no room; what was wrong with it is told behind them all the same."""
    simulator.script(frames_answer([said("x" * 3 * MIB)]))  # without a finish reason: it was cut
    body = msgspec.json.encode(asks("Hello", stream=True))
    client = await Raw.open(server, len(body), body)
    await soon(lambda: held(server) > MIB)
    read = bytearray()
    while not read.endswith(b"0\r\n\r\n"):
        read += await client.reader.read(1 << 16)
    events = _unchunked(bytes(read.partition(b"\r\n\r\n")[2])).split(b"\n\n")
    assert msgspec.json.decode(events[-2][6:])["error"]["code"] == "upstream_error"
    assert b"[DONE]" not in read
    client.leave()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_a_slow_reader_that_goes_on_taking_is_not_dropped(
    simulator: Simulator, tmp_path: Path, stream: bool
) -> None:
    text = "0123456789" * (12 * MIB // 10)
    answer = said(text, finishReason="STOP")
    simulator.script(frames_answer([answer]) if stream else unary_answer(answer))
    more = "[timeouts]\nsend = 0.8\n"
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        body = msgspec.json.encode(asks("Hello", stream=stream))
        client = await Raw.open(server, len(body), body)
        got = 0
        for _ in range(20):  # twice the time that a client may take nothing
            await asyncio.sleep(0.1)
            got += len(await client.reader.readexactly(1 << 18))
        while piece := await client.reader.read(1 << 16):
            got += len(piece)
            if got >= len(text):
                break
        assert got >= len(text)
        client.leave()
