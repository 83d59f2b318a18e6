"""What keeps a connection from coming about is told apart on real sockets; a handshake brings a host back."""

from __future__ import annotations

import asyncio
import datetime
import errno
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp.abc import ResolveResult
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.resolver import DefaultResolver
from yarl import URL

from gemproxy.tasks import keep_doing
from gemproxy.transport import reaching
from gemproxy.transport import resolver as resolving
from gemproxy.transport.client import Poster, ask
from gemproxy.transport.connections import open_connector
from gemproxy.transport.reaching import Lookout, obstacle_of, origin_of
from gemproxy.upstream.dialect import HttpRequest
from gemproxy.upstream.reach import QUIET_TIME, Obstacle, Reason
from tests.clock import Clock
from tests.server_process import free_port
from tests.tls import HOUR, contexts
from tests.unresolved import NAME, without_names
from tests.waiting import soon

DAY = 86400.0
SILENCE = 0.1  # seconds until a host that says nothing counts as one
PATIENCE = 30.0  # for all others: a slow machine takes its time for a handshake


def lookout_of() -> Lookout:
    steady = asyncio.get_running_loop().time
    return Lookout(steady, steady)


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[int]:
    """Listen, and say nothing."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", port, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Case:
    """An outage: where it is, and what a client brings along."""

    def __init__(self, reason: Reason | None, detail: str, url: str = "", trust: ssl.SSLContext | None = None) -> None:
        self.reason, self.detail, self.url, self.trust = reason, detail, url, trust


@asynccontextmanager
async def outage(name: str, folder: Path) -> AsyncIterator[Case]:
    """Make an outage."""
    day = datetime.timedelta(days=1)
    spans = {"early": (day, 2 * day), "late": (-2 * day, -day)}
    server, client = contexts(folder, *spans.get(name, (-HOUR, HOUR)))
    if name == "dns":
        yield Case(Reason.DNS, "not known", f"http://{NAME}/v1beta")
    elif name == "refused":
        yield Case(Reason.REFUSED, "Connection refused", f"http://127.0.0.1:{free_port()}/v1beta")
    elif name == "silent":
        async with listening() as port:
            yield Case(Reason.TIMEOUT, "", f"https://127.0.0.1:{port}/v1beta")
    else:
        reason = Reason.CLOCK if name == "early" else Reason.TLS
        words = {"late": "clock is ahead", "stranger": "self-signed", "other name": "mismatch"}
        host = "localhost" if name == "other name" else "127.0.0.1"
        async with listening(server) as port:
            trust = None if name == "stranger" else client
            yield Case(reason, words.get(name, ""), f"https://{host}:{port}/v1beta", trust)


OUTAGES = ["dns", "refused", "silent", "early", "late", "stranger", "other name"]


async def test_a_host_that_hangs_up_during_the_handshake_did_not_refuse() -> None:
    """The system has no word for that: the connection stood, and was closed in good order."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with aiohttp.ClientSession(connector=open_connector()) as session:
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await ask(session, HttpRequest(f"https://127.0.0.1:{port}/", {}, b"{}"), 5.0)
    assert obstacle_of(caught.value) == Obstacle(Reason.TLS, "", "the connection is closed during the TLS handshake")


@pytest.mark.parametrize("name", OUTAGES)
@pytest.mark.parametrize("way", ["posted here", "posted by aiohttp", "asked"])
async def test_what_keeps_a_connection_away_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, way: str
) -> None:
    without_names(monkeypatch)
    lookout = lookout_of()
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE if name == "silent" else PATIENCE)
    async with outage(name, tmp_path) as case:
        connector = open_connector(hear=lookout.hear, limit=0, ssl=case.trust or True)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            request = HttpRequest(case.url, {"x-goog-api-key": "test-key-1"}, b"{}")
            with pytest.raises((aiohttp.ClientError, OSError)) as caught:
                await (
                    ask(session, request, 5.0)
                    if way == "asked"
                    else Poster(session, direct=way == "posted here").post(request)
                )
    found = obstacle_of(caught.value)
    assert found is not None
    assert found.reason is case.reason
    assert case.detail in found.detail
    [view] = lookout.views()
    assert (view.reason, view.failures) == (case.reason, 1)


KEY = ConnectionKey("host", 443, True, True, None, None, None)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(aiohttp.ClientConnectorError(KEY, OSError(errno.EMFILE, "")), id="no descriptor is left here"),
        pytest.param(TimeoutError(), id="an answer that is late"),
        pytest.param(aiohttp.ServerDisconnectedError(), id="a connection that was lost"),
        pytest.param(aiohttp.ClientPayloadError("packed"), id="an answer that nobody can read"),
    ],
)
def test_what_says_nothing_of_the_host_is_no_obstacle(fault: Exception) -> None:
    assert obstacle_of(fault) is None


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ECONNREFUSED, "the connection is refused (Connection refused)"),
        (errno.ENETUNREACH, "no network leads to it (Network is unreachable)"),
        (errno.EHOSTUNREACH, "no network leads to it (No route to host)"),
        (errno.ECONNRESET, "the connection is reset (Connection reset by peer)"),
        (errno.EPERM, "the connection is refused (Operation not permitted)"),
        (None, "the connection is refused"),
    ],
)
def test_what_the_system_says_is_told_without_an_address(number: int | None, words: str) -> None:
    fault = OSError(number, "Connect call failed ('192.0.2.1', 443)") if number else OSError("Multiple exceptions")
    found = obstacle_of(aiohttp.ClientConnectorError(KEY, fault))
    assert found is not None
    assert (found.reason, found.words) == (Reason.REFUSED, words)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://host.invalid/v1beta", "https://host.invalid"),
        ("https://host.invalid:8443/v1", "https://host.invalid:8443"),
        ("nonsense", ""),
    ],
)
def test_a_host_is_known_by_its_origin(url: str, origin: str) -> None:
    assert origin_of(url) == origin


# ------------------------------------------------------------------------------------------------------- handshakes


async def test_a_handshake_brings_a_host_back_and_asks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gemproxy")
    back: list[bool] = []
    lookout, port = lookout_of(), free_port()
    lookout.on_return = lambda: back.append(True)
    url = f"http://127.0.0.1:{port}"
    for _ in range(3):
        lookout.hear(URL(url), _refused())
    knocking = keep_doing(partial(lookout.knock, lambda: {url}, PATIENCE), 0.005, name="handshakes")
    await soon(lambda: lookout.views()[0].failures > 4)
    heard: list[bytes] = []

    class Line(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            heard.append(data)

    server = await asyncio.get_running_loop().create_server(Line, "127.0.0.1", port)
    async with server:
        await soon(lambda: not lookout.views())
    knocking.cancel()
    assert back == [True]
    assert heard == []
    lines = [record.message for record in caplog.records]
    assert lines[0] == f"cannot reach 127.0.0.1:{port}: the connection is refused (Connection refused)"
    assert "is reached again" in lines[1]
    assert len(lines) == 2


async def test_a_bug_in_one_handshake_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    origins, tried = ["http://127.0.0.1:1", "http://127.0.0.1:2"], []

    async def shake(session: object, kind: object, origin: str, patience: float) -> None:
        await asyncio.sleep(0)
        tried.append(origin)
        raise ValueError(origin)

    monkeypatch.setattr(reaching, "_shake_hands", shake)
    lookout = lookout_of()
    for origin in origins * 3:
        lookout.hear(URL(origin), _refused())
    with pytest.raises(ValueError, match=origins[0]):
        await lookout.knock(lambda: origins, PATIENCE)
    assert tried == origins


async def test_handshakes_ask_a_silent_name_server_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Silent(DefaultResolver):
        async def resolve(self, host: str, *_: object) -> list[ResolveResult]:
            asked.append(host)
            return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(resolving, "DefaultResolver", Silent)
    monkeypatch.setattr(resolving, "LOOKUP_TIMEOUT", 0.001)
    lookout, origin = lookout_of(), f"http://{NAME}"
    for _ in range(3):
        lookout.hear(URL(origin), _refused())
    for _ in range(3):
        await lookout.knock(lambda: {origin}, SILENCE)
    await lookout.close()
    assert [view.failures for view in lookout.views()] == [6]
    assert asked == [NAME], "each look-up holds a thread that others need until it ends by itself"


async def test_nobody_knocks_where_nobody_needs_it() -> None:
    lookout = lookout_of()
    async with listening() as port:
        for _ in range(3):
            lookout.hear(URL(f"http://127.0.0.1:{port}"), _refused())
        await lookout.knock(list, PATIENCE)
    assert [view.failures for view in lookout.views()] == [3]


def _refused() -> aiohttp.ClientConnectorError:
    return aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"))


async def test_clocks_that_contradict_each_other_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    wall, steady = Clock(), Clock(1000.0)
    skew = Lookout(steady, wall).skew
    for _ in range(2):
        for ahead in (2 * DAY, 0.0) * 5:
            skew.note({"Date": formatdate(wall.now + ahead, usegmt=True)})
        steady.advance(QUIET_TIME)
    wrong, right = "this machine's clock is 2 days behind Google's", "this machine's clock is right again"
    assert [record.getMessage() for record in caplog.records] == [wrong, right] * 2
