"""What no server should take, said to the real process: no HTTP, no JSON, bombs. Never a 500; the server goes on."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import zlib

import aiohttp
import msgspec
import pytest

from tests.faults.client import AUTH, CHAT, bare, goes_on, hello, post, read_answer
from tests.faults.figures import note
from tests.server_process import ServerProcess

MIB = 1 << 20
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("said", "statuses"),
    [
        pytest.param(b"NONSENSE\r\n\r\n", {400}, id="no HTTP at all"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), {400}, id="a TLS hello"),
        pytest.param(b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", {400, 505}, id="a version of its own"),
        pytest.param(b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n", {400}, id="a NUL in the method"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nx: a\x00b\r\n\r\n", {400}, id="a NUL in a header"),
        pytest.param(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", {400, 414}, id="a path of 100 kB"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"a" * 100_000 + b"\r\n\r\n", {400, 431}, id="a huge header"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
            {400, 431},
            id="20,000 headers",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", {400}, id="a negative length"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e9\r\n\r\n", {400}, id="a length that is none"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {400, 405}, id="a broken chunk"
        ),
    ],
)
async def test_what_is_no_request_is_refused(
    server: ServerProcess, session: aiohttp.ClientSession, said: bytes, statuses: set[int]
) -> None:
    async with bare(server.port) as client:
        with contextlib.suppress(ConnectionError):
            await client.say(said)
        assert await client.status() in statuses | {0}
    await goes_on(server, session)


def nested(depth: int) -> bytes:
    return b'{"model":"gemini-2.5-flash","x":' + b"[" * depth + b"]" * depth + b',"messages":[]}'


def said(content: bytes, more: bytes = b"") -> bytes:
    """Return a chat request whose content is raw JSON."""
    return (
        b'{"model":"gemini-2.5-flash","stream":false'
        + more
        + b',"messages":[{"role":"user","content":'
        + content
        + b"}]}"
    )


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        pytest.param(nested(10_000), {400}, id="10,000 deep"),
        pytest.param(b"[" * 1_000_000, {400}, id="a million brackets"),
        pytest.param(b'{"a":' * 100_000, {400}, id="100,000 objects deep"),
        pytest.param(said(b'"x"', b',"temperature":NaN'), {400}, id="NaN"),
        pytest.param(said(b'"x"', b',"temperature":-Infinity'), {400}, id="Infinity"),
        pytest.param(said(b'"x"', b',"temperature":1e999'), {400}, id="1e999"),
        pytest.param(said(b'"x"', b',"max_tokens":' + b"9" * 5_000), {400}, id="a number of 5,000 digits"),
        pytest.param(
            said(b'"x"', b',"seed":1,"seed":2,"stream":false'), {200}, id="duplicate keys: the last one counts"
        ),
        pytest.param(said(rb'"\ud800"'), {400}, id="a lone high surrogate"),
        pytest.param(said(rb'"\udc00\ud800"'), {400}, id="surrogates the wrong way round"),
        pytest.param(said(b'"\xed\xa0\x80"'), {400}, id="a surrogate in UTF-8"),
        pytest.param(said(rb'"\u0000\u0001\u007f"'), {200, 400}, id="control characters"),
        pytest.param(said(b'"\x00"'), {400}, id="a raw NUL"),
        pytest.param("\ufeff".encode() + said(b'"x"'), {200, 400}, id="a byte order mark"),
        pytest.param(said(b'"x"').decode().encode("utf-16"), {400}, id="UTF-16"),
        pytest.param(said(b'"x"') + b"garbage", {400}, id="something behind the end"),
        pytest.param(
            b'{"model":"gemini-2.5-flash","messages":' + b"[" + b"{}," * 50_000 + b"{}]}", {400}, id="50,000 blanks"
        ),
        pytest.param(b'"' + b"x" * 33 * MIB + b'"', {413}, id="a string beyond server.max_body"),
    ],
)
async def test_bad_json_is_told_and_never_a_500(
    server: ServerProcess, session: aiohttp.ClientSession, body: bytes, statuses: set[int]
) -> None:
    before = server.resident()
    async with bare(server.port) as client:
        with contextlib.suppress(ConnectionError):
            await client.say(post(body))
        status = await client.status(60)
    grown = server.resident() - before
    assert status in statuses | ({0} if 413 in statuses else set())
    assert grown < 80 * MIB
    await goes_on(server, session)


def bomb(kind: str, size: int) -> bytes:
    """Return very little that unpacks to very much."""
    packer = zlib.compressobj(9, wbits=31 if kind == "gzip" else 15)
    return b"".join([packer.compress(b" " * MIB) for _ in range(size // MIB)]) + packer.flush()


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
async def test_packed_bomb_is_refused_without_being_unpacked(
    server: ServerProcess, session: aiohttp.ClientSession, kind: str
) -> None:
    packed = bomb(kind, 64 * MIB)
    before = server.resident()
    async with asyncio.TaskGroup() as group:
        statuses = [group.create_task(_post_packed(server, packed, kind)) for _ in range(4)]
        for _ in range(5):
            async with session.get(server.url + "/health") as response:
                assert response.status == 200
    grown = server.resident() - before
    note(
        f"{kind} bomb, {len(packed) / MIB:.1f} MiB for 64 MiB, four at once: {[one.result() for one in statuses]}, "
        f"memory +{grown / MIB:.0f} MiB"
    )
    assert {one.result() for one in statuses} <= {415, 0}
    assert grown < 64 * MIB, "not even one was unpacked: the loop has other things to do than what nobody will read"
    await goes_on(server, session)


async def _post_packed(server: ServerProcess, packed: bytes, kind: str) -> int:
    async with bare(server.port) as client:
        with contextlib.suppress(ConnectionError):
            await client.say(post(packed, headers=f"Content-Encoding: {kind}\r\n"))
        return await client.status(60)


async def test_packed_request_within_the_limits_is_415_as_well(
    server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    packed = gzip.compress(msgspec.json.encode(hello("packed")))
    async with session.post(server.url + CHAT, data=packed, headers=AUTH | {"Content-Encoding": "gzip"}) as response:
        got = read_answer(response.status, dict(response.headers), await response.read())
    assert got.status == 415
