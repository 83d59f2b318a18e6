"""(edge) What authenticates a slot: keys as they are, access tokens kept fresh, projects found.

In: credential sources as plain values, and the rooms that fetch for them. Out: ``Token`` for the dialects;
``TokenRefused`` with the verdict on the credential. Must not rest or park: the rotator does, told by the verdict.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Set
from functools import partial

import aiohttp
from msgspec import Struct

from gemproxy.credentials import token_errors
from gemproxy.credentials.google_auth import TOKEN_TIMEOUT, Access, GoogleAuth
from gemproxy.credentials.projects import Projects
from gemproxy.credentials.sources import ApiKeySource, OAuthSource, ServiceAccountSource, Source
from gemproxy.credentials.token_cache import BACKOFF, TokenCache
from gemproxy.credentials.token_errors import TokenRefused
from gemproxy.credentials.token_fetch import TokenFetcher
from gemproxy.state.store import State
from gemproxy.upstream.dialect import Action, Scope, Token
from gemproxy.upstream.skew import Skew

__all__ = ["TokenRefused", "TokenView", "Tokens"]
log = logging.getLogger(__name__)

SLOW_FETCH = 4.0  # seconds after which the operator must know that a token does not come: mostly it takes 0.2


class TokenView(Struct, frozen=True):
    """``/v1/debug/cache``: whether a token is at hand. ``seconds_left`` None: it does not expire, or there is none."""

    cached: bool
    seconds_left: float | None = None


class Account(Struct, eq=False):
    """A credential whose tokens are fetched. ``fingerprint``: whose it was when it was configured."""

    source: OAuthSource | ServiceAccountSource
    fingerprint: str
    cache: TokenCache
    trouble: TokenRefused | None = None  # why it got no token last
    vain_since: float = -math.inf  # when no token was to be had for a request
    fetching: asyncio.Task[Token] | None = None  # for all who have to wait for one
    begun: float = 0.0  # when, on the loop's clock
    slow: bool = False  # the last took longer than SLOW_FETCH, and the log has it

    def in_vain(self, now: float) -> TokenRefused | None:
        """Return why it is too soon to ask again; what rests a credential is the rotator's to remember."""
        early = 0.0 <= now - self.vain_since < BACKOFF
        return self.trouble if early and self.trouble and self.trouble.verdict.scope is Scope.UPSTREAM else None


class Tokens:
    """The tokens of all credentials, by slot name. ``token_url`` "" leaves each credential file its own.

    ``fingerprints`` (``sources.fingerprint``), by slot name too, tell a new login in an old file.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        session: aiohttp.ClientSession,
        state: State,
        clock: Callable[[], float],
        projects: Projects,
        *,
        fingerprints: Mapping[str, str],
        token_url: str = "",
        patience: float = TOKEN_TIMEOUT,
        google: GoogleAuth | None = None,
        skew: Skew | None = None,
    ) -> None:
        self._google = google or GoogleAuth(session, clock, token_url=token_url, patience=patience, skew=skew)
        self._projects = projects
        self._fetcher = TokenFetcher(self._google, state, clock)
        self._clock = clock
        self._keys: dict[str, ApiKeySource] = {}
        self._accounts: dict[str, Account] = {}
        self._late: set[str] = set()
        self.replace(sources, fingerprints)

    def replace(
        self, sources: Mapping[str, Source], fingerprints: Mapping[str, str], patience: float | None = None
    ) -> None:
        """Take a new configuration; accounts that did not change keep their tokens.

        ``patience``: seconds for one token, with all tries; None: as before.
        """
        self._google.patience = self._google.patience if patience is None else patience
        self._google.forget()
        self._projects.forget()
        self._keys = {name: source for name, source in sources.items() if isinstance(source, ApiKeySource)}
        old, self._accounts = self._accounts, {}
        for name, source in sources.items():
            if isinstance(source, OAuthSource | ServiceAccountSource):
                known, fresh = old.get(name), fingerprints.get(name, "")
                if known is not None and (known.source, known.fingerprint) == (source, fresh):
                    known.trouble, self._accounts[name] = None, known
                else:
                    self._accounts[name] = self._account(name, source, fresh)
        # Requests may still wait for the tokens of the old accounts: those refreshes end by themselves.

    async def get(self, slot: str, grace: float = math.inf) -> Token:
        """Return a living token, from memory if there is one. Raises ``TokenRefused``.

        A fetch that is out for more than ``grace`` seconds is not waited for but goes on: the refusal says LATER.
        """
        if slot in self._keys:
            return Token(self._keys[slot].key)
        account = self._known(slot)
        token = self._at_hand(account)
        if token is not None:
            account.trouble = None
            return token
        if account.trouble is not None and (trouble := account.in_vain(self._clock())) is not None:
            raise trouble.again()
        return await self._in_time(slot, account, grace)

    async def refresh(self, slot: str, stale: Token, grace: float = math.inf) -> Token:
        """Return a token other than ``stale``, which the upstream refused; ``grace`` as in ``get``."""
        if slot in self._keys:
            raise token_errors.parked("key_refused")
        account = self._known(slot)
        account.cache.refuse(stale.secret)
        return self._at_hand(account) or await self._in_time(slot, account, grace)

    def without(self) -> Set[str]:
        """Return the slots whose tokens have to be waited for, as far as requests found out."""
        if not self._late:
            return self._late
        now = asyncio.get_running_loop().time(), self._clock()
        self._late = {slot for slot in self._late if self._is_late(slot, *now)}
        return self._late

    async def rediscover(self, slot: str) -> Token:
        """Return a token with the project as Code Assist names it now. Raises ``TokenRefused``."""
        if slot in self._keys:
            return Token(self._keys[slot].key)
        account = self._known(slot)
        return await self._noted(account, self._rediscovered(account))

    async def check(self, slot: str) -> Token:
        """Authenticate anew, whatever is at hand: for ``/v1/token-test``. Raises ``TokenRefused``."""
        if slot in self._keys:
            return Token(self._keys[slot].key)
        account = self._known(slot)
        return await self._noted(account, self._token(account, account.cache.anew()))

    def try_again(self) -> None:
        """Ask for tokens at once where it was in vain: a host is reached again."""
        for account in self._accounts.values():
            account.vain_since = -math.inf

    def view(self, slot: str) -> TokenView:
        """Return what is at hand for a slot."""
        account = self._accounts.get(slot)
        if account is None:
            return TokenView(slot in self._keys)
        left = account.cache.left()
        return TokenView(left > 0, round(left, 1) if left else None)

    def close(self) -> None:
        """Stop refreshing and searching."""
        for account in self._accounts.values():
            account.cache.close()
            if account.fetching is not None:
                account.fetching.cancel()
        self._projects.close()
        self._google.close()

    def _is_late(self, slot: str, now: float, wall: float) -> bool:
        account = self._accounts.get(slot)
        if account is None:
            return False
        return (account.fetching is not None and not account.fetching.done()) or account.in_vain(wall) is not None

    def _at_hand(self, account: Account) -> Token | None:
        """Return a token that needs no waiting, if there is one."""
        access = account.cache.at_hand()
        if access is None:
            return None
        if not isinstance(account.source, OAuthSource):
            return Token(access.secret, access.project, access.location)
        project = self._projects.known(access.key, access.project)
        return Token(access.secret, project) if project else None

    async def _in_time(self, slot: str, account: Account, grace: float) -> Token:
        """Wait with all others for the token of an account."""
        loop = asyncio.get_running_loop()
        if account.fetching is None or account.fetching.done():
            account.fetching, account.begun = (
                loop.create_task(self._fetched(account), name=f"token for {slot}"),
                loop.time(),
            )
            account.fetching.add_done_callback(_retrieve_exception)
        fetching, left = account.fetching, account.begun + grace - loop.time()
        if left > 0:  # who leaves takes it from nobody
            await asyncio.wait((fetching,), timeout=left if left < math.inf else None)
        if not fetching.done():
            if slot not in self._late:
                log.info("credential %s: its token takes long; others serve meanwhile where there are any", slot)
            self._late.add(slot)
            raise token_errors.slow()
        fault = fetching.exception()
        if not isinstance(fault, TokenRefused):
            return fetching.result()
        if fault.verdict.scope is Scope.UPSTREAM:
            self._late.add(slot)
        raise fault.again()

    async def _fetched(self, account: Account) -> Token:
        loop = asyncio.get_running_loop()
        telling = loop.call_later(SLOW_FETCH, _warn, account)
        try:
            token = await self._noted(account, self._token(account, account.cache.get()))
        except TokenRefused:
            account.vain_since = self._clock()
            raise
        finally:
            telling.cancel()
        if loop.time() - account.begun < SLOW_FETCH:
            account.slow = False
        return token

    def _account(self, name: str, source: OAuthSource | ServiceAccountSource, fingerprint: str) -> Account:
        return Account(source, fingerprint, TokenCache(name, partial(self._fetcher.fetch, source), self._clock))

    def _known(self, slot: str) -> Account:
        if slot not in self._accounts:
            raise token_errors.removed()
        return self._accounts[slot]

    async def _token(self, account: Account, getting: Awaitable[Access]) -> Token:
        access = await getting
        if not isinstance(account.source, OAuthSource):
            return Token(access.secret, access.project, access.location)
        try:
            return await self._placed(access)
        except TokenRefused as refused:
            if refused.verdict.action is not Action.REFRESH:
                raise
        return await self._placed(await account.cache.renew(access.secret))

    async def _rediscovered(self, account: Account) -> Token:
        if not isinstance(account.source, OAuthSource):
            return await self._token(account, account.cache.get())
        access = await account.cache.get()
        return Token(access.secret, await self._projects.search(access.key, Token(access.secret, access.project)))

    async def _placed(self, access: Access) -> Token:
        return Token(access.secret, await self._projects.find(access.key, Token(access.secret, access.project)))

    async def _noted(self, account: Account, work: Awaitable[Token]) -> Token:
        """Remember a refusal; the log has it once, until it is another or over."""
        try:
            token = await work
        except TokenRefused as refused:
            before, reason = account.trouble, refused.verdict.reason
            account.trouble = refused.again()
            if before is None or before.verdict.reason != reason:
                name = account.cache.name
                level = logging.INFO if refused.known else logging.WARNING
                log.log(level, "credential %s: %s: %s%s", name, reason, refused.detail, token_errors.advice(reason))
            raise
        account.trouble, account.vain_since = None, -math.inf
        return token


def _warn(account: Account) -> None:
    if not account.slow:
        name = account.cache.name
        log.warning(
            "credential %s: Google has given no token for %g s; others serve meanwhile if there are any",
            name,
            SLOW_FETCH,
        )
    account.slow = True


def _retrieve_exception(fetching: asyncio.Task[Token]) -> None:
    if not fetching.cancelled():
        _ = fetching.exception()  # even if everybody who waited has left
