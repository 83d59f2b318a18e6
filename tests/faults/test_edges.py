"""What a server says by itself, before any handler: an OpenAI error object in JSON, whoever asked for whatever."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from gemproxy.server.auth import Caller, ClientAuth
from gemproxy.server.service import SERVICE
from gemproxy.simulator import Simulator
from tests.faults.client import CHAT, bare, error_code, port_of, post
from tests.running import Running, configuration, running

TOP = "HTTP/1.1\r\nHost: localhost\r\n"
KEY = "Authorization: Bearer sk-test\r\n"

pytestmark = pytest.mark.usefixtures("turned")  # a refused client has seconds to read why


async def answers(server: Running, said: str, seconds: float = 60.0) -> list[tuple[int, dict[str, str], bytes]]:
    """Say this and return all answers until the server closes."""
    async with bare(port_of(server)) as client:
        await client.say(said.encode())
        whole = (await client.rest(seconds)).decode()
    found = []
    for status, head, body in re.findall(
        r"HTTP/1\.[01] (\d+) [^\r]*\r\n(.*?)\r\n\r\n(.*?)(?=HTTP/1|$)", whole, re.DOTALL
    ):
        found.append((int(status), dict(line.split(": ", 1) for line in head.split("\r\n")), body.encode()))
    return found


@pytest.mark.parametrize(
    ("said", "status"),
    [
        pytest.param("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", 405, id="CONNECT"),
        pytest.param(f"CONNECT localhost:1 {TOP}{KEY}\r\n" + "x" * 1000, 405, id="CONNECT, and a tunnel's bytes"),
        pytest.param(f"CONNECT {CHAT} {TOP}\r\n", 405, id="CONNECT to a path"),
        pytest.param(f"CONNECT [ {TOP}\r\n", 400, id="CONNECT to nothing"),
        pytest.param(
            f"GET /v1/models {TOP}{KEY}Connection: close\r\nExpect: magic\r\n\r\n", 417, id="an unknown Expect"
        ),
        pytest.param(f"POST {CHAT} {TOP}{KEY}Expect: magic\r\nContent-Length: 2\r\n\r\n", 417, id="the same of a chat"),
        pytest.param(f"GET /no {TOP}Connection: close\r\nExpect: magic\r\n\r\n", 417, id="the same of no path"),
        pytest.param("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
        pytest.param("\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03", 400, id="TLS"),
        pytest.param(f"GET http://[::1/ {TOP}\r\n", 400, id="a URL that cannot be parsed"),
        pytest.param(f"GET http://x:99999/ {TOP}\r\n", 400, id="a port that is none"),
        pytest.param(f"GET * {TOP}\r\n", 400, id="an asterisk"),
        pytest.param(f"POST {CHAT} {TOP}{KEY}Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, id="a chunk that is none"),
        pytest.param(f"GET /no {TOP}Upgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n", 404, id="an upgrade"),
    ],
)
async def test_every_refusal_is_an_error_object(guarded: Running, said: str, status: int) -> None:
    [(told, headers, body)] = await answers(guarded, said)
    assert (told, headers["Content-Type"]) == (status, "application/json")
    assert error_code(msgspec.json.decode(body))


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        pytest.param(CHAT, "", 401, id="no key"),
        pytest.param(CHAT, "Authorization: Bearer sk-wrong\r\n", 401, id="a wrong key"),
        pytest.param(CHAT, f"{KEY}Content-Type: image/png\r\n", 415, id="what no chat is"),
        pytest.param("/v1/test", "", 401, id="an operators' route without a key"),
        pytest.param("/nowhere", KEY, 404, id="no path"),
        pytest.param("/v1/models", KEY, 405, id="a path that takes no body"),
    ],
)
async def test_body_is_asked_for_only_when_it_will_be_read(
    guarded: Running, path: str, headers: str, status: int
) -> None:
    said = f"POST {path} {TOP}{headers}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    [(told, sent, _)] = await answers(guarded, said)
    assert (told, sent["Connection"]) == (status, "close")


@pytest.mark.parametrize("state", ["max_requests", "refusing", "requests_per_minute"])
async def test_body_beyond_a_limit_is_not_asked_for(guarded: Running, state: str) -> None:
    service = guarded.app[SERVICE]
    if state == "max_requests":
        service.door, service.open_requests = replace(service.door, max_requests=1), 1
    elif state == "refusing":
        service.refusing = True
    else:
        auth = ClientAuth([("sk-test", Caller("one", requests_per_minute=1))])
        service.door = replace(service.door, auth=auth)
        service.client_limits.enter(Caller("one", requests_per_minute=1), asyncio.get_running_loop().time())
    said = f"POST {CHAT} {TOP}{KEY}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    [(told, _, _)] = await answers(guarded, said)
    assert told == (429 if state == "requests_per_minute" else 503)


async def test_body_that_will_be_read_is_asked_for_once(guarded: Running) -> None:
    async with bare(port_of(guarded)) as client:
        await client.say(post(b"{}", headers="Expect: 100-continue\r\n")[:-2])
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.say(b"{}")
        assert await client.status() == 400
        await client.reader.readuntil(b"}}")
        await client.say(post(b"{}", headers="Expect: 100-continue\r\n"))
        assert (await client.reader.readline()).split()[1] == b"400", "it came without being asked for"


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://evil.example/v1/models", "localhost", 403),
        ("http://localhost@evil.example/v1/models", "localhost", 403),
        ("http://localhost/v1/models", "evil.example", 403),
        ("http://[::1]:80/v1/models", "localhost", 200),
        ("http://localhost:80/v1/models", "localhost", 200),
        ("/v1/models", "[::1].evil.example", 403),
        ("/v1/models", "localhost:80@evil.example", 403),
        ("/v1/models", "localhost\r\nHost: localhost", 400),
    ],
)
async def test_whole_url_is_of_this_machine_without_client_keys(
    opened: Running, simulator: Simulator, target: str, host: str, status: int
) -> None:
    said = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{KEY}Connection: close\r\n\r\n"
    [(told, _, _)] = await answers(opened, said)
    assert told == status


@pytest.mark.parametrize("cut", [0, 2, 9], ids=["whole", "the last bytes alone", "the trailer alone"])
async def test_trailers_become_no_headers_of_the_next_request(simulator: Simulator, tmp_path: Path, cut: int) -> None:
    async with running(simulator, configuration(simulator, tmp_path, '[auth]\nkeys = ["sk-one"]\n')) as server:
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        sent = head + b"2\r\n{}\r\n0\r\nx-request-id: evil\r\nAuthorization: Bearer sk-one\r\n\r\n"
        next_one = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(sent[: len(sent) - cut])
        await asyncio.sleep(0.05 if cut else 0)
        writer.write(sent[len(sent) - cut :] + next_one)
        answers = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert answers.count(b"HTTP/1.1 ") == 1, "what came with the trailers is answered, and nothing after it"
    assert b"404" in answers.split(b"\r\n")[0]
    assert b"evil" not in answers


async def test_a_body_in_chunks_without_trailers_keeps_its_connection(simulator: Simulator, tmp_path: Path) -> None:
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(2):
            writer.write(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
            answer = await asyncio.wait_for(reader.readuntil(b"}}"), 5)
            assert b"404" in answer.split(b"\r\n")[0]
        writer.close()
