"""(edge) Fetches the http(s) images that a request names, so that Gemini gets them inline (SPEC 2, PROTOCOL 4.4).

In: addresses that strangers chose, each with the part that names it. Out: their bytes and types, or ``ClientFault``
400 ``invalid_image_url`` naming the part. Must not: reach what is not public (``server.addresses`` judges every URL,
every redirect and every address connected to), send anything that we know (no cookies, no credentials, no netrc, a
session of its own), take more time or memory than the policy says, or leave an image out.

Behind a proxy (``HTTPS_PROXY``) nobody here sees which address a name leads to: so only hosts that the operator wrote
down are fetched through it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from binascii import b2a_base64
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from functools import partial

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientHttpProxyError,
    ClientResponse,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
)
from aiohttp.abc import AbstractResolver
from msgspec import Struct

from gemproxy import __version__, descriptors, errors
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.converter.gemini.mime import sniff
from gemproxy.errors import ClientFault, Overload
from gemproxy.fetch.interfaces import Interfaces
from gemproxy.fetch.resolver import CALLER, Lookup
from gemproxy.fetch.shares import Shares
from gemproxy.load.budget import Hold
from gemproxy.networks import UNREACHABLE, Address, Allowed, Target, Unfetchable, redirected, target
from gemproxy.proxies import DIRECT, Proxies
from gemproxy.transport.client import packed
from gemproxy.transport.connections import open_connector
from gemproxy.transport.tunnel import request_class
from gemproxy.wire.gemini import Blob

log = logging.getLogger("gemproxy.server")

USER_AGENT = f"gemproxy/{__version__}"
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]

_AT_ONCE = 4  # images of one request that are under way together
_CONNECTIONS = 256  # in all; more wait, within images.timeout
_SHARE = 64  # of one caller
_TELLING = 64  # bytes at the beginning that tell what a file is
_REDIRECTS = (301, 302, 303, 307, 308)
_INLINE = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "application/pdf")  # PROTOCOL 1.3
_DECLARED = re.compile(r"(?:text|audio|video)/[a-z0-9][a-z0-9.+-]{0,63}|application/json")
_HTML = (b"<!doctype html", b"<html")


class ImagePolicy(Struct, frozen=True):
    """``[images]``: what may be fetched, and how much of it."""

    fetch: bool = True
    max_bytes: int = 20_971_520  # per image
    max_count: int = 16  # per request; an image named twice counts twice, since it is sent twice
    timeout: float = 15.0  # seconds, all images of a request together
    max_redirects: int = 3
    allow_hosts: Sequence[str] = ()
    max_total: int = 75_000_000  # bytes per request; in base64 the 100 MB that Google takes inline (PROTOCOL 1.3)


class ImageFetcher:
    """Fetches images over connections of its own; opens on the first use, and again after ``close``."""

    def __init__(
        self,
        policy: ImagePolicy,
        user_agent: str = USER_AGENT,
        *,
        resolver: AbstractResolver | None = None,
        own: Container[Address] | None = None,
        between: Proxies = DIRECT,
    ) -> None:
        """Raise ``ConfigFault`` for an ``allow_hosts`` that cannot be read. A ``resolver`` is the caller's to close.

        ``own`` are this machine's addresses; without it the kernel is asked. ``between`` is the proxy, if there is one.
        """
        self._policy = policy
        self._between = between
        self._allowed = Allowed(policy.allow_hosts, Interfaces(time.monotonic) if own is None else own)
        self._places = Shares(_CONNECTIONS, _SHARE)
        self._headers = {"User-Agent": user_agent, "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}
        self._resolver = resolver
        self._lookup: Lookup | None = None
        # By ``Target.named`` and whether a proxy stands between: each judges the addresses of connections differently.
        self._sessions: dict[tuple[bool, bool], ClientSession] = {}
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def most(self) -> int:
        """How many images a request may name."""
        return self._policy.max_count

    async def fetch(self, wanted: Sequence[RemoteImage], hold: Hold) -> dict[str, Blob]:
        """Return every image by its URL, each fetched once; the first failure ends the others.

        ``hold`` counts their bytes and tells who asks: nobody takes more than a share of the connections and look-ups.
        Raises ``ClientFault`` 400 ``invalid_image_url``, and ``Overload``.
        """
        if not wanted:
            return {}
        self._admit(wanted)
        uses = Counter(image.url for image in wanted)
        parts = {image.url: image.param for image in reversed(wanted)}  # the first part that names an image
        self._under_way += 1
        self._idle.clear()
        try:
            outcome = await self._gather(_Errand(self._policy, hold), uses, parts)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Close the connections as soon as what is under way has ended, after ``policy.timeout`` at the latest.

        A reload replaces the fetcher; a client whose image is being fetched must not hear of it.
        """
        await self._idle.wait()
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            await lookup.close()

    def _admit(self, wanted: Sequence[RemoteImage]) -> None:
        policy = self._policy
        if not policy.fetch:
            raise _fault(wanted[0].param, "images are not fetched here (images.fetch): send it as a data: URL")
        if len(wanted) > policy.max_count:
            surplus = wanted[policy.max_count]
            raise _fault(surplus.param, f"the request names more than images.max_count = {policy.max_count} images")

    # Faults are handed back and raised further out, since a traceback keeps the frames it went through alive, and with
    # them half-read images: megabytes, until the garbage collector comes by.

    async def _gather(
        self, errand: _Errand, uses: Mapping[str, int], parts: Mapping[str, str]
    ) -> dict[str, Blob] | Exception:
        """Return all images, or the first fault."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {url: group.create_task(self._bring(errand, url, parts[url], uses[url])) for url in uses}
        except ExceptionGroup as several:
            return several.exceptions[0]
        return {url: task.result() for url, task in tasks.items()}

    async def _bring(self, errand: _Errand, url: str, param: str, uses: int) -> Blob:
        outcome = await self._try(errand, url, param, uses)
        if isinstance(outcome, str):
            raise _fault(param, outcome)
        if isinstance(outcome, Overload):
            raise outcome
        return outcome

    async def _try(self, errand: _Errand, url: str, param: str, uses: int) -> Blob | str | Overload:
        """Return the image, or why there is none."""
        try:
            CALLER.set(errand.caller)
            async with asyncio.timeout_at(errand.until), errand.hands, self._places.place(errand.caller):
                return await self._get(errand, url, uses)
        except Overload as fault:
            errors.forget_way(fault)
            return fault
        except (Unfetchable, ClientError, OSError) as error:
            if descriptors.is_shortage(error):
                return descriptors.FEW
            # names of types only: a URL is part of the prompt, and may hold a signature
            log.debug("%s not fetched: %s, %s", param, type(error).__name__, type(error.__cause__).__name__)
            return self._reason(error)

    def _reason(self, error: Exception) -> str:
        match error:
            case Unfetchable():
                return str(error)
            case TimeoutError():
                return f"it did not arrive within images.timeout = {self._policy.timeout:g} s"
            case ClientSSLError():
                return "there is no trusted TLS connection to its server"
            case ClientConnectorError() | ClientHttpProxyError():
                return UNREACHABLE
            case _:
                return "its server broke off"

    async def _get(self, errand: _Errand, url: str, uses: int) -> Blob:
        place = target(url, self._allowed)
        for _ in range(self._policy.max_redirects + 1):
            async with self._session(place).get(place.url, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    return await self._read(errand, response, uses)
                place = redirected(place, response.headers.get("Location"), self._allowed)
        raise Unfetchable(f"its server redirects more than images.max_redirects = {self._policy.max_redirects} times")

    async def _read(self, errand: _Errand, response: ClientResponse, uses: int) -> Blob:
        if response.status != 200:
            raise Unfetchable(f"its server answered with status {response.status}")
        if packed(response.headers):
            raise Unfetchable("its server compressed it although asked not to")
        self._check_size(response.content_length or 0)
        size, beginning, rest, text = 0, b"", b"", ""
        try:
            async for piece in response.content.iter_any():
                size += len(piece)
                self._check_size(size)
                errand.take(len(piece), uses)
                beginning = beginning if len(beginning) >= _TELLING else beginning + piece[:_TELLING]
                encoded, rest = _base64(rest + piece)
                text += encoded  # CPython lets a local text grow in its place: the image is here once, as it is sent
            if not size:
                raise Unfetchable("it is empty")
            text += b2a_base64(rest, newline=False).decode()
            return Blob(media_type(beginning, response.headers.get("Content-Type", "")), text)
        finally:
            text = ""  # or a failure, whose traceback holds this frame, would keep half an image alive

    def _check_size(self, size: int) -> None:
        if size > self._policy.max_bytes:
            raise Unfetchable(f"it is larger than images.max_bytes = {self._policy.max_bytes}")

    def _session(self, place: Target) -> ClientSession:
        through = self._between.through(place.url)
        if through and not self._allowed.wrote(place.url.host or ""):
            raise Unfetchable("it would come through a proxy (HTTPS_PROXY), which only images.allow_hosts do")
        session = self._sessions.get((place.named, through))
        if session is None:
            session = self._sessions[place.named, through] = self._open(place.named, through)
        return session

    def _open(self, named: bool, through: bool) -> ClientSession:
        if self._resolver is None and self._lookup is None:
            self._lookup = Lookup()
        connector = open_connector(
            None if through else partial(self._check_ends, named),
            resolver=self._resolver or self._lookup,
            use_dns_cache=False,
            force_close=True,  # a kept connection would be one that is judged no more
            limit=0,  # ``_places`` instead, which are shared fairly
            socket_factory=None if through else partial(self._socket, named),
        )
        return ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None),  # one limit for all images instead, in ``_bring``
            auto_decompress=False,
            trust_env=False,
            request_class=request_class(self._between),
        )

    def _socket(self, named: bool, info: AddressInfo) -> socket.socket:
        """Return a socket for the address that aiohttp is about to connect to; ``PermissionError`` if it may not."""
        family, kind, protocol, _, address = info
        if not self._allowed.opens(str(address[0]), named=named):
            raise PermissionError("not a public address")
        return socket.socket(family, kind, protocol)

    def _check_ends(self, named: bool, transport: asyncio.BaseTransport) -> None:
        """Raise ``PermissionError`` if a connection leads to this machine itself: both its ends have one address;
        ``ConnectionResetError`` if it is lost."""
        ends = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if None in ends:  # it was reset before anybody looked
            raise ConnectionResetError("the connection was lost")
        peer, here = (str(end[0]) for end in ends)
        if peer == here and not self._allowed.excepts(peer, named=named):
            raise PermissionError("this machine's own address")


class _Errand:
    """What the images of one request share: who asks, time, room, and hands to fetch with."""

    __slots__ = ("_hold", "_max_total", "_room", "_taken", "hands", "until")

    def __init__(self, policy: ImagePolicy, hold: Hold) -> None:
        self.until = asyncio.get_running_loop().time() + policy.timeout
        self.hands = asyncio.Semaphore(_AT_ONCE)
        self._hold = hold
        self._max_total = self._room = policy.max_total
        self._taken = 0

    @property
    def caller(self) -> str:
        """Who asks."""
        return self._hold.owner

    def take(self, size: int, uses: int) -> None:
        """Use up room; raises ``Unfetchable`` when there is none left, ``Overload`` when there is none for anybody."""
        self._room -= size * uses
        if self._room < 0:
            raise Unfetchable(f"with the images before it, it is more than the {self._max_total} bytes a request holds")
        more = size * 4 // 3 * (1 + uses)  # in base64: here, and wherever it goes on
        try:
            self._hold.more(more)
        except Overload:
            self._hold.more(-self._taken)  # at once: others may go on with it
            self._taken = 0
            raise
        self._taken += more


def _base64(data: bytes) -> tuple[str, bytes]:
    """Return what can be encoded of some bytes of many, and the one or two that wait for the next ones."""
    whole = len(data) - len(data) % 3
    return b2a_base64(memoryview(data)[:whole], newline=False).decode(), data[whole:]


def media_type(data: bytes, declared: str) -> str:
    """Return the type to send, from the bytes; ``declared`` (a Content-Type) only where bytes do not tell.

    Raises ``Unfetchable`` for what Gemini does not take inline: GIF, SVG and the like (PROTOCOL 1.3), and HTML, since
    a page in the place of an image is a log-in or an error.
    """
    beginning = data[:_TELLING]
    kind = sniff(beginning)
    if kind is None:
        kind = declared.partition(";")[0].strip().lower()
        if kind == "text/html" or beginning.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_HTML):
            raise Unfetchable("it is an HTML page")
        if not _DECLARED.fullmatch(kind):
            raise Unfetchable(f"its bytes are of no known type ({_taken()})")
    elif kind not in _INLINE and not kind.startswith(("audio/", "video/")):
        raise Unfetchable(f"it is {kind} ({_taken()})")
    return kind


def _taken() -> str:
    return f"Gemini takes {', '.join(_INLINE)}, audio, video and text"


def _fault(param: str, reason: str) -> ClientFault:
    return ClientFault(f"The image at {param} cannot be used: {reason}.", param=param, code="invalid_image_url")
