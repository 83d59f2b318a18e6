"""(edge) What keeps connections from coming about, told apart; handshakes with hosts that are out, until one succeeds.

In: what aiohttp raised, and the news of every connection that was tried (``connections``). Out: an ``Obstacle``, log
lines, and the state that ``/ready`` and the metrics show (``upstream/reach``). A handshake asks for nothing and spends
no quota.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import ssl
from collections.abc import Callable, Collection

import aiohttp
from msgspec.structs import replace
from yarl import URL

from gemproxy.descriptors import NONE_LEFT, SHORTAGES, is_shortage
from gemproxy.transport.connections import open_connector
from gemproxy.transport.resolver import Resolver
from gemproxy.upstream.reach import QUIET_TIME, HostView, Obstacle, Reach, Reason
from gemproxy.upstream.skew import Skew

log = logging.getLogger("gemproxy")
NOT_YET_VALID = 9  # X509_V_ERR_CERT_NOT_YET_VALID of OpenSSL; so are the next, of which only the operator can judge
_HINTS = {10: ", or this machine's clock is ahead"} | dict.fromkeys(
    (18, 19, 20, 21), "; SSL_CERT_FILE names further authorities"
)
PROXY_DOWN = "the proxy of HTTPS_PROXY cannot be reached"
_PLAIN_WORDS = {
    errno.ENETUNREACH: "no network leads to it",
    errno.EHOSTUNREACH: "no network leads to it",
    errno.ECONNRESET: "the connection is reset",
}
OUR_ERRNOS = SHORTAGES | {errno.EADDRNOTAVAIL}  # this machine is full


def obstacle_of(fault: BaseException) -> Obstacle | None:
    """Return what a failure to connect means; None for one that says nothing of the host."""
    if isinstance(fault, aiohttp.ClientConnectorDNSError):
        return Obstacle(Reason.DNS, fault.os_error.strerror or "")
    if isinstance(fault, aiohttp.ClientHttpProxyError):
        return Obstacle(Reason.REFUSED, "", f"the proxy of HTTPS_PROXY refused with status {fault.status}")
    inner = _inner(fault)
    if isinstance(inner, ssl.SSLError | ssl.CertificateError):
        return _of_tls(inner)
    if isinstance(fault, aiohttp.ConnectionTimeoutError) or (isinstance(inner, TimeoutError) and inner is not fault):
        return Obstacle(Reason.TIMEOUT)
    if isinstance(fault, aiohttp.ClientConnectorError) and isinstance(inner, OSError) and inner.errno not in OUR_ERRNOS:
        found = _of_system(inner)
        return replace(found, plain=PROXY_DOWN) if isinstance(fault, aiohttp.ClientProxyConnectionError) else found
    return None


def why(fault: BaseException) -> str:
    """Return why there was no answer, for the operator."""
    if is_shortage(fault):
        return NONE_LEFT.message
    obstacle = obstacle_of(fault)
    return obstacle.words if obstacle else type(fault).__name__


def _inner(fault: BaseException) -> BaseException:
    if isinstance(fault, aiohttp.ClientConnectorCertificateError):
        return fault.certificate_error
    return fault.os_error if isinstance(fault, aiohttp.ClientConnectorError) else fault


def _of_tls(fault: Exception) -> Obstacle:
    if not isinstance(fault, ssl.SSLCertVerificationError):
        return Obstacle(Reason.TLS, getattr(fault, "reason", "") or "")
    if fault.verify_code == NOT_YET_VALID:
        return Obstacle(Reason.CLOCK)
    hint = _HINTS.get(fault.verify_code, "")
    return Obstacle(Reason.TLS, f"{fault.verify_message}{hint}", "the certificate does not verify")


def _of_system(fault: OSError) -> Obstacle:
    """Return what the system's own words make of it; aiohttp's text names an address."""
    if isinstance(fault, ConnectionResetError) and fault.errno is None:  # asyncio's own word for an end in TLS
        return Obstacle(Reason.TLS, "", "the connection is closed during the TLS handshake")
    number = fault.errno or 0
    return Obstacle(Reason.REFUSED, os.strerror(number) if number else "", _PLAIN_WORDS.get(number, ""))


class Lookout:
    """Hears of all connections to upstreams, and what time it is there; ``clock`` in seconds, steady, ``wall`` not."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.reach = Reach()
        self.skew = Skew(wall, clock)
        self.skew.on_change = self._clock_changed
        self.on_return: Callable[[], None] | None = None  # hears that a host is reached again
        self.resolver = Resolver()  # for all: what a silent name server is asked holds a thread until it ends by itself
        self._clock = clock
        self._clock_told = -math.inf  # when the log had it last that the wall clock is wrong
        self._clock_heard = False  # whether it has it that this is so now

    async def close(self) -> None:
        """End the look-ups that are under way."""
        await self.resolver.close()

    def views(self) -> list[HostView]:
        """Return every host that could not be reached last."""
        return self.reach.views(self._clock())

    def hear(self, url: URL, fault: BaseException | None) -> None:
        """Note that a connection stands, or why it does not."""
        origin = origin_of(url)
        if fault is None:
            self._reached(origin)
        elif (obstacle := obstacle_of(fault)) is not None:
            name = _name(url)
            if obstacle.reason is Reason.DNS and getattr(fault, "host", url.host) != url.host:
                obstacle = replace(obstacle, plain="the name of the proxy (HTTPS_PROXY) does not resolve")
            if self.reach.failed(origin, name, obstacle, self._clock()):
                log.warning("cannot reach %s: %s", name, obstacle.words)

    def _reached(self, origin: str) -> None:
        before = self.reach.reached(origin)
        if before is not None and self.on_return is not None:
            self.on_return()
        if before is not None and before.heard:
            lasted = self._clock() - before.since
            log.warning("%s is reached again: %d attempts failed in %.0f s", before.name, before.failures, lasted)

    def _clock_changed(self) -> None:
        """Tell of the clock, though not of each word where two contradict each other (Google's, and a proxy's)."""
        now, words = self._clock(), self.skew.words
        if words and now - self._clock_told >= QUIET_TIME:
            self._clock_told, self._clock_heard = now, True
            log.warning("%s", words)
        elif not words and self._clock_heard:
            self._clock_heard = False
            log.warning("this machine's clock is right again")

    async def knock(
        self,
        needed: Callable[[], Collection[str]],
        patience: float,
        kind: type[aiohttp.ClientRequest] = aiohttp.ClientRequest,
    ) -> None:
        """Try hosts that are out once; ``patience`` in seconds.

        ``needed`` returns the origins that credentials need now: no other host is asked. ``kind`` knows the way
        (``tunnel``).
        """
        out = [origin for origin in needed() if self.reach.out(origin)]
        if not out:
            return
        connector = open_connector(
            hear=self.hear, resolver=self.resolver, limit=0, force_close=True, use_dns_cache=False
        )
        async with aiohttp.ClientSession(connector=connector) as session:
            tries = (_shake_hands(session, kind, origin, patience) for origin in out)
            for fault in await asyncio.gather(*tries, return_exceptions=True):
                if fault is not None:  # a bug, which must not keep the other hosts out
                    raise fault


async def _shake_hands(
    session: aiohttp.ClientSession, kind: type[aiohttp.ClientRequest], origin: str, patience: float
) -> None:
    """Open a connection and close it again; what comes of it the connector tells."""
    connector = session.connector
    assert connector is not None
    request = kind("GET", URL(origin), loop=asyncio.get_running_loop(), session=session)
    try:
        connection = await connector.connect(request, [], aiohttp.ClientTimeout(sock_connect=patience))
    except (aiohttp.ClientError, OSError):
        return
    connection.close()


def origin_of(url: URL | str) -> str:
    """Return what a host is known by; "" for what is no address."""
    try:
        return str(URL(url).origin())
    except ValueError:
        return ""


def _name(url: URL) -> str:
    return url.host_port_subcomponent or ""  # without the port where it is the usual one
