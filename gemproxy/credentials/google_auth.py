"""(edge) Where access tokens are made: google-auth in threads of its own, its HTTP through our aiohttp session.

In: a grant or a service account. Out: an ``Access``. google-auth's refresh blocks and its own transports bring another
HTTP client, so it runs in an executor and posts through a ``Courier`` that hands the request to the event loop. google
is imported when the first token is made: it takes 0.4 s that a pool of API keys need not spend.
Must not decide what a refusal means for a credential, and must not keep tokens.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeGuard, TypeVar
from urllib.parse import parse_qs

import aiohttp
import msgspec
from msgspec import Struct

from gemproxy.credentials import oauth
from gemproxy.credentials.sources import ServiceAccount, UserGrant
from gemproxy.redaction import held
from gemproxy.transport.client import ask
from gemproxy.transport.reaching import obstacle_of, why
from gemproxy.upstream.dialect import HttpRequest
from gemproxy.upstream.reach import Obstacle
from gemproxy.upstream.skew import Skew

T = TypeVar("T")

REQUEST_TIMEOUT = 10.0  # seconds for one post: an endpoint under load answers after eight
TOKEN_TIMEOUT = 15.0  # seconds for all tries together: half of rotation.budget is left to other credentials
POST_SHARE = 0.95  # of these for the posts: what comes at the last moment, a rotated refresh token, is still taken in
THREADS = 32  # each waits for one answer and does nothing; as many as hang keep no other from its token
RETRY_PAUSES = (0.5, 1.5)  # seconds before the second and the third try
TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
LONGEST_TOKEN = 16_384  # characters of a token: it goes into a header
SECRET_FIELDS = ("assertion", "subject_token", "refresh_token", "client_secret")  # of what is posted
TRANSIENT_ERRORS = frozenset({"server_error", "temporarily_unavailable", "internal_failure", "rate_limit_exceeded"})


class Access(Struct, frozen=True):
    """An access token and its end, in seconds on the wall clock. ``refresh`` is a rotated refresh token, or ""."""

    secret: str
    expiry: float
    refresh: str = ""
    project: str = ""  # as configured or named by the credential
    location: str = ""
    key: str = ""  # of the grant it came from

    def __repr__(self) -> str:
        return f"Access(expiry={self.expiry:.0f})"


class GrantRefused(Exception):  # noqa: N818 - the house says fault and failure
    """The token endpoint refused. ``word`` is OAuth's error code, ``about`` Google's description; show neither.

    ``clock`` says how this machine's clock is wrong, if what was refused was signed by it.
    """

    def __init__(self, word: str, about: str = "", clock: str = "") -> None:
        super().__init__(word)
        self.word = word
        self.about = about
        self.clock = clock


class TokenUnavailable(Exception):  # noqa: N818
    """No answer that counts came from the token endpoint; trying again later may help.

    ``obstacle``: what stood in the way of a connection, if none came about.
    """

    def __init__(self, why: str, obstacle: Obstacle | None = None) -> None:
        super().__init__(why)
        self.obstacle = obstacle


class NoDefaultCredentials(Exception):  # noqa: N818
    """google-auth found no application-default credentials on this machine."""


class BadAccount(Exception):  # noqa: N818
    """A key file that google-auth cannot use."""


class Reply(Struct):
    """What google-auth wants to see of an answer: it asks for headers in lower case, Google's metadata server writes
    them otherwise. The repr shows the status only: the data hold a token.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status})"


class Courier:
    """google-auth's transport for one refresh: callable from a thread, posts on the loop, remembers the refusal, and
    why there was no answer: what google-auth itself writes into an error may quote addresses and bodies.

    Answers that only mean "later" end the refresh at once: google-auth would sleep in its thread and try again, which
    cannot be cancelled; ``GoogleAuth`` does that better.
    """

    def __init__(self, send: Callable[..., Future[Reply]]) -> None:
        self.refusal = oauth.Refused()
        self.trouble = "no answer"
        self.obstacle: Obstacle | None = None
        self.signed = False  # what was posted last holds our own clock's time
        self._send = send

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Reply:
        """Send a request and wait for its answer. Raises ``google.auth.exceptions.TransportError``."""
        from google.auth.exceptions import TransportError

        self.signed = b"assertion=" in (body or b"")
        try:
            reply = self._send(method, url, body, headers, min(timeout or REQUEST_TIMEOUT, REQUEST_TIMEOUT)).result()
        except (aiohttp.ClientError, OSError, TimeoutError, CancelledError) as fault:
            self.obstacle = obstacle_of(fault)
            self.trouble = self.obstacle.public if self.obstacle else f"no answer ({why(fault)})"
            raise TransportError(self.trouble) from None  # type: ignore[no-untyped-call]
        if reply.status != 200:
            self.refusal = oauth.read_refusal(reply.data)
            if reply.status in TRANSIENT_STATUSES or self.refusal.error in TRANSIENT_ERRORS:
                self.trouble = f"status {reply.status}"
                raise TransportError(self.trouble)  # type: ignore[no-untyped-call]
        return reply


class GoogleAuth:
    """Makes access tokens, several at once, none twice. ``token_url`` "" leaves each file its own.

    ``patience``: seconds for one token, with all tries.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Callable[[], float],
        *,
        token_url: str = "",
        pauses: Sequence[float] = RETRY_PAUSES,
        patience: float = TOKEN_TIMEOUT,
        skew: Skew | None = None,
    ) -> None:
        self.patience = patience
        self._skew = skew
        self._session = session
        self._clock = clock
        self._token_url = token_url
        self._pauses = pauses
        self._threads = ThreadPoolExecutor(THREADS, "gemproxy-google-auth")
        self._sending: set[Future[Reply]] = set()
        self._defaults: Any = None  # google-auth's credentials, once found: looking for them takes long
        self._forgotten = 0  # how often
        self._sharing: asyncio.Task[Access] | None = None  # a refresh of theirs
        self._closed = False

    def deadline(self) -> float:
        """Return when, on the loop's clock, a token that is asked for now must be there."""
        return asyncio.get_running_loop().time() + self.patience

    async def user(self, grant: UserGrant, refresh_token: str, until: float | None = None) -> Access:
        """Return a token of a person's grant; ``until``: by then, if several refresh tokens share the ``deadline``.

        Raises ``GrantRefused`` or ``TokenUnavailable``.
        """
        return await self._persist(functools.partial(self._user, grant, refresh_token), until)

    async def service(self, account: ServiceAccount) -> Access:
        """Return a token of a service account. Raises ``BadAccount``, ``GrantRefused`` or ``TokenUnavailable``."""
        return await self._persist(functools.partial(self._service, account))

    async def default(self) -> Access:
        """Return a token of the application-default credentials, with their project.

        All who ask meanwhile get the same: google-auth's object is one for all, and not made for two threads.
        Raises ``NoDefaultCredentials``, ``GrantRefused`` or ``TokenUnavailable``.
        """
        if self._sharing is None or self._sharing.done():
            refreshing = self._persist(self._default)
            self._sharing = asyncio.get_running_loop().create_task(refreshing, name="default credentials")
            self._sharing.add_done_callback(_retrieve_exception)
        return await asyncio.shield(self._sharing)

    async def aside(self, work: Callable[[], T]) -> T:
        """Do what blocks (reading a file) in google-auth's threads."""
        if self._closed:
            raise TokenUnavailable("the server ends")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def forget(self) -> None:
        """Look for the application-default credentials anew: the operator may have changed them."""
        self._defaults = self._sharing = None
        self._forgotten += 1

    def close(self) -> None:
        """Give up what is under way; threads end as soon as their request does."""
        self._closed = True
        if self._sharing is not None:
            self._sharing.cancel()
        for sending in list(self._sending):
            sending.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _persist(self, work: Callable[[Courier], Access], until: float | None = None) -> Access:
        """Do ``work``, up to three times until then, when the endpoint is out of order."""
        loop = asyncio.get_running_loop()
        end = self.deadline() if until is None else until
        last = end - (1 - POST_SHARE) * self.patience
        send = functools.partial(self._send, loop, last)
        try:
            async with asyncio.timeout_at(end):
                for pause in self._pauses:
                    try:
                        return await self.aside(lambda: work(Courier(send)))
                    except TokenUnavailable:
                        if loop.time() + pause >= last:
                            raise
                        await asyncio.sleep(pause)
                return await self.aside(lambda: work(Courier(send)))
        except TimeoutError:
            raise TokenUnavailable("no answer in time") from None

    # ---------------------------------------------------------------------------------------------- in a thread

    def _user(self, grant: UserGrant, refresh_token: str, courier: Courier) -> Access:
        from google.oauth2.credentials import Credentials

        credentials = Credentials(  # type: ignore[no-untyped-call]
            None,
            refresh_token=refresh_token,
            token_uri=self._token_url or grant.token_url or oauth.TOKEN_URL,
            client_id=grant.client_id,
            client_secret=grant.client_secret,
        )
        access = self._refreshed(credentials, courier)
        rotated = credentials.refresh_token
        return msgspec.structs.replace(access, refresh=rotated if rotated != refresh_token and _word(rotated) else "")

    def _service(self, account: ServiceAccount, courier: Courier) -> Access:
        from google.auth.exceptions import GoogleAuthError
        from google.oauth2 import credentials as users
        from google.oauth2 import service_account as robots

        try:
            credentials: Any
            if account.info["type"] == "authorized_user":
                credentials = users.Credentials.from_authorized_user_info(account.info, [oauth.SCOPE])  # type: ignore[no-untyped-call]
            else:
                credentials = robots.Credentials.from_service_account_info(account.info, scopes=[oauth.SCOPE])  # type: ignore[no-untyped-call]
        except (GoogleAuthError, ValueError, TypeError, AttributeError) as fault:
            raise BadAccount(type(fault).__name__) from None  # its text may quote the key
        access = self._refreshed(self._redirected(credentials), courier)
        return msgspec.structs.replace(access, project=account.project)

    def _default(self, courier: Courier) -> Access:
        import google.auth
        from google.auth.exceptions import GoogleAuthError

        found, forgotten = self._defaults, self._forgotten  # a reload may forget them meanwhile
        if found is None:
            try:
                found = google.auth.default([oauth.SCOPE], request=courier)  # type: ignore[arg-type]
            except (GoogleAuthError, ValueError) as fault:
                raise NoDefaultCredentials(type(fault).__name__) from None
            if forgotten == self._forgotten:
                self._defaults = found
        credentials, project = found
        access = self._refreshed(self._redirected(credentials), courier)
        return msgspec.structs.replace(access, project=project or "")

    def _redirected(self, credentials: Any) -> Any:
        able = self._token_url and hasattr(credentials, "with_token_uri")
        return credentials.with_token_uri(self._token_url) if able else credentials

    def _refreshed(self, credentials: Any, courier: Courier) -> Access:
        from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError

        begun = self._clock()
        try:
            credentials.refresh(courier)
        except TransportError:
            raise TokenUnavailable(courier.trouble, courier.obstacle) from None
        except RefreshError:
            if courier.refusal.error:
                clock = self._skew.words if self._skew is not None and courier.signed else ""
                raise GrantRefused(courier.refusal.error, courier.refusal.error_description, clock) from None
            raise TokenUnavailable("an answer that is no token") from None
        except (GoogleAuthError, ValueError, TypeError, OverflowError) as fault:
            raise TokenUnavailable(type(fault).__name__) from None
        if not _word(credentials.token):
            raise TokenUnavailable("an answer that is no token")
        return Access(credentials.token, begun + _lifetime(credentials.expiry))

    def _send(
        self,
        loop: asyncio.AbstractEventLoop,
        until: float,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        timeout: float,
    ) -> Future[Reply]:
        if self._closed or loop.is_closed():
            raise CancelledError
        request = HttpRequest(url, dict(headers or {}), body or b"", method)
        left = max(until - loop.time(), 0.001)  # 0 would be no limit
        future = asyncio.run_coroutine_threadsafe(self._ask(request, min(timeout, left)), loop)
        self._sending.add(future)
        future.add_done_callback(self._sending.discard)
        if self._closed:  # meanwhile: ``close`` did not see this one
            future.cancel()  # type: ignore[unreachable]  # mypy knows of no other thread
        return future

    async def _ask(self, request: HttpRequest, timeout: float) -> Reply:
        held.hold("token requests", _secrets(request.body))
        reply = await ask(self._session, request, timeout)
        if self._skew is not None:
            self._skew.note(reply.headers)
        return Reply(reply.status, reply.headers, reply.body)


def _retrieve_exception(refreshing: asyncio.Task[Access]) -> None:
    if not refreshing.cancelled():
        _ = refreshing.exception()  # even if everybody who waited has left


def _secrets(body: bytes) -> list[str]:
    """Return what an answer to this body might quote."""
    form = parse_qs(body.decode(errors="replace"))
    return [value for name in SECRET_FIELDS for value in form.get(name, ())]


def _word(token: object) -> TypeGuard[str]:
    """Return whether this can be a token: an answer may hold anything in its place, and a header cannot."""
    if not isinstance(token, str) or not 0 < len(token) <= LONGEST_TOKEN:
        return False
    return token.isascii() and token.isprintable() and " " not in token


def _lifetime(expiry: datetime | None) -> float:
    """Return the seconds a token lives; google-auth's ``expiry`` is UTC without saying so (docs/protocol.md 2.6)."""
    if expiry is None:
        return oauth.LIFETIME
    return (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
