"""(edge) Sessions whose connections are judged: each leads to an address that is public, or that the operator allows.

In: a target whose URL was judged. Out: a session to get it with, which sends nothing that we know (no cookies, no
credentials, no netrc). Must not reach what is not public, whatever a name resolves to: every address is judged when
it is connected to, and again by both ends of the connection.

Behind a proxy (``HTTPS_PROXY``) nobody here sees which address a name leads to: so only hosts that the operator wrote
down are fetched through it.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from aiohttp.abc import AbstractResolver

from gemproxy.fetch.resolver import Lookup
from gemproxy.networks import Allowed, Target, Unfetchable
from gemproxy.proxies import Proxies
from gemproxy.transport.connections import open_connector
from gemproxy.transport.tunnel import request_class

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class Sessions:
    """Sessions of one fetcher, opened on the first use, and again after ``close``."""

    def __init__(self, allowed: Allowed, user_agent: str, resolver: AbstractResolver | None, between: Proxies) -> None:
        """``resolver`` is the caller's to close; None: one of our own. ``between`` is the proxy, if there is one."""
        self._allowed = allowed
        self._between = between
        self._headers = {"User-Agent": user_agent, "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}
        self._resolver = resolver
        self._lookup: Lookup | None = None
        # By ``Target.named`` and whether a proxy stands between: each judges the addresses of connections differently.
        self._sessions: dict[tuple[bool, bool], ClientSession] = {}

    def to(self, place: Target) -> ClientSession:
        """Return the session to get a target with; raises ``Unfetchable`` for what may not come through a proxy."""
        through = self._between.through(place.url)
        if through and not self._allowed.wrote(place.url.host or ""):
            raise Unfetchable("it would come through a proxy (HTTPS_PROXY), which only images.allow_hosts do")
        session = self._sessions.get((place.named, through))
        if session is None:
            session = self._sessions[place.named, through] = self._open(place.named, through)
        return session

    async def close(self) -> None:
        """Close all connections."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            await lookup.close()

    def _open(self, named: bool, through: bool) -> ClientSession:
        if self._resolver is None and self._lookup is None:
            self._lookup = Lookup()
        connector = open_connector(
            None if through else partial(self._check_ends, named),
            resolver=self._resolver or self._lookup,
            use_dns_cache=False,
            force_close=True,  # a kept connection would be one that is judged no more
            limit=0,  # the fetcher counts them, and shares them fairly
            socket_factory=None if through else partial(self._socket, named),
        )
        return ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None),  # one limit for all images of a request instead
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
