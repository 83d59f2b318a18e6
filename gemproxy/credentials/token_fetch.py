"""(edge) Fetches an access token for one credential: from the state, from its file, else from Google.

In: a source. Out: an ``Access``; ``TokenRefused`` with the verdict on the credential. The state comes first, since
another process may hold a newer token; then the file, where the operator may have logged in anew; both may hold one
that lives.
Must not hold tokens itself, and must not log or raise a secret.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Container
from pathlib import Path
from typing import TypeVar

import msgspec

from gemproxy.credentials import token_errors
from gemproxy.credentials.google_auth import (
    Access,
    BadAccount,
    GoogleAuth,
    GrantRefused,
    NoDefaultCredentials,
    TokenUnavailable,
)
from gemproxy.credentials.sources import OAuthSource, ServiceAccountSource, UserGrant, read_oauth, read_service_account
from gemproxy.credentials.token_cache import REFRESH_MARGIN
from gemproxy.errors import ConfigFault
from gemproxy.redaction import held
from gemproxy.state.store import Grant, State

T = TypeVar("T")

NO_TOKEN = "Google's token endpoint gave no token."  # noqa: S105
REREAD_PAUSE = 0.25  # seconds; what reads badly, or seems revoked, may be just being written by another


class TokenFetcher:
    """Fetches tokens through ``google_auth`` and keeps them in the ``state``."""

    def __init__(self, google: GoogleAuth, state: State, clock: Callable[[], float]) -> None:
        self._google = google
        self._state = state
        self._clock = clock

    async def fetch(
        self, source: OAuthSource | ServiceAccountSource, refused: Container[str], *, fresh: bool
    ) -> Access:
        """Return a token that is none of ``refused``; ``fresh``: from Google, not one that is at hand.

        Raises ``TokenRefused``.
        """
        try:
            if isinstance(source, OAuthSource):
                return await self._of_user(source, refused, fresh)
            if source.file is not None:
                return await self._of_service(source, source.file, refused, fresh)
            return await self._default(source)
        except ConfigFault as fault:
            raise token_errors.parked("credential_file", str(fault)) from None
        except BadAccount as fault:
            raise token_errors.parked("credential_file", f"google-auth cannot use the key file ({fault})") from None
        except NoDefaultCredentials as fault:
            why = f"no application-default credentials were found ({fault}); a Google machine's need the extra gce"
            raise token_errors.parked("no_default_credentials", why) from None
        except TokenUnavailable as fault:
            if fault.obstacle is not None:
                raise token_errors.unreached("Google's token endpoint", fault.obstacle) from None
            raise token_errors.unavailable("token_unavailable", NO_TOKEN, str(fault)) from None
        except OSError as fault:
            raise token_errors.unavailable("token_unavailable", NO_TOKEN, fault.strerror or "no answer") from None

    # ------------------------------------------------------------------------------------------------- a person's

    async def _of_user(self, source: OAuthSource, refused: Container[str], fresh: bool) -> Access:
        grant = await self._file(functools.partial(read_oauth, source))
        held.hold(grant.key, grant.secrets)
        kept = await self._kept(grant.key)
        living = None if fresh else self._at_hand(refused, kept, Grant(grant.access_token, grant.expiry))
        access = Access(living.access, living.expiry) if living is not None else await self._refreshed(grant)
        return msgspec.structs.replace(access, project=grant.project, key=grant.key)

    async def _refreshed(self, grant: UserGrant) -> Access:
        """Return a token from Google; a rotated refresh token goes before the file's, from which it came."""
        tried: set[str] = set()
        until = self._google.deadline()
        while True:
            kept, token = await self._untried(grant, tried)
            if not token:
                raise token_errors.parked("invalid_grant")
            tried.add(token)
            try:
                access = await self._google.user(grant, token, until)
            except GrantRefused as fault:
                if fault.word != "invalid_grant":
                    raise token_errors.by_grant(fault.word, fault.about, own_client=grant.own_client) from None
            else:
                self._keep(grant, kept, token, access)
                if access.refresh:  # Google may know the one before it no more: written before anything else is done
                    await self._state.settle()
                return access

    async def _untried(self, grant: UserGrant, tried: set[str]) -> tuple[Grant, str]:
        """Return what is kept of a grant, and a refresh token that may still be good, or ""."""
        for pause in (0.0, REREAD_PAUSE):  # another process may have rotated the grant and be just about to keep it
            await asyncio.sleep(pause)
            kept = await self._kept(grant.key)
            for token in (kept.refresh, grant.refresh_token):
                if token and token not in tried:
                    return kept, token
        return Grant(), ""

    def _keep(self, grant: UserGrant, kept: Grant, used: str, access: Access) -> None:
        now = self._later_than(kept)
        if access.refresh:
            refresh, issued = access.refresh, now
        elif used == kept.refresh:
            refresh, issued = kept.refresh, kept.issued
        else:
            refresh, issued = "", now if kept.refresh else 0.0
        self._state.keep_grant(grant.key, Grant(access.secret, access.expiry, refresh, issued, now))
        held.hold(grant.key, [access.secret, access.refresh])

    # -------------------------------------------------------------------------------------------------- a robot's

    async def _of_service(
        self, source: ServiceAccountSource, file: Path, refused: Container[str], fresh: bool
    ) -> Access:
        account = await self._file(functools.partial(read_service_account, file, source.project))
        held.hold(account.key, account.secrets)
        kept = await self._kept(account.key)
        living = None if fresh else self._at_hand(refused, kept)
        if living is not None:
            access = Access(living.access, living.expiry)
        else:
            access = await self._granted(self._google.service(account))
            held.hold(account.key, [access.secret])
            self._state.keep_grant(account.key, Grant(access.secret, access.expiry, changed=self._later_than(kept)))
        return _placed(access, account.project, source.location)

    async def _default(self, source: ServiceAccountSource) -> Access:
        access = await self._granted(self._google.default())
        held.hold("default credentials", [access.secret])
        return _placed(access, source.project or access.project, source.location)

    async def _granted(self, granting: Awaitable[Access]) -> Access:
        try:
            return await granting
        except GrantRefused as fault:
            self._google.forget()
            raise token_errors.by_grant(fault.word, fault.about, own_client=True, clock=fault.clock) from None

    # --------------------------------------------------------------------------------------------------- all kinds

    async def _kept(self, key: str) -> Grant:
        kept = await self._state.grant(key) or Grant()
        held.hold(key, [kept.access, kept.refresh])
        return kept

    def _at_hand(self, refused: Container[str], *grants: Grant) -> Grant | None:
        """Return the token with the latest end, if it is not about to be renewed anyway."""
        enough = self._clock() + REFRESH_MARGIN
        living = [grant for grant in grants if grant.expiry > enough and grant.access and grant.access not in refused]
        return max(living, key=lambda grant: grant.expiry, default=None)

    def _later_than(self, kept: Grant) -> float:
        return max(self._clock(), kept.changed + 1e-3)  # the newest wins even when the clock went back

    async def _file(self, read: Callable[[], T]) -> T:
        try:
            return await self._google.aside(read)
        except ConfigFault:
            await asyncio.sleep(REREAD_PAUSE)
            return await self._google.aside(read)


def _placed(access: Access, project: str, location: str) -> Access:
    """Return the token with the place it works in; Vertex AI has no default project."""
    if not project:
        raise ConfigFault("credentials.project is not set, and the credential names no project")
    return msgspec.structs.replace(access, project=project, location=location)
