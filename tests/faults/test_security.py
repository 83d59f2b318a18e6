"""Who gets in: keys, browsers and their pages, paths, smuggled requests, and what an image URL may reach."""

from __future__ import annotations

import asyncio
import hmac
import re
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from gemproxy.errors import ClientFault
from gemproxy.server.service import SERVICE
from gemproxy.simulator import Simulator
from tests.faults.client import AUTH, CHAT, bare, error_code, hello, port_of, post
from tests.running import Running, configuration, running

# -------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("key", ["sk-one", "sk-test", "sk-wrong", "s", "sk-one-and-more", "x" * 5_000, "\u00e9"])
async def test_every_key_is_compared_in_constant_time_whichever_fits(
    guarded: Running, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def digest(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return _digest(one, other)

    _digest = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", digest)
    auth = guarded.app[SERVICE].door.auth
    if key in ("sk-one", "sk-test"):
        auth.caller(key)
    else:
        with pytest.raises(ClientFault) as refused:
            auth.caller(key)
        assert key not in refused.value.message or len(key) == 1
    assert {one for one, _ in compared} == {b"sk-one", b"sk-two", b"sk-test"}, "none is left out after a match"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param("", id="no header"),
        pytest.param("Authorization: sk-test\r\n", id="no scheme"),
        pytest.param("Authorization: Bearer\r\n", id="no token"),
        pytest.param("Authorization: Bearer sk-test x\r\n", id="a token and more"),
        pytest.param("Authorization: Bearer sk-tes\r\n", id="a prefix of a key"),
        pytest.param("Authorization: Bearer SK-TEST\r\n", id="another case"),
        pytest.param("Authorization: Basic c2stdGVzdA==\r\n", id="another scheme"),
        pytest.param("Authorization: Bearer x\r\nAuthorization: Bearer sk-test\r\n", id="two headers, wrong first"),
        pytest.param("x-api-key: sk-test\r\n", id="Anthropic's header"),
        pytest.param("x-goog-api-key: sk-test\r\n", id="Google's header"),
        pytest.param("Cookie: authorization=Bearer sk-test\r\n", id="a cookie"),
        pytest.param("Proxy-Authorization: Bearer sk-test\r\n", id="the proxy's header"),
    ],
)
async def test_only_the_bearer_header_opens_the_door(guarded: Running, simulator: Simulator, headers: str) -> None:
    request = post(msgspec.json.encode(hello()), path=CHAT + "?key=sk-test&api_key=sk-test")
    async with bare(port_of(guarded)) as client:
        await client.say(request.replace(b"Authorization: Bearer sk-test\r\n", headers.encode()))
        assert await client.status() in (401, 400)
    assert not simulator.requests


# ---------------------------------------------------------------------------------------------------------- browsers


async def test_no_answer_carries_cors_headers_unless_asked(opened: Running) -> None:
    origin = {"Origin": "https://evil.example"}
    preflight = origin | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    asked = [
        ("OPTIONS", CHAT, preflight),
        ("OPTIONS", "/v1/models", preflight),
        ("OPTIONS", "/", preflight),
        ("GET", "/v1/models", AUTH | origin),
        ("GET", "/health", origin),
        ("POST", CHAT, AUTH | origin),
    ]
    for method, path, headers in asked:
        data = msgspec.json.encode(hello()) if method == "POST" else None
        async with opened.session.request(method, opened.url + path, headers=headers, data=data) as response:
            assert not [name for name in response.headers if name.lower().startswith("access-control-")], path
            if method == "OPTIONS" and path != "/":
                assert response.status in (403, 405), "a preflight that gets no 2xx means no"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://good.example.evil.example", "http://good.example"]
)
async def test_only_the_named_origin_is_let_in(simulator: Simulator, tmp_path: Path, origin: str) -> None:
    more = '[server]\ncors_origins = ["https://good.example"]\n'
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        for asked, allowed in ((origin, None), ("https://good.example", "https://good.example")):
            headers = {"Origin": asked, "Access-Control-Request-Method": "POST"}
            async with server.session.options(server.url + CHAT, headers=headers) as response:
                assert response.headers.get("Access-Control-Allow-Origin") == allowed
                assert (response.status < 300) == (allowed is not None)
                assert "Access-Control-Allow-Credentials" not in response.headers
            async with server.session.post(server.url + CHAT, headers=AUTH | headers, data=b"{") as response:
                assert response.status == 400
                assert response.headers.get("Access-Control-Allow-Origin") == allowed


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
)
async def test_page_in_a_browser_cannot_ask_without_a_preflight(
    opened: Running, simulator: Simulator, content_type: str
) -> None:
    """What a page may send across origins unasked has no Authorization header."""
    headers = {"Content-Type": content_type, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    async with opened.session.post(opened.url + CHAT, data=msgspec.json.encode(hello()), headers=headers) as response:
        assert response.status == 401
    assert not simulator.requests


HOSTS = [
    ("127.0.0.1", 200),
    ("127.0.0.1:8080", 200),
    ("127.0.0.9", 200),
    ("localhost", 200),
    ("LOCALHOST:8080", 200),
    ("localhost.", 200),
    ("[::1]:8080", 200),
    ("evil.example", 403),
    ("evil.example:8080", 403),
    ("localhost.evil.example", 403),
    ("127.0.0.1.evil.example", 403),
    ("evillocalhost", 403),
    ("10.0.0.1", 403),
    ("0.0.0.0", 403),
    ("2130706433", 403),
    ("[::ffff:10.0.0.1]", 403),
    ("", 403),
]


@pytest.mark.parametrize(("host", "status"), HOSTS, ids=[host or "an empty name" for host, _ in HOSTS])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/debug/cache", "/metrics"])
async def test_foreign_host_name_is_refused_without_client_keys(
    opened: Running, simulator: Simulator, host: str, status: int, path: str
) -> None:
    """DNS rebinding: a page's own name that points at 127.0.0.1; its script may then send what it likes."""
    body = msgspec.json.encode(hello())
    request = post(body, path=path, host=host)
    if path != CHAT:
        request = request.replace(b"POST ", b"GET ")
    async with bare(port_of(opened)) as client:
        await client.say(request)
        found = await client.status()
    assert found == status or (status == 403 and found in (400, 421)), "the name of another"
    if status != 200:
        assert not simulator.requests


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_request_without_a_host_is_judged_without_asking_a_name_server(
    opened: Running, monkeypatch: pytest.MonkeyPatch, version: bytes
) -> None:
    """HTTP/1.0 needs no Host; aiohttp then looks up the machine's own name, which may block the whole loop."""

    def looked_up(*_: Any) -> str:
        raise AssertionError("a name was looked up for a request without a Host header")

    monkeypatch.setattr(socket, "getfqdn", looked_up)
    async with bare(port_of(opened)) as client:
        await client.say(b"GET /v1/models HTTP/%b\r\nAuthorization: Bearer x\r\n\r\n" % version)
        assert await client.status() in (400, 403)


async def test_any_host_name_will_do_with_client_keys(guarded: Running) -> None:
    async with guarded.session.get(guarded.url + "/v1/models", headers=AUTH | {"Host": "chat.example.org"}) as response:
        assert response.status == 200


KEYED = [
    *(
        f"{method} {base}{path}"
        for base in ("/v1", "")
        for method, path in [
            ("POST", "/chat/completions"),
            ("GET", "/models"),
            ("GET", "/models/gemini-2.5-flash"),
            ("GET", "/debug/cache"),
            ("POST", "/token-test"),
            ("POST", "/test"),
        ]
    ),
    "GET /metrics",
]
MARKS = {
    "HTTP/1.0": "HTTP/1.0\r\nConnection: close\r\n",
    "X-Forwarded-For": "HTTP/1.1\r\nX-Forwarded-For: 203.0.113.7\r\n",
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
@pytest.mark.parametrize("asked", KEYED)
async def test_without_keys_no_route_that_asks_for_one_serves_what_a_proxy_passes_on(
    opened: Running, simulator: Simulator, asked: str, mark: str
) -> None:
    for key in ("Authorization: Bearer x\r\n", ""):
        async with bare(port_of(opened)) as client:
            body = msgspec.json.encode(hello())
            head = f"{asked} {mark}Host: 127.0.0.1:8080\r\n{key}Content-Length: {len(body)}\r\n\r\n"
            await client.say(head.encode() + body)
            assert await client.status() == 403
    assert not simulator.requests


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
async def test_with_keys_a_proxy_may_stand_in_front(guarded: Running, mark: str) -> None:
    async with bare(port_of(guarded)) as client:
        body = msgspec.json.encode(hello())
        head = f"POST {CHAT} {mark}Host: chat.example.org\r\nAuthorization: Bearer sk-test\r\n"
        await client.say(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert await client.status() == 200


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
@pytest.mark.parametrize("asked", ["GET /", "GET /health", "GET /ready", "OPTIONS /", "OPTIONS /ready"])
async def test_probes_are_open_whoever_passes_them_on(opened: Running, asked: str, mark: str) -> None:
    async with bare(port_of(opened)) as client:
        await client.say(f"{asked} {mark}Host: 127.0.0.1\r\n\r\n".encode())
        assert await client.status() == 200


# ------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    "path",
    [
        "/v1/debug/cache/",
        "//v1/debug/cache",
        "/v1//debug/cache",
        "/V1/DEBUG/CACHE",
        "/v1/debug/cache;x",
        "/v1/debug%2fcache",
        "/%761/debug/cache",
        "/v1/./debug/cache",
        "/v1/../debug/cache",
        "/health/../v1/debug/cache",
        "/health/%2e%2e/v1/debug/cache",
        "/v1/models/../debug/cache",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/%00",
        "/v1/models/%ff%fe",
        "/%",
        "/%zz",
        "/v1/chat/completions%00",
        "http://evil.example/v1/debug/cache",
        "/metrics",
        "/debug/cache",
    ],
)
async def test_no_path_leads_past_the_key(guarded: Running, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "TRACE", "CONNECT"):
        async with bare(port_of(guarded)) as client:
            await client.say(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode())
            assert await client.status() in (400, 401, 404, 405), method


@pytest.mark.parametrize("method", ["BREW", "A" * 500, "get", "PROPFIND"])
async def test_odd_method_is_refused_in_order(guarded: Running, method: str) -> None:
    async with bare(port_of(guarded)) as client:
        await client.say(f"{method} {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert await client.status() in (400, 405, 501)


# --------------------------------------------------------------------------------------------------------- smuggling

HEAD = b"POST /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-test\r\n"
INNER = HEAD.replace(b"/v1/models", CHAT.encode()) + b"Content-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="both lengths"),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", id="both, turned round"
        ),
        pytest.param(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", id="two lengths"),
        pytest.param(HEAD + b"Content-Length: 5, 5\r\n\r\nhello", id="a list of lengths"),
        pytest.param(HEAD + b"Content-Length: +5\r\n\r\nhello", id="a signed length"),
        pytest.param(HEAD + b"Content-Length: 0x5\r\n\r\nhello", id="a hexadecimal length"),
        pytest.param(HEAD + b"Content-Length : 5\r\n\r\nhello", id="a blank before the colon"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="chunked is not last"),
        pytest.param(HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="an unknown coding"),
        pytest.param(HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", id="a vertical tab"),
        pytest.param(HEAD + b"x: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="a folded header"),
        pytest.param(HEAD + b"Host: other\r\nContent-Length: 0\r\n\r\n", id="two hosts"),
        pytest.param(HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n", id="bare line feeds"),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;x=\n\r\nhello\r\n0\r\n\r\n", id="a chunk extension cut"
        ),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", id="a negative chunk"),
    ],
)
async def test_smuggled_request_is_never_served(guarded: Running, simulator: Simulator, said: bytes) -> None:
    """Two readings of where a request ends make a second one out of its body: such a request ends the connection."""
    async with bare(port_of(guarded)) as client:
        await client.say(said + INNER)
        answer = await client.rest()
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+)", answer)]
    assert statuses == [400]
    assert not simulator.generations


async def test_pipelined_requests_are_answered_in_order(guarded: Running, simulator: Simulator) -> None:
    wanted = [f"echo {number}" for number in range(5)]
    async with bare(port_of(guarded)) as client:
        await client.say(b"".join(post(msgspec.json.encode(hello(text))) for text in wanted))
        answer = b""
        while answer.count(b'"finish_reason":"stop"') < 5:
            answer += await asyncio.wait_for(client.reader.read(1 << 16), 5)
    places = [answer.find(text.encode()) for text in wanted]
    assert -1 not in places
    assert places == sorted(places)


# -------------------------------------------------------------------------------------------------- the inner network


INNER_URLS = [
    "http://127.0.0.1:{port}/x.png",
    "http://localhost:{port}/x.png",
    "http://[::1]:{port}/x.png",
    "http://[::ffff:127.0.0.1]:{port}/x.png",
    "http://2130706433:{port}/x.png",
    "http://0x7f.1:{port}/x.png",
    "http://0.0.0.0:{port}/x.png",
    "http://169.254.169.254/computeMetadata/v1/",
    "http://user:pass@127.0.0.1:{port}/x.png",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
    "ftp://127.0.0.1/x.png",
    "unix:///run/x.sock",
]


@pytest.mark.parametrize("url", INNER_URLS)
async def test_image_url_reaches_nothing_inside(opened: Running, simulator: Simulator, url: str) -> None:
    asked: list[str] = []

    async def inner(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=b"\x89PNG\r\n\x1a\n" + bytes(64), content_type="image/png")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", inner)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        part = {"type": "image_url", "image_url": {"url": url.format(port=port)}}
        body = hello() | {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]}
        status, answer = await opened.post(CHAT, body)
    finally:
        await runner.cleanup()
    assert status == 400
    assert error_code(msgspec.json.decode(answer))
    assert b"messages[0].content[1]" in answer
    assert not asked
    assert not simulator.generations
