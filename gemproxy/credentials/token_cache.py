"""(edge) Keeps the access token of one credential fresh, with a single refresh at a time however many ask.

In: a function that fetches a token. Out: tokens that still live. A token near its end is still given while its
successor is fetched; a dead one is waited for. One that the upstream refused is given to nobody any more. Who is
cancelled while waiting takes nobody else's refresh away.
Must not know how tokens are made or what a refusal means.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Container
from typing import Protocol

from gemproxy.credentials.google_auth import Access
from gemproxy.credentials.token_errors import TokenRefused

log = logging.getLogger(__name__)

REFRESH_MARGIN = 300.0  # seconds before its end at which a token's successor is fetched (docs/protocol.md 2.6)
EXPIRY_MARGIN = 10.0  # seconds; a token with less left may die on its way to Google
REMEMBERED_REFUSALS = 16  # refused tokens; whoever holds one has asked with it before so many others were revoked
BACKOFF = 15.0  # seconds between early refreshes, and before a refresh that failed is tried again


class Fetch(Protocol):
    """Returns a token that is none of ``refused``, which may grow meanwhile; ``fresh``: not one that is at hand."""

    def __call__(self, refused: Container[str], *, fresh: bool) -> Awaitable[Access]: ...


class TokenCache:
    """The token of one credential."""

    def __init__(self, name: str, fetch: Fetch, clock: Callable[[], float]) -> None:
        self.name = name
        self.access: Access | None = None
        self._fetch = fetch
        self._clock = clock
        self._task: asyncio.Task[Access] | None = None
        self._not_before = 0.0
        self._refused: deque[str] = deque(maxlen=REMEMBERED_REFUSALS)

    async def get(self) -> Access:
        """Return a living token; raises what ``fetch`` raises when there is none."""
        return self.at_hand() or await self._wait()

    def at_hand(self) -> Access | None:
        """Return a living token if there is one; near its end its successor is fetched meanwhile."""
        access, left = self.access, self.left()
        if access is None or left <= EXPIRY_MARGIN:
            return None
        if left <= REFRESH_MARGIN and self._clock() >= self._not_before:
            self._not_before = self._clock() + BACKOFF  # a new token may be as short-lived as the old
            _ = self._start()  # nobody waits for it
        return access

    def refuse(self, secret: str) -> None:
        """Remember a token that the upstream would not take: state or file may still hold it."""
        if secret not in self._refused:
            self._refused.append(secret)
        if self.access is not None and self.access.secret == secret:
            self.access = None

    async def renew(self, refused: str) -> Access:
        """Return a token other than ``refused``, which the upstream would not take; the one newly fetched, if any."""
        self.refuse(refused)
        return await self.get()

    async def anew(self) -> Access:
        """Return a token fetched now, whatever is at hand."""
        if self._task is not None:  # it may take what is at hand
            await asyncio.wait((self._task,))
        return await self._wait(fresh=True)

    def left(self) -> float:
        """Return the seconds that the token held still lives; 0 when there is none."""
        return 0.0 if self.access is None else max(0.0, self.access.expiry - self._clock())

    def close(self) -> None:
        """Stop fetching."""
        if self._task is not None:
            self._task.cancel()

    async def _wait(self, *, fresh: bool = False) -> Access:
        # Shielded: the refresh belongs to all who wait, so one who leaves must not cancel it.
        return await asyncio.shield(self._start(fresh=fresh))

    def _start(self, *, fresh: bool = False) -> asyncio.Task[Access]:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(fresh), name=f"token of {self.name}")
            self._task.add_done_callback(self._done)
        return self._task

    async def _run(self, fresh: bool) -> Access:
        access = await self._fetch(self._refused, fresh=fresh)
        if access.secret in self._refused:  # since the fetch began
            access = await self._fetch(self._refused, fresh=fresh)
        self.access = access
        return access

    def _done(self, task: asyncio.Task[Access]) -> None:
        if self._task is task:
            self._task = None
        if task.cancelled():
            return
        fault = task.exception()  # looked at here too: an early refresh has nobody who waits
        if fault is not None and self.left() > EXPIRY_MARGIN:
            level = logging.INFO if isinstance(fault, TokenRefused) and fault.known else logging.WARNING
            log.log(level, "credential %s: early token refresh failed (%s); the old token is used", self.name, fault)
