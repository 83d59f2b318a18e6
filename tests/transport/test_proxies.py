"""Behind a company's proxy: what goes through it and what does not, and that a tunnel is as clean as a connection."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import msgspec
import pytest
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from gemproxy.cli import main
from gemproxy.config import load
from gemproxy.errors import ClientFault, ConfigFault
from gemproxy.fetch.fetcher import ImageFetcher, ImagePolicy
from gemproxy.proxies import proxies
from gemproxy.simulator import Simulator
from gemproxy.transport import connections
from gemproxy.transport.client import Poster, outgoing, read_beginning
from gemproxy.transport.connections import open_connector
from gemproxy.transport.reaching import Lookout, obstacle_of, why
from gemproxy.transport.tunnel import request_class
from gemproxy.upstream.dialect import HttpRequest
from gemproxy.upstream.reach import Reason
from tests.fetch.test_fetcher import PNG, hold, wanted
from tests.plain import KEPT
from tests.running import running_with
from tests.server_process import ServerProcess, serving
from tests.tls import NAME, contexts
from tests.transport.test_transport_connections import AGAIN, OTHER, Upstream
from tests.tunnels import Tunnels, front, tunnels
from tests.unresolved import NAME as UNKNOWN
from tests.unresolved import without_names
from tests.waiting import soon

GOOGLE = URL("https://generativelanguage.googleapis.com/v1beta")
CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello"}]}
PASSWORD = "fake-proxy-password"
LOGIN = base64.b64encode(f"someone:{PASSWORD}".encode()).decode()


# ------------------------------------------------------------------------------------------- what the environment says


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        pytest.param({}, "", id="nothing"),
        pytest.param({"HTTPS_PROXY": ""}, "", id="an empty variable"),
        pytest.param({"HTTPS_PROXY": "http://proxy.test:3128"}, "http://proxy.test:3128", id="an address"),
        pytest.param({"HTTPS_PROXY": "proxy.test:3128/"}, "http://proxy.test:3128", id="an address without a scheme"),
        pytest.param(
            {"https_proxy": "http://a.test:1", "HTTPS_PROXY": "http://b.test:2"}, "http://a.test:1", id="both"
        ),
        pytest.param({"HTTPS_PROXY": "http://someone:fake-word@proxy.test:1"}, "http://proxy.test:1", id="a password"),
        pytest.param({"HTTP_PROXY": "http://proxy.test:3128"}, "", id="a proxy for plain HTTP, which Google has not"),
    ],
)
def test_the_environment_names_a_proxy(environ: dict[str, str], shown: str) -> None:
    known = proxies(environ)
    assert known.shown == shown
    assert known.through(GOOGLE) is bool(shown)
    assert "fake" not in repr(known)


@pytest.mark.parametrize(
    "written", ["socks5://p:fake-word@x:1", "http://", "http://p:fake-word@x:70000", "http://a:b:c"]
)
def test_what_is_no_proxy_is_refused_by_its_name(written: str) -> None:
    with pytest.raises(ConfigFault, match=r"^HTTPS_PROXY: expected the address of a proxy") as caught:
        proxies({"HTTPS_PROXY": written})
    assert "fake-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("exempt", "url", "through"),
    [
        pytest.param("", str(GOOGLE), True, id="no exception"),
        pytest.param("", "http://gateway.test/", False, id="plain HTTP goes its own way"),
        pytest.param("", "https://127.0.0.1:8443/", False, id="this machine"),
        pytest.param("", "https://localhost/", False, id="this machine by its name"),
        pytest.param("*", str(GOOGLE), False, id="everything"),
        pytest.param("googleapis.com", str(GOOGLE), False, id="a name above"),
        pytest.param(" lan , .googleapis.com", str(GOOGLE), False, id="one of several, with a dot"),
        pytest.param("*.googleapis.com", str(GOOGLE), False, id="one with a star"),
        pytest.param("apis.com", str(GOOGLE), True, id="only the end of a name"),
        pytest.param("GATEWAY.test", "https://gateway.TEST/", False, id="in any case"),
        pytest.param("gateway.test:8443", "https://gateway.test:8443/", False, id="with its port"),
        pytest.param("gateway.test:8443", "https://gateway.test/", True, id="with another port"),
        pytest.param("10.0.0.0/8", "https://10.1.2.3/", False, id="a network"),
        pytest.param("10.0.0.0/8", "https://11.1.2.3/", True, id="another network"),
        pytest.param("[2001:db8::1]", "https://[2001:db8::1]/", False, id="an address of IPv6"),
    ],
)
def test_exceptions_are_asked_directly(exempt: str, url: str, through: bool) -> None:
    assert proxies({"HTTPS_PROXY": "http://proxy.test:1", "NO_PROXY": exempt}).through(URL(url)) is through


# --------------------------------------------------------------------------------------------------------- one tunnel


class Desk:
    """A poster whose upstream stands at the end of a tunnel."""

    def __init__(self, proxy: Tunnels, session: aiohttp.ClientSession, everyone: list[Upstream], direct: bool) -> None:
        self.proxy = proxy
        self.session = session
        self.opened = everyone
        self._poster = Poster(session, direct=direct)

    async def ask(self, body: bytes = b"{}") -> bytes:
        url = f"https://{NAME}/v1beta/models/m:generateContent"
        return await read_beginning(
            await self._poster.post(HttpRequest(url, {"x-goog-api-key": "test-key-1"}, body)), 1 << 20
        )

    def kept(self) -> int:
        connector: Any = self.session.connector
        return sum(line.is_connected() for lines in connector._conns.values() for line, _ in lines)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(connections, "DISTRUST", 0.0)

    @asynccontextmanager
    async def opened(answer: bytes = AGAIN, direct: bool = True, tls: bool = False) -> AsyncIterator[Desk]:
        everyone: list[Upstream] = []
        server_side, client_side = contexts(tmp_path)
        loop = asyncio.get_running_loop()
        make = lambda: Upstream(everyone, answer)  # noqa: E731
        async with await loop.create_server(make, "127.0.0.1", 0, ssl=server_side) as server:
            async with tunnels(server.sockets[0].getsockname()[1], server_side if tls else None) as proxy:
                known = proxies({"HTTPS_PROXY": proxy.url.replace("//", f"//someone:{PASSWORD}@")})
                async with aiohttp.ClientSession(
                    connector=open_connector(limit=0, ssl=client_side),
                    request_class=request_class(known),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=0.5),
                ) as session:
                    yield Desk(proxy, session, everyone, direct)
            for one in everyone:
                if hasattr(one, "line"):  # a handshake that failed made none
                    one.line.abort()

    return opened


@pytest.fixture(params=[True, False], ids=["posted here", "posted by aiohttp"])
def direct(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@KEPT
async def test_a_tunnel_is_kept_and_the_proxy_alone_gets_its_password(opened, direct) -> None:
    async with opened(direct=direct) as it:
        assert [await it.ask() for _ in range(3)] == [b"{}"] * 3
        [asked] = it.proxy.heads
        assert (len(it.opened), it.kept()) == (1, 1)
    assert asked.startswith(f"CONNECT {NAME}:443 HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {LOGIN}\r\n" in asked
    assert "test-key-1" not in asked


@KEPT
async def test_a_proxy_may_be_spoken_to_over_tls_itself(opened, direct) -> None:
    async with opened(direct=direct, tls=True) as it:
        assert [await it.ask() for _ in range(3)] == [b"{}"] * 3
        assert (len(it.proxy.heads), len(it.opened), it.kept()) == (1, 1, 1)


async def test_what_comes_behind_an_answer_ends_its_tunnel(opened, direct) -> None:
    async with opened(AGAIN + OTHER, direct=direct) as it:
        for count in range(1, 4):
            assert await it.ask() == b"{}"
            assert (len(it.opened), it.kept()) == (count, 0)


async def test_what_comes_between_two_requests_ends_the_tunnel_at_once(opened, direct) -> None:
    async with opened(direct=direct) as it:
        await it.ask()
        it.opened[0].line.write(OTHER)
        await soon(lambda: not it.kept())
        assert await it.ask() == b"{}"
        assert len(it.opened) == 2


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(b"HTTP/1.1 407 No\r\nContent-Length: 9\r\n\r\nfake-body", "refused with status 407", id="a 407"),
        pytest.param(b"HTTP/1.1 502 No\r\nConnection: close\r\n\r\n", "refused with status 502", id="a 502"),
        pytest.param(b"HTTP/1.1 204 No\r\n\r\n", "refused with status 204", id="a 204, which opens nothing"),
        pytest.param(b"", "no answer within timeouts.connect", id="silence, until timeouts.connect"),
        pytest.param(b"SSH-2.0-x\r\n\r\n", "cannot be reached (Protocol error)", id="another protocol"),
        pytest.param(None, "cannot be reached (Connection reset by peer)", id="a word that never comes"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_named(opened, direct, answer: bytes | None, told: str) -> None:
    async with opened(direct=direct) as it:
        it.proxy.answer, it.proxy.hangs_up = answer or b"", answer is None
        with pytest.raises((aiohttp.ClientError, OSError)) as caught:
            await asyncio.wait_for(it.ask(), 5)
        assert told in why(caught.value)
        assert obstacle_of(caught.value), "so that the host counts as out of reach"
        assert not it.opened, "nothing but CONNECT was said to a proxy that refuses"
        assert "test-key-1" not in "".join(it.proxy.heads)


async def test_a_proxy_that_speaks_first_is_not_listened_to(opened, direct) -> None:
    async with opened(direct=direct) as it:
        it.proxy.first = it.proxy.answer
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(it.ask(), 5)
        assert not it.kept()


async def test_bytes_of_the_proxy_behind_its_word_are_no_answer(opened, direct) -> None:
    async with opened(direct=direct) as it:
        it.proxy.answer += OTHER
        assert [await it.ask() for _ in range(2)] == [b"{}"] * 2


async def test_a_proxy_that_is_not_there_is_named() -> None:
    known = proxies({"HTTPS_PROXY": "http://127.0.0.1:1"})
    async with aiohttp.ClientSession(connector=open_connector(), request_class=request_class(known)) as session:
        with pytest.raises(aiohttp.ClientProxyConnectionError) as caught:
            await Poster(session).post(HttpRequest(str(GOOGLE), {}, b"{}"))
    assert why(caught.value) == "the proxy of HTTPS_PROXY cannot be reached (Connection refused)"


async def test_a_proxy_whose_name_does_not_resolve_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without_names(monkeypatch)
    known = proxies({"HTTPS_PROXY": f"http://{UNKNOWN}:1"})
    lookout = _lookout()
    connector = open_connector(hear=lookout.hear)
    async with aiohttp.ClientSession(connector=connector, request_class=request_class(known)) as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await Poster(session).post(HttpRequest(str(GOOGLE), {}, b"{}"))
    [view] = lookout.views()
    assert (view.host, view.message) == (GOOGLE.host, "the name of the proxy (HTTPS_PROXY) does not resolve")


async def test_a_handshake_with_a_host_that_is_out_goes_through_the_tunnel(opened) -> None:
    async with opened() as it:
        lookout, origin = _lookout(), f"https://{NAME}"
        key = ConnectionKey(NAME, 443, True, True, None, None, None)
        for _ in range(3):
            lookout.hear(URL(origin), aiohttp.ClientConnectorError(key, OSError(111, "refused")))
        await it.ask()
        await lookout.knock(lambda: [origin], 1.0, it.session._request_class)
        assert [head.split("\r\n")[0] for head in it.proxy.heads] == [f"CONNECT {NAME}:443 HTTP/1.1"] * 2
    assert lookout.views()[0].reason is Reason.TLS, (
        "it got as far as the certificate, whose authority is not known here"
    )


def _lookout() -> Lookout:
    steady = asyncio.get_running_loop().time
    return Lookout(steady, steady)


# -------------------------------------------------------------------------------------------------------------- images


async def test_images_come_through_the_proxy_from_named_hosts_only(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_side, client_side = contexts(tmp_path)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", client_side)
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n%b" % (len(PNG), PNG)
    everyone: list[Upstream] = []
    loop, url = asyncio.get_running_loop(), f"https://{NAME}/a.png"
    make = lambda: Upstream(everyone, whole, 0)  # noqa: E731
    async with (
        await loop.create_server(make, "127.0.0.1", 0, ssl=server_side) as server,
        tunnels(server.sockets[0].getsockname()[1]) as proxy,
    ):
        known = proxies({"HTTPS_PROXY": proxy.url})
        named = ImageFetcher(ImagePolicy(allow_hosts=[NAME]), between=known)
        other = ImageFetcher(ImagePolicy(allow_hosts=["example.test"]), between=known)
        assert (await named.fetch(wanted(url), hold()))[url].mime_type == "image/png"
        for refused in (url, "https://93.184.216.34/a.png"):
            with pytest.raises(ClientFault, match=r"a proxy \(HTTPS_PROXY\), which only images\.allow_hosts do"):
                await other.fetch(wanted(refused), hold())
        assert [asked.split()[1] for asked in proxy.heads] == [f"{NAME}:443"]
        await named.close()
        await other.close()


# --------------------------------------------------------------------------------------------------------- the process


CONFIG = f"""
[server]
port = 0
[models]
discover = true
[upstream]
ai_studio_url = "https://{NAME}/v1beta"
code_assist_url = "https://{NAME}/v1internal"
vertex_url = "https://{NAME}/vertex/v1"
token_url = "https://{NAME}/token"
[oauth]
client_id = "fake-client"
client_secret = "fake-secret"
"""
STUDIO = '[[credentials]]\nname = "studio-1"\nkind = "api_key"\nkey = "test-key-1"\n'
TEAM = '[[credentials]]\nname = "team"\nkind = "oauth"\nfile = "team.json"\n'
FLASH, PRO = "gemini-2.5-flash", "gemini-2.5-pro"


class Company:
    """A network with a proxy and an authority of its own, and Google behind it."""

    def __init__(self, proxy: Tunnels, environ: dict[str, str]) -> None:
        self.proxy = proxy
        self.environ = environ

    async def run(self, *command: str, **options: Any) -> tuple[int | None, str]:
        """Run a command of ours; return its status and all that it says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gemproxy", *command),
            env=os.environ | self.environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            **options,
        )
        told, _ = await asyncio.wait_for(process.communicate(), 30)
        return process.returncode, told.decode()


@pytest.fixture
async def company(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Company]:
    server_side, _ = contexts(tmp_path)
    (tmp_path / "team.json").write_bytes(msgspec.json.encode({"refresh_token": "refresh-team", "expiry_date": 1}))
    port = URL(simulator.ai_studio_url).port
    assert port is not None
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(tunnels(await stack.enter_async_context(front(port, server_side))))
        address = proxy.url.replace("//", f"//someone:{PASSWORD}@")
        yield Company(proxy, {"HTTPS_PROXY": address, "SSL_CERT_FILE": str(tmp_path / "server.pem")})


async def chat(server: ServerProcess, **more: Any) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer sk-test"}) as session,
        session.post(server.url + CHAT, data=outgoing(msgspec.json.encode(HELLO | more))) as response,
    ):
        return response.status, await response.read()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_serve_asks_everything_through_the_proxy(
    company: Company, simulator: Simulator, tmp_path: Path, loop: str
) -> None:
    each = f'{STUDIO}models = ["{FLASH}"]\n{TEAM}models = ["{PRO}"]\n'
    toml = CONFIG.replace("port = 0", f'port = 0\nloop = "{loop}"') + each
    async with serving(tmp_path, toml, **company.environ) as server:
        await server.logged("requests to Google go through the proxy")
        for model, upstream in ((FLASH, "ai_studio"), (PRO, "code_assist")):
            simulator.requests.clear()
            assert (await chat(server, model=model, stream=False))[0] == 200
            large = [{"role": "user", "content": "long" * 300_000}]  # which aiohttp posts
            assert (await chat(server, model=model, stream=False, messages=large))[0] == 200
            status, body = await chat(server, model=model, stream=True)
            assert (status, body[-14:]) == (200, b"data: [DONE]\n\n")
            assert [request.upstream for request in simulator.generations] == [upstream] * 3
        log = server.log
    assert PASSWORD not in log
    assert LOGIN not in log
    assert any(request.call == "token" for request in simulator.requests)
    assert {asked.split()[1] for asked in company.proxy.heads} == {f"{NAME}:443"}


async def test_a_client_hears_that_the_proxy_refuses(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    company.proxy.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    monkeypatch.setenv("HTTPS_PROXY", company.environ["HTTPS_PROXY"])
    file = tmp_path / "gemproxy.toml"
    file.write_text(CONFIG + STUDIO)
    async with running_with(load(file, {})) as server:
        status, body = await server.post(CHAT, HELLO | {"stream": False})
    assert status == 502
    assert b"the proxy of HTTPS_PROXY refused with status 407" in body
    assert "407" in caplog.text
    assert PASSWORD not in caplog.text + body.decode()


async def test_check_asks_through_the_proxy(
    company: Company,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "gemproxy.toml"
    file.write_text(CONFIG + STUDIO + TEAM)
    status, told = await company.run("check", "--online", "--config", str(file))
    assert status == 0, told
    assert f"proxy         {company.proxy.url}" in told
    assert PASSWORD not in told
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # from here on nothing comes to a certificate
    status = await asyncio.to_thread(main, ["check", "--online", "--config", str(file)])
    assert status == 1
    assert "the proxy of HTTPS_PROXY cannot be reached" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "serve", "login"])
def test_every_command_refuses_what_is_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setattr("gemproxy.process.logs.configure", lambda *_: None)
    monkeypatch.setenv("HTTPS_PROXY", f"ftp://someone:{PASSWORD}@127.0.0.1")
    file = tmp_path / "gemproxy.toml"
    file.write_text(CONFIG + STUDIO + TEAM)
    (tmp_path / "team.json").write_bytes(msgspec.json.encode({"refresh_token": "refresh-team", "expiry_date": 1}))
    assert main([command, "--config", str(file)]) == 2
    told = "".join(capsys.readouterr())
    assert ("HTTPS_PROXY: expected" in told, PASSWORD in told) == (True, False)


async def test_login_redeems_through_the_proxy(company: Company, simulator: Simulator, tmp_path: Path) -> None:
    simulator.desk.clients = {"fake-client": "fake-secret"}
    file = tmp_path / "gemproxy.toml"
    file.write_text(CONFIG.replace("[oauth]", f'auth_url = "{simulator.auth_url}"\n[oauth]') + TEAM)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gemproxy", "login", "--no-browser", "--config", str(file)),
        env=os.environ | company.environ | {"PYTHONUNBUFFERED": "1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while not (line := (await process.stdout.readline()).decode().strip()).startswith(simulator.auth_url):
            pass
        process.stdin.write(f"{simulator.desk.consent(dict(parse_qsl(urlsplit(line).query)))}\n".encode())
        await process.communicate()
    assert process.returncode == 0
    assert len(company.proxy.heads) == 1
