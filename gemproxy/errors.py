"""Everything that can go wrong with a request, by who must act. Pure; any floor raises, only the door renders.

    Failure                         (never raised itself)
    ├── ClientFault                 the caller: 400 401 403 404 405 408 413 415
    ├── NoCredential                time, or the operator: 429 while resting, 503 when all are parked
    ├── UpstreamFault               Google or the network: 502 503 504
    │   └── BadAnswer               the model: an empty or malformed answer, asked for once more
    ├── Overload                    our own limits: 429 503 504
    └── Draining                    nobody: this process ends, another one will serve: 503
    ConfigFault                     the operator, at start or reload; never reaches HTTP
    StartFault                      the machine, at start: trying again may help

Anything else is a bug: 500 with the request id and no details. Statuses, types and codes: docs/protocol.md 3.7.
"""

from __future__ import annotations

import math


class Failure(Exception):  # noqa: N818 - the vocabulary is fault and failure: errors are what we write to clients
    """One failed request, with all that an API needs to tell it; the words are OpenAI's, others have theirs for them.

    ``retry_after`` is in seconds (None: no header); ``retryable`` False keeps SDKs from trying again
    (docs/protocol.md 3.7).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str,  # noqa: A002 - OpenAI's own name for the field
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.retryable = retryable
        self.headers: dict[str, str] = {}  # further ones, such as what is left of a limit
        self.attempts = 0  # how many were made upstream before it, and with which credential the last
        self.credential = ""


class ClientFault(Failure):
    """The caller must change the request; nothing is retried and no credential suffers."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        type: str = "invalid_request_error",  # noqa: A002
    ) -> None:
        super().__init__(message, status=status, type=type, code=code, param=param)


class NoCredential(Failure):
    """No credential can serve this model now.

    ``returns_in`` is the time in seconds until the first one may again; None: not before an operator acts. Beyond a
    minute it is an exhausted quota: waiting seconds cannot help. ``full``: a fit credential is only at its cap or just
    being tried, so that waiting in the queue may help.
    """

    def __init__(self, message: str, *, returns_in: float | None, full: bool = False) -> None:
        self.returns_in = returns_in
        self.full = full
        if returns_in is None:
            super().__init__(message, status=503, type="server_error", code="no_upstream_credentials", retryable=False)
            return
        long = returns_in > 60
        super().__init__(
            message,
            status=429,
            type="insufficient_quota" if long else "rate_limit_error",
            code="insufficient_quota" if long else "rate_limit_exceeded",
            retry_after=max(1.0, returns_in),
            retryable=False if long else None,
        )


class UpstreamFault(Failure):
    """Google or the network failed; the caller may try again later. 504 is of type ``timeout``."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        code: str = "upstream_error",
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        kind = "timeout" if status == 504 else "server_error"
        super().__init__(message, status=status, type=kind, code=code, retry_after=retry_after, retryable=retryable)


class BadAnswer(UpstreamFault):
    """The model answered nothing usable (empty or malformed); asked once more before the content commit."""


class Overload(Failure):
    """One of our own limits was reached; the message names its setting."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 503,
        retry_after: float | None = 1.0,
        headers: dict[str, str] | None = None,
    ) -> None:
        limited = status == 429
        super().__init__(
            message,
            status=status,
            type="rate_limit_error" if limited else "server_error",
            code="rate_limit_exceeded" if limited else "overloaded",
            retry_after=retry_after,
        )
        self.headers = headers or {}


class Draining(Failure):
    """This process ends (``timeouts.drain`` is over), and the request with it; another one will serve it."""

    def __init__(self) -> None:
        super().__init__(
            "The server is going down, and timeouts.drain is over; another instance or a later try will serve this.",
            status=503,
            type="server_error",
            code="draining",
            retry_after=1.0,
        )


class ConfigFault(Exception):  # noqa: N818 - as above
    """The configuration cannot be used; the message names key, value and what is allowed."""


class StartFault(Exception):  # noqa: N818 - as above
    """The server cannot start as things are now (a port that is taken); a restart later may."""


def unauthorized(message: str) -> ClientFault:
    """Return the fault of a client that shows no key that is known."""
    return ClientFault(message, status=401, type="authentication_error", code="invalid_api_key")


def timeout(message: str) -> UpstreamFault:
    """Return the fault for an upstream that took too long (504 ``upstream_timeout``)."""
    return UpstreamFault(message, status=504, code="upstream_timeout")


def headers(failure: Failure) -> dict[str, str]:
    """Return the HTTP headers that a failure asks for; ``Retry-After`` in whole seconds, rounded up (RFC 9110)."""
    found = dict(failure.headers)
    if failure.retry_after is not None:
        found["Retry-After"] = str(math.ceil(failure.retry_after))
    if failure.retryable is not None:
        found["x-should-retry"] = "true" if failure.retryable else "false"
    if failure.status == 401:
        found["WWW-Authenticate"] = "Bearer"
    return found


def forget_way(fault: BaseException) -> None:
    """Let go of the frames a fault came through, now that it is dealt with.

    They hold the fault in turn: circles that only the garbage collector finds, so that a flood of refusals would grow
    memory until it looks.
    """
    fault.__traceback__ = fault.__cause__ = fault.__context__ = None
