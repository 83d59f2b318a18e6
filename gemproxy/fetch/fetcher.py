"""(edge) Fetches the http(s) images that a request names, so that Gemini gets them inline (docs/protocol.md 4.4).

In: addresses that strangers chose, each with the part that names it. Out: their bytes and types, or ``ClientFault``
400 ``invalid_image_url`` naming the part. Must not: reach what is not public (``networks`` judges every URL and every
redirect, ``fetch/sessions`` every address connected to), take more time or memory than the policy says, or leave an
image out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from binascii import b2a_base64
from collections import Counter
from collections.abc import Container, Mapping, Sequence

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientHttpProxyError,
    ClientResponse,
    ClientSSLError,
)
from aiohttp.abc import AbstractResolver
from msgspec import Struct

from gemproxy import __version__, descriptors, errors
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.errors import ClientFault, Overload
from gemproxy.fetch.interfaces import Interfaces
from gemproxy.fetch.media_type import BEGINNING, media_type
from gemproxy.fetch.resolver import CALLER
from gemproxy.fetch.sessions import Sessions
from gemproxy.fetch.shares import Shares
from gemproxy.load.budget import Hold
from gemproxy.networks import UNREACHABLE, Address, Allowed, Unfetchable, redirected, target
from gemproxy.proxies import DIRECT, Proxies
from gemproxy.transport.client import packed
from gemproxy.wire.gemini import Blob

log = logging.getLogger("gemproxy.server")

USER_AGENT = f"gemproxy/{__version__}"

_IMAGES_AT_ONCE = 4  # images of one request that are under way together
_CONNECTIONS = 256  # in all; more wait, within images.timeout
_CONNECTIONS_EACH = 64  # of one caller
_REDIRECTS = (301, 302, 303, 307, 308)


class ImagePolicy(Struct, frozen=True):
    """``[images]``: what may be fetched, and how much of it."""

    fetch: bool = True
    max_bytes: int = 20_971_520  # per image
    max_count: int = 16  # per request; an image named twice counts twice, since it is sent twice
    timeout: float = 15.0  # seconds, all images of a request together
    max_redirects: int = 3
    allow_hosts: Sequence[str] = ()
    max_total: int = 75_000_000  # bytes per request; in base64 the 100 MB that Google takes (docs/protocol.md 1.3)


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
        self._allowed = Allowed(policy.allow_hosts, Interfaces(time.monotonic) if own is None else own)
        self._places = Shares(_CONNECTIONS, _CONNECTIONS_EACH)
        self._sessions = Sessions(self._allowed, user_agent, resolver, between)
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def max_count(self) -> int:
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
        await self._sessions.close()

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
                return descriptors.NONE_LEFT
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
            async with self._sessions.to(place).get(place.url, allow_redirects=False) as response:
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
                beginning = beginning if len(beginning) >= BEGINNING else beginning + piece[:BEGINNING]
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


class _Errand:
    """What the images of one request share: who asks, time, room, and hands to fetch with."""

    __slots__ = ("_hold", "_max_total", "_room", "_taken", "hands", "until")

    def __init__(self, policy: ImagePolicy, hold: Hold) -> None:
        self.until = asyncio.get_running_loop().time() + policy.timeout
        self.hands = asyncio.Semaphore(_IMAGES_AT_ONCE)
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


def _fault(param: str, reason: str) -> ClientFault:
    return ClientFault(f"The image at {param} cannot be used: {reason}.", param=param, code="invalid_image_url")
