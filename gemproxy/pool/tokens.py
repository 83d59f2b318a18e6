"""(edge) What authenticates a slot: keys as they are, access tokens kept fresh, projects found.

In: credential sources as plain values, and the rooms that fetch for them. Out: ``Token`` for the dialects;
``TokenRefused`` with the verdict on the credential. Must not rest or park: the rotator does, told by the verdict.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import aiohttp
from msgspec import Struct

from gemproxy.pool import refusals
from gemproxy.pool.issuer import Issuer
from gemproxy.pool.keeper import Keeper
from gemproxy.pool.mint import Access, Mint
from gemproxy.pool.projects import Projects
from gemproxy.pool.refusals import TokenRefused
from gemproxy.pool.sources import ApiKeySource, OAuthSource, ServiceAccountSource, Source
from gemproxy.pool.state import State
from gemproxy.upstream.dialect import Action, Token

__all__ = ["TokenRefused", "TokenView", "Tokens"]
log = logging.getLogger(__name__)


class TokenView(Struct, frozen=True):
    """``/v1/debug/cache``: whether a token is at hand. ``seconds_left`` None: it does not expire, or there is none."""

    cached: bool
    seconds_left: float | None = None


class Account(Struct, frozen=True):
    """A credential whose tokens are fetched."""

    source: OAuthSource | ServiceAccountSource
    keeper: Keeper


class Tokens:
    """The tokens of all credentials, by slot name. ``token_url`` "" leaves each credential file its own."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        session: aiohttp.ClientSession,
        state: State,
        clock: Callable[[], float],
        projects: Projects,
        *,
        token_url: str = "",
        mint: Mint | None = None,
    ) -> None:
        self._mint = mint or Mint(session, clock, token_url=token_url)
        self._projects = projects
        self._issuer = Issuer(self._mint, state, clock)
        self._clock = clock
        self._keys: dict[str, ApiKeySource] = {}
        self._accounts: dict[str, Account] = {}
        self._told: dict[str, str] = {}  # the trouble with projects last logged, by name, so that it is logged once
        self.replace(sources)

    def replace(self, sources: Mapping[str, Source]) -> None:
        """Take a new configuration; accounts that did not change keep their tokens."""
        self._mint.forget()
        self._projects.forget()
        self._keys = {name: source for name, source in sources.items() if isinstance(source, ApiKeySource)}
        old, self._accounts = self._accounts, {}
        for name, source in sources.items():
            if isinstance(source, OAuthSource | ServiceAccountSource):
                known = old.pop(name, None)
                unchanged = known is not None and known.source == source
                self._accounts[name] = known if known and unchanged else self._account(name, source)
        # Requests may still wait for the tokens of the old accounts: those refreshes end by themselves.

    async def get(self, slot: str) -> Token:
        """Return a living token, from memory if there is one. Raises ``TokenRefused``."""
        if slot in self._keys:
            return Token(self._keys[slot].key)
        account = self._known(slot)
        return await self._token(account, await account.keeper.get())

    async def refresh(self, slot: str, stale: Token) -> Token:
        """Return a token other than ``stale``, which the upstream refused. Raises ``TokenRefused``."""
        if slot in self._keys:
            raise refusals.parked("key_refused")
        account = self._known(slot)
        return await self._token(account, await account.keeper.renew(stale.secret))

    async def rediscover(self, slot: str) -> Token:
        """Return a token with the project as Code Assist names it now. Raises ``TokenRefused``."""
        if slot in self._keys:
            return Token(self._keys[slot].key)
        account = self._known(slot)
        access = await account.keeper.get()
        if isinstance(account.source, OAuthSource):
            project = await self._projects.search(access.key, Token(access.secret, access.project))
            return Token(access.secret, project)
        return await self._token(account, access)

    async def check(self, slot: str) -> Token:
        """Authenticate anew, whatever is at hand: for ``/v1/token-test``. Raises ``TokenRefused``."""
        if slot in self._keys:
            return Token(self._keys[slot].key)
        account = self._known(slot)
        access = await self._issuer.fetch(slot, account.source, "", fresh=True)
        account.keeper.access = access
        return await self._token(account, access)

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

    def _account(self, name: str, source: OAuthSource | ServiceAccountSource) -> Account:
        return Account(source, Keeper(name, lambda refused: self._issuer.fetch(name, source, refused), self._clock))

    def _known(self, slot: str) -> Account:
        if slot not in self._accounts:
            raise refusals.removed()
        return self._accounts[slot]

    async def _token(self, account: Account, access: Access) -> Token:
        if not isinstance(account.source, OAuthSource):
            return Token(access.secret, access.project, access.location)
        try:
            return await self._placed(account, access)
        except TokenRefused as refused:
            if refused.verdict.action is not Action.REFRESH:
                raise
        return await self._placed(account, await account.keeper.renew(access.secret))

    async def _placed(self, account: Account, access: Access) -> Token:
        name = account.keeper.name
        try:
            project = await self._projects.find(access.key, Token(access.secret, access.project))
        except TokenRefused as refused:
            if self._told.get(name) != refused.verdict.reason:
                self._told[name] = refused.verdict.reason
                log.warning("credential %s: %s: %s", name, refused.verdict.reason, refused.detail)
            raise
        if self._told:
            self._told.pop(name, None)
        return Token(access.secret, project)
