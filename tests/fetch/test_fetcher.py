"""Fetching images from servers on this machine: what arrives, what is refused, what never gets a connection.

``127.0.0.1`` is the allowed host of these tests and ``127.0.0.2`` the internal one that nobody may reach.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import gzip
import logging
import socket
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.errors import ClientFault, ConfigFault
from gemproxy.fetch.fetcher import ImageFetcher, ImagePolicy
from gemproxy.fetch.resolver import CALLER
from gemproxy.fetch.sessions import Sessions
from gemproxy.networks import UNREACHABLE
from gemproxy.wire.gemini import Blob
from tests.burdens import hold
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
JPEG = b"\xff\xd8\xff\xe0" + bytes(60)
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(60)
HEIC = b"\x00\x00\x00\x18ftypheic" + bytes(60)
PART = "messages[0].content[1]"
HERE = "127.0.0.1"
INTERNAL = "127.0.0.2"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Names(AbstractResolver):
    """Answers each name with its next list of addresses, the last one for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): found for name, found in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
        self.asked.append(host)
        if host not in self._answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        left = self._answers[host]
        found = left.pop(0) if len(left) > 1 else left[0]
        return [
            {"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for address in found
        ]

    async def close(self) -> None:
        raise AssertionError("the resolver is its owner's to close")


class Site:
    """A web server whose answers a test writes as functions; ``seen`` holds the requests."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self._answers: dict[str, Handler] = {}
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._server = TestServer(application)

    async def start(self, host: str, context: ssl.SSLContext | None = None) -> Site:
        self._server.host = host
        await self._server.start_server(ssl=context)
        return self

    async def close(self) -> None:
        await self._server.close()

    def url(self, path: str, host: str = "") -> str:
        return f"{self._server.scheme}://{host or self._server.host}:{self._server.port}{path}"

    def answer(self, path: str, body: bytes = PNG, status: int = 200, **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def handler(_request: web.Request) -> web.Response:
            return web.Response(body=body, status=status, headers=named)

        return self.handle(path, handler)

    def handle(self, path: str, handler: Handler) -> str:
        self._answers[path] = handler
        return self.url(path)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return await self._answers[request.path](request)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    started = await Site().start(HERE)
    yield started
    await started.close()


@pytest.fixture
async def internal() -> AsyncIterator[Site]:
    started = await Site().start(INTERNAL)
    started.answer("/secret")
    yield started
    await started.close()


@pytest.fixture
async def raw() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Start a server that sends the given bytes whatever it is asked, then closes; returns its URL."""
    servers = []

    async def start(*pieces: bytes) -> str:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(4096)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            writer.close()

        servers.append(await asyncio.start_server(talk, HERE, 0))
        return f"http://{HERE}:{servers[-1].sockets[0].getsockname()[1]}/"

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def fetcher() -> AsyncIterator[Callable[..., ImageFetcher]]:
    """Make a fetcher that may ask 127.0.0.1, unless the test says otherwise."""
    made: list[ImageFetcher] = []

    def make(resolver: AbstractResolver | None = None, **policy: object) -> ImageFetcher:
        made.append(ImageFetcher(ImagePolicy(**{"allow_hosts": [HERE], **policy}), resolver=resolver))
        return made[-1]

    yield make
    for one in made:
        await one.close()


def wanted(*urls: str) -> list[RemoteImage]:
    return [RemoteImage(url, f"messages[0].content[{place}]") for place, url in enumerate(urls, 1)]


async def refusal(fetcher: ImageFetcher, *urls: str, part: str = PART) -> str:
    """Fetch and return why not, after a look at the rest of the fault."""
    with pytest.raises(ClientFault) as caught:
        await fetcher.fetch(wanted(*urls), hold())
    fault = caught.value
    assert (fault.status, fault.code, fault.param) == (400, "invalid_image_url", part)
    opening = f"The image at {part} cannot be used: "
    assert fault.message.startswith(opening)
    assert not any(url in fault.message for url in urls)
    return fault.message.removeprefix(opening).removesuffix(".")


# ---------------------------------------------------------------------------------------------------- what arrives


@pytest.mark.parametrize(
    ("body", "declared", "kind"),
    [
        pytest.param(PNG, "image/png", "image/png", id="png"),
        pytest.param(JPEG, "image/jpg", "image/jpeg", id="jpeg called image/jpg"),
        pytest.param(WEBP, "image/png", "image/webp", id="webp called png"),
        pytest.param(HEIC, "application/octet-stream", "image/heic", id="heic called a stream of bytes"),
        pytest.param(b"%PDF-1.7\n", "text/html", "application/pdf", id="pdf called a page"),
        pytest.param(b"a,b\n1,2\n", "Text/CSV; charset=utf-8", "text/csv", id="text, as declared"),
        pytest.param(b"\x00\x00\x01\xb3", "video/mpeg", "video/mpeg", id="a video that only its server knows"),
    ],
)
async def test_an_image_comes_inline_with_the_type_of_its_bytes(site, fetcher, body, declared, kind) -> None:
    url = site.answer("/a", body, Content_Type=declared)
    assert await fetcher().fetch(wanted(url), hold()) == {url: Blob(kind, base64.b64encode(body).decode())}


def test_nothing_wanted_costs_nothing() -> None:
    work = ImageFetcher(ImagePolicy()).fetch([], hold())
    with pytest.raises(StopIteration) as done:  # it ends without a loop, so without connections
        work.send(None)
    assert done.value.value == {}


async def test_a_url_named_twice_is_fetched_once(site, fetcher) -> None:
    one, two = site.answer("/1", PNG), site.answer("/2", JPEG)
    found = await fetcher().fetch(wanted(one, two, one), hold())
    assert {url: blob.mime_type for url, blob in found.items()} == {one: "image/png", two: "image/jpeg"}
    assert sorted(request.path for request in site.seen) == ["/1", "/2"]


async def test_a_signed_url_reaches_its_server_byte_for_byte(site, fetcher) -> None:
    site.answer("/a b")
    path = "/a%20b?sig=a%2Bb%2F%3D+c&empty="
    await fetcher().fetch(wanted(site.url(path) + "#fragment"), hold())
    assert site.seen[0].raw_path == path


async def test_a_server_learns_nothing_but_the_url(site, fetcher, tmp_path, monkeypatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine photos.test login fake-user password fake-password\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", f"http://{INTERNAL}:9")
    url = site.answer("/a", Set_Cookie="track=1").replace(HERE, "photos.test")
    one = fetcher(Names(photos_test=[[HERE]]))
    await one.fetch(wanted(url), hold())
    await one.fetch(wanted(url), hold())
    headers = site.seen[1].headers
    assert headers["User-Agent"].startswith("gemproxy/")
    assert headers["Accept-Encoding"] == "identity"
    assert set(headers) <= {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param({"status": 404}, "its server answered with status 404", id="not found"),
        pytest.param({"status": 500}, "its server answered with status 500", id="a server that failed"),
        pytest.param({"status": 206}, "its server answered with status 206", id="a part of an image"),
        pytest.param({"status": 304}, "its server answered with status 304", id="not modified"),
        pytest.param({"body": b""}, "it is empty", id="an empty body"),
        pytest.param({"body": b"<html>", "Content_Type": "text/html"}, "it is an HTML page", id="a log-in page"),
        pytest.param(
            {"body": gzip.compress(PNG), "Content_Encoding": "gzip"},
            "its server compressed it although asked not to",
            id="a compressed body, which may be a bomb",
        ),
        pytest.param(
            {"body": gzip.compress(b"text"), "Content_Type": "text/plain", "Content_Encoding": "identity, X-GZIP"},
            "its server compressed it although asked not to",
            id="compressed by an odd name, of a type that bytes do not tell",
        ),
        pytest.param({"body": PNG * 9}, "it is larger than images.max_bytes = 2000", id="too large, and says so"),
        pytest.param({"status": 302}, "its server sends elsewhere without saying where", id="a redirect to nowhere"),
    ],
)
async def test_an_answer_that_is_no_image_is_a_fault_that_names_the_part(site, fetcher, answer, reason) -> None:
    assert await refusal(fetcher(max_bytes=2000), site.answer("/a", **answer)) == reason


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        pytest.param([HEAD + b"\r\n", PNG, PNG, PNG], "it is larger than images.max_bytes = 2000", id="no length"),
        pytest.param(
            [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"400\r\n" + bytes(1024) + b"\r\n"] * 9],
            "it is larger than images.max_bytes = 2000",
            id="chunks without end",
        ),
        pytest.param(
            [HEAD + b"Content-Length: 2001\r\n\r\n"],
            "it is larger than images.max_bytes = 2000",
            id="a length that tells before anything is read",
        ),
        pytest.param([HEAD + b"Content-Length: 1999\r\n\r\n", PNG], "its server broke off", id="half an image"),
        pytest.param([], "its server broke off", id="no answer at all"),
        pytest.param([b"220 mail.test ESMTP\r\n"], "its server broke off", id="not http"),
        pytest.param(
            [HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", b"2\r\n\x1f\x8b\r\n0\r\n\r\n"],
            "its server compressed it although asked not to",
            id="compressed on its way",
        ),
        pytest.param(
            [b"HTTP/1.1 100 Continue\r\n\r\n" * 9999, HEAD], "its server broke off", id="thousands of heads before it"
        ),
        pytest.param([HEAD + b"X: " + b"a" * 99_000 + b"\r\n\r\n"], "its server broke off", id="an endless header"),
        pytest.param(
            [HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"], "its server broke off", id="a bad chunk"
        ),
        pytest.param([HEAD + b"Content-Length: x\r\n\r\n"], "its server broke off", id="a length that is none"),
        pytest.param(
            [b"HTTP/1.1 302 Found\r\nLocation: /\xff\r\n\r\n"],
            "its URL holds characters that must be percent-encoded",
            id="a redirect that is not UTF-8",
        ),
    ],
)
async def test_a_server_that_misbehaves_is_the_fault_of_the_image(raw, fetcher, pieces, reason) -> None:
    assert await refusal(fetcher(max_bytes=2000), await raw(*pieces)) == reason


async def test_an_image_of_just_the_allowed_size_is_taken(site, fetcher) -> None:
    url = site.answer("/a", PNG)
    assert url in await fetcher(max_bytes=len(PNG)).fetch(wanted(url), hold())
    assert await refusal(fetcher(max_bytes=len(PNG) - 1), url) == f"it is larger than images.max_bytes = {len(PNG) - 1}"


async def test_images_together_may_be_too_large(site, fetcher) -> None:
    urls = [site.answer(f"/{number}", PNG) for number in range(3)]
    assert len(await fetcher(max_total=3 * len(PNG)).fetch(wanted(*urls), hold())) == 3
    with pytest.raises(ClientFault, match="more than the 2000 bytes a request holds"):
        await fetcher(max_total=2000).fetch(wanted(*urls), hold())


async def test_an_image_named_twice_takes_its_room_twice(site, fetcher) -> None:
    url = site.answer("/a", PNG)
    assert "more than the 2000 bytes" in await refusal(fetcher(max_total=2000), url, url)


async def test_more_images_than_allowed_are_refused_before_any_is_fetched(site, fetcher) -> None:
    url = site.answer("/a")
    reason = await refusal(fetcher(max_count=2), url, url, url, part="messages[0].content[3]")
    assert reason == "the request names more than images.max_count = 2 images"
    assert site.seen == []


async def test_fetching_may_be_turned_off(site, fetcher) -> None:
    assert "images.fetch" in await refusal(fetcher(fetch=False), site.answer("/a"))
    assert site.seen == []


async def test_a_url_that_is_none_is_a_fault(fetcher) -> None:
    assert await refusal(fetcher(), "ftp://127.0.0.1/a") == "its URL must begin with https:// or http://"


async def test_https_to_a_server_without_it_is_a_fault(site, fetcher) -> None:
    url = site.answer("/a").replace("http:", "https:")
    assert await refusal(fetcher(), url) == "there is no trusted TLS connection to its server"


@pytest.mark.parametrize(
    ("host", "trusted", "served"),
    [
        pytest.param(HERE, True, True, id="a trusted certificate for this address"),
        pytest.param("photos.test", True, True, id="a trusted certificate for this name"),
        pytest.param("other.test", True, False, id="a trusted certificate for another name"),
        pytest.param(HERE, False, False, id="a certificate that nobody signed"),
    ],
)
async def test_a_certificate_is_checked(fetcher, certificate, monkeypatch, host, trusted, served) -> None:
    if trusted:  # aiohttp reads what the machine trusts once, when it is imported
        monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", ssl.create_default_context(cafile=certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secure = await Site().start(HERE, context)
    secure.answer("/a")
    url, one = secure.url("/a", host), fetcher(Names(photos_test=[[HERE]], other_test=[[HERE]]))
    try:
        if served:
            assert url in await one.fetch(wanted(url), hold())
        else:
            assert await refusal(one, url) == "there is no trusted TLS connection to its server"
            assert secure.seen == []
    finally:
        await secure.close()


@pytest.fixture
def certificate(tmp_path):
    """Return a file with a key and a certificate for 127.0.0.1 and photos.test, signed by itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    valid = x509.CertificateBuilder().not_valid_before(now - day).not_valid_after(now + day)
    named = valid.subject_name(name).issuer_name(name).serial_number(x509.random_serial_number())
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HERE)), x509.DNSName("photos.test")])
    signed = named.public_key(key.public_key()).add_extension(hosts, critical=False).sign(key, hashes.SHA256())
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


def test_exceptions_that_cannot_be_read_are_the_operators_fault() -> None:
    with pytest.raises(ConfigFault, match=r"images\.allow_hosts"):
        ImageFetcher(ImagePolicy(allow_hosts=["10.0.0.1/8"]))


# ------------------------------------------------------------------------------------- what never gets a connection


@pytest.mark.parametrize(
    "host",
    [
        pytest.param(INTERNAL, id="an address"),
        pytest.param("[::ffff:127.0.0.2]", id="an address in disguise"),
        pytest.param("inside.test", id="a name that resolves to it"),
        pytest.param("nowhere.test", id="a name that does not resolve"),
        pytest.param("two.test", id="a name with two internal addresses"),
        pytest.param("2130706434", id="a number"),
        pytest.param("169.254.169.254", id="metadata"),
    ],
)
async def test_all_hosts_that_may_not_be_reached_get_the_same_answer(internal, fetcher, host) -> None:
    names = Names(inside_test=[[INTERNAL]], two_test=[[INTERNAL, "169.254.169.254"]])
    assert await refusal(fetcher(names), internal.url("/secret", host)) == UNREACHABLE
    assert internal.seen == []


async def test_an_allowed_host_that_does_not_answer_gets_that_answer_too(fetcher) -> None:
    with socket.socket() as unused:
        unused.bind((HERE, 0))  # bound, and not listening
        assert await refusal(fetcher(), f"http://{HERE}:{unused.getsockname()[1]}/") == UNREACHABLE


async def test_without_exceptions_this_machine_is_not_reached(site, fetcher) -> None:
    url = site.answer("/a")
    assert await refusal(fetcher(allow_hosts=[]), url) == UNREACHABLE
    assert await refusal(fetcher(Names(localhost=[[HERE]]), allow_hosts=[]), url.replace(HERE, "localhost"))
    assert site.seen == []


async def test_the_address_connected_to_is_judged_not_the_one_seen_before(site, internal, fetcher) -> None:
    one = fetcher(Names(turning_test=[[HERE], [INTERNAL]]))
    allowed = site.answer("/secret").replace(HERE, "turning.test")
    assert allowed in await one.fetch(wanted(allowed), hold())
    assert await refusal(one, internal.url("/secret", "turning.test")) == UNREACHABLE
    assert internal.seen == []


async def test_every_connection_asks_for_its_address(site, fetcher) -> None:
    names = Names(photos_test=[[HERE]])
    url, one = site.answer("/a").replace(HERE, "photos.test"), fetcher(names)
    await one.fetch(wanted(url), hold())
    await one.fetch(wanted(url), hold())
    assert names.asked == ["photos.test", "photos.test"]


async def test_a_name_that_turns_between_redirects_is_judged_again(site, internal, fetcher) -> None:
    onward = internal.url("/secret", "turning.test")
    url = site.answer("/a", status=302, Location=onward).replace(HERE, "turning.test")
    assert await refusal(fetcher(Names(turning_test=[[HERE], [INTERNAL]])), url) == UNREACHABLE
    assert (len(site.seen), internal.seen) == (1, [])


async def test_of_several_addresses_the_allowed_one_is_used(site, internal, fetcher) -> None:
    url = site.answer("/a").replace(HERE, "mixed.test")
    assert url in await fetcher(Names(mixed_test=[[INTERNAL, HERE]])).fetch(wanted(url), hold())
    assert internal.seen == []


async def test_an_allowed_name_opens_what_it_resolves_to_and_nothing_else(internal, fetcher) -> None:
    one = fetcher(Names(ours_test=[[INTERNAL]], other_test=[[INTERNAL]]), allow_hosts=["ours.test"])
    url = internal.url("/secret", "ours.test")
    assert url in await one.fetch(wanted(url), hold())
    assert await refusal(one, internal.url("/secret", "other.test")) == UNREACHABLE
    assert await refusal(one, internal.url("/secret")) == UNREACHABLE
    assert len(internal.seen) == 1


# -------------------------------------------------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed(site, fetcher, status) -> None:
    site.answer("/b", JPEG)
    url = site.answer("/a", status=status, Location="b")
    assert (await fetcher().fetch(wanted(url), hold()))[url].mime_type == "image/jpeg"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        pytest.param("http://127.0.0.2:{port}/secret", UNREACHABLE, id="to an internal address"),
        pytest.param("http://inside.test:{port}/secret", UNREACHABLE, id="to a name of an internal address"),
        pytest.param("http://0x7f000002:{port}/secret", UNREACHABLE, id="to an internal address in hexadecimal"),
        pytest.param("http://169.254.169.254/latest/meta-data/", UNREACHABLE, id="to metadata"),
        pytest.param("file:///etc/passwd", "its URL must begin with https:// or http://", id="to a file"),
        pytest.param("http://u:p@127.0.0.1/", "its URL must not hold a user name or password", id="with a password"),
    ],
)
async def test_a_redirect_leads_no_further_than_a_url_would(site, internal, fetcher, location, reason) -> None:
    onward = location.format(port=internal.url("").rpartition(":")[2])
    url = site.answer("/a", status=302, Location=onward)
    assert await refusal(fetcher(Names(inside_test=[[INTERNAL]])), url) == reason
    assert internal.seen == []


async def test_redirects_are_counted(site, fetcher) -> None:
    urls = [site.answer(f"/{left}", status=302, Location=f"/{left - 1}") for left in range(1, 4)]
    site.answer("/0")
    assert urls[1] in await fetcher(max_redirects=2).fetch(wanted(urls[1]), hold())
    reason = "its server redirects more than images.max_redirects = 2 times"
    assert await refusal(fetcher(max_redirects=2), urls[2]) == reason


async def test_a_redirect_loop_ends(site, fetcher) -> None:
    assert "images.max_redirects = 3" in await refusal(fetcher(), site.answer("/a", status=307, Location="/a"))
    assert len(site.seen) == 4


async def test_no_redirect_is_followed_when_none_is_allowed(site, fetcher) -> None:
    url = site.answer("/a", status=302, Location="/b")
    assert "images.max_redirects = 0" in await refusal(fetcher(max_redirects=0), url)
    assert len(site.seen) == 1


# ------------------------------------------------------------------------------------------------------------- time


class Gate:
    """A handler that holds its requests until it is opened, and counts them."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside = self.most = self.left = 0

    async def __call__(self, _request: web.Request) -> web.StreamResponse:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
            return web.Response(body=PNG)
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.inside -= 1


async def test_a_few_images_are_fetched_together(site, fetcher) -> None:
    gate = Gate()
    urls = [site.handle(f"/{number}", gate) for number in range(9)]
    async with asyncio.TaskGroup() as group:
        work = group.create_task(fetcher().fetch(wanted(*urls), hold()))
        await soon(lambda: gate.inside == 4)
        await asyncio.sleep(0.02)
        gate.open.set()
    assert list(work.result()) == urls
    assert gate.most == 4


async def test_a_slow_server_uses_up_the_time(site, fetcher) -> None:
    url = site.handle("/a", Gate())
    assert await refusal(fetcher(timeout=0.1), url) == "it did not arrive within images.timeout = 0.1 s"


async def test_a_trickle_uses_up_the_time_of_all_images(site, fetcher) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(PNG[:8])
            await asyncio.sleep(0.01)

    loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    urls = [site.handle(f"/{number}", trickle) for number in range(6)]  # two wait for a hand, and wait no longer
    with pytest.raises(ClientFault, match=r"images\.timeout = 0\.2 s"):
        await fetcher(timeout=0.2).fetch(wanted(*urls), hold())
    assert loop.time() - began == pytest.approx(0.2, abs=0.1)


async def test_the_first_failure_ends_the_others(site, fetcher) -> None:
    gate = Gate()
    slow = site.handle("/slow", gate)

    async def gone(_request: web.Request) -> web.Response:
        await soon(lambda: gate.inside == 1)
        return web.Response(status=410)

    reason = await refusal(fetcher(), slow, site.handle("/gone", gone), part="messages[0].content[2]")
    assert reason == "its server answered with status 410"
    await soon(lambda: gate.left == 1)


async def test_a_client_that_leaves_ends_its_fetches(site, fetcher) -> None:
    gate = Gate()
    urls = [site.handle(f"/{number}", gate) for number in range(3)]
    leaving = asyncio.get_running_loop().create_task(fetcher().fetch(wanted(*urls), hold()))
    await soon(lambda: gate.inside == 3)
    leaving.cancel()
    await soon(lambda: gate.left == 3)
    assert leaving.cancelled()


async def test_a_fetcher_that_was_closed_opens_again(site, fetcher) -> None:
    url = site.answer("/a")
    one = fetcher()
    assert url in await one.fetch(wanted(url), hold())
    await one.close()
    await one.close()
    assert url in await one.fetch(wanted(url), hold())


async def test_names_are_looked_up_in_threads_of_their_own(site, fetcher, monkeypatch) -> None:
    asked: list[str] = []

    def look(*arguments, **options):
        asked.append(threading.current_thread().name)
        return getaddrinfo(*arguments, **options)

    getaddrinfo = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", look)
    url, one = site.answer("/a").replace(HERE, "localhost"), fetcher(allow_hosts=["localhost"])
    assert url in await one.fetch(wanted(url), hold())
    assert asked == ["image-lookup"]


async def test_one_callers_slow_images_leave_connections_to_others(site, fetcher, monkeypatch) -> None:
    monkeypatch.setattr("gemproxy.fetch.fetcher._CONNECTIONS_EACH", 8)
    gate, one = Gate(), fetcher()
    slow, quick = [site.handle(f"/{number}", gate) for number in range(4)], site.answer("/quick")
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(one.fetch(wanted(*slow), hold("slow")))
        await soon(lambda: gate.inside == 8)
        assert quick in await one.fetch(wanted(quick), hold("other"))
        assert gate.most == 8
        gate.open.set()


@pytest.mark.parametrize("lost", ["peername", "sockname"])
async def test_a_connection_that_is_reset_at_once_is_a_fault(site, fetcher, monkeypatch, lost) -> None:
    class Reset(asyncio.BaseTransport):
        def get_extra_info(self, name, default=None):
            return default if name == lost else (HERE, 80)

    check = Sessions._check_ends
    monkeypatch.setattr(Sessions, "_check_ends", lambda self, named, _: check(self, named, Reset()))
    assert await refusal(fetcher(), site.url("/a.png")) == UNREACHABLE


async def test_look_ups_are_made_for_the_caller(fetcher) -> None:
    class Asked(Names):
        async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
            callers.append(CALLER.get())
            return await super().resolve(host, port, family)

    callers: list[str] = []
    one = fetcher(Asked())
    for caller in ("one", "other"):
        with pytest.raises(ClientFault):
            await one.fetch(wanted("http://nowhere.test/"), hold(caller))
    assert callers == ["one", "other"]
    assert CALLER.get() == "", "nothing is left behind in whoever asked"


async def test_closing_waits_for_what_is_under_way(site, fetcher) -> None:
    gate, one = Gate(), fetcher()
    site.answer("/2")
    urls = [site.handle("/1", gate), site.answer("/redirect", status=302, Location="/2")]
    async with asyncio.TaskGroup() as group:
        work = [group.create_task(one.fetch(wanted(url), hold())) for url in urls]
        await soon(lambda: gate.inside == 1 and work[1].done())
        closing = group.create_task(one.close())
        await asyncio.sleep(0.02)
        assert not closing.done()
        gate.open.set()
    assert [list(task.result()) for task in work] == [[url] for url in urls]


async def test_closing_waits_no_longer_than_images_may_take(site, fetcher) -> None:
    gate, one = Gate(), fetcher(timeout=0.1)
    async with asyncio.TaskGroup() as group:
        work = group.create_task(refusal(one, site.handle("/a", gate)))
        await soon(lambda: gate.inside == 1)
        async with asyncio.timeout(5):
            await one.close()
    assert "images.timeout" in work.result()


async def test_a_client_that_left_does_not_hold_up_closing(site, fetcher) -> None:
    gate, one = Gate(), fetcher(timeout=60)
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.fetch(wanted(site.handle("/a", gate)), hold()), 0.05)
        await one.close()


# ---------------------------------------------------------------------------------------------------- what is kept


async def test_an_image_is_held_once_as_it_is_sent(fetcher) -> None:
    """Bytes, their base64 and its text were three and a half times an image."""
    size, piece = 6_000_001, PNG * 60

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, size, len(piece)):
            await response.write(piece[: size - start])
        return response

    site = await Site().start(HERE)
    url, one = site.handle("/a", large), fetcher()
    await one.fetch(wanted(url), hold())  # so that the interpreter knows its way
    tracemalloc.start()
    try:
        found = await one.fetch(wanted(url), hold())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        await site.close()
    assert base64.b64decode(found[url].data) == (piece * (size // len(piece) + 1))[:size]
    assert peak < 1.3 * len(found[url].data)


async def test_a_fault_keeps_no_half_read_image_alive(site, fetcher) -> None:
    with pytest.raises(ClientFault) as caught:
        await fetcher(max_bytes=10).fetch(wanted(site.answer("/a")), hold())
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


async def test_the_log_names_the_part_and_never_the_url(site, fetcher, caplog) -> None:
    caplog.set_level(logging.DEBUG, "gemproxy")
    await refusal(fetcher(allow_hosts=[]), site.answer("/private-name"))
    await refusal(fetcher(Names()), "http://nowhere.test/private-name")
    assert f"{PART} not fetched: Unfetchable, NoneType" in caplog.text
    assert f"{PART} not fetched: ClientConnectorDNSError, gaierror" in caplog.text
    assert "private-name" not in caplog.text
    assert "nowhere.test" not in caplog.text
