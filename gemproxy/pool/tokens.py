"""(edge) What authenticates a slot: keys as they are, access tokens kept fresh, projects found.

In: credential sources as plain values, and the rooms that fetch for them. Out: ``Token`` for the dialects;
``TokenRefused`` with the verdict on the credential. Must not rest or park: the rotator does, told by the verdict.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import aiohttp
from msgspec import Struct

from gemproxy.pool import refusals
from gemproxy.pool.issuer import Issuer
from gemproxy.pool.keeper import BACKOFF, Keeper
from gemproxy.pool.mint import Access, Mint
from gemproxy.pool.projects import Projects
from gemproxy.pool.refusals import TokenRefused
from gemproxy.pool.sources import ApiKeySource, OAuthSource, ServiceAccountSource, Source
from gemproxy.pool.state import State
from gemproxy.upstream.dialect import Action, Scope, Token
from gemproxy.upstream.skew import Skew

__all__ = ["TokenRefused", "TokenView", "Tokens"]
log = logging.getLogger(__name__)


class TokenView(Struct, frozen=True):
    """``/v1/debug/cache``: whether a token is at hand. ``seconds_left`` None: it does not expire, or there is none."""

    cached: bool
    seconds_left: float | None = None


class Account(Struct, eq=False):
    """A credential whose tokens are fetched. ``fingerprint``: whose it was when it was configured."""

    source: OAuthSource | ServiceAccountSource
    fingerprint: str
    keeper: Keeper
    trouble: TokenRefused | None = None  # why it got no token last
    vain_since: float = -math.inf  # when no token was to be had for a request

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
        mint: Mint | None = None,
        skew: Skew | None = None,
    ) -> None:
        self._mint = mint or Mint(session, clock, token_url=token_url, skew=skew)
        self._projects = projects
        self._issuer = Issuer(self._mint, state, clock)
        self._clock = clock
        self._keys: dict[str, ApiKeySource] = {}
        self._accounts: dict[str, Account] = {}
        self.replace(sources, fingerprints)

    def replace(self, sources: Mapping[str, Source], fingerprints: Mapping[str, str]) -> None:
        """Take a new configuration; accounts that did not change keep their tokens."""
        self._mint.forget()
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

    async def get(self, slot: str) -> Token:
        """Return a living token, from memory if there is one. Raises ``TokenRefused``."""
        if slot in self._keys:
            return Token(self._keys[slot].key)
        account = self._known(slot)
        if account.trouble is not None and (trouble := account.in_vain(self._clock())) is not None:
            raise trouble.again()
        try:
            return await self._noted(account, self._token(account, account.keeper.get()))
        except TokenRefused:
            account.vain_since = self._clock()
            raise

    async def refresh(self, slot: str, stale: Token) -> Token:
        """Return a token other than ``stale``, which the upstream refused. Raises ``TokenRefused``."""
        if slot in self._keys:
            raise refusals.parked("key_refused")
        account = self._known(slot)
        return await self._noted(account, self._token(account, account.keeper.renew(stale.secret)))

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
        return await self._noted(account, self._token(account, account.keeper.anew()))

    def try_again(self) -> None:
        """Ask for tokens at once where it was in vain: a host is reached again."""
        for account in self._accounts.values():
            account.vain_since = -math.inf

    def view(self, slot: str) -> TokenView:
        """Return what is at hand for a slot."""
        account = self._accounts.get(slot)
        if account is None:
            return TokenView(slot in self._keys)
        left = account.keeper.left()
        return TokenView(left > 0, round(left, 1) if left else None)

    def close(self) -> None:
        """Stop refreshing and searching."""
        for account in self._accounts.values():
            account.keeper.close()
        self._projects.close()
        self._mint.close()

    def _account(self, name: str, source: OAuthSource | ServiceAccountSource, fingerprint: str) -> Account:
        return Account(source, fingerprint, Keeper(name, partial(self._issuer.fetch, source), self._clock))

    def _known(self, slot: str) -> Account:
        if slot not in self._accounts:
            raise refusals.removed()
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
        return await self._placed(await account.keeper.renew(access.secret))

    async def _rediscovered(self, account: Account) -> Token:
        if not isinstance(account.source, OAuthSource):
            return await self._token(account, account.keeper.get())
        access = await account.keeper.get()
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
                name = account.keeper.name
                level = logging.INFO if refused.known else logging.WARNING
                log.log(level, "credential %s: %s: %s%s", name, reason, refused.detail, refusals.advice(reason))
            raise
        account.trouble, account.vain_since = None, -math.inf
        return token
