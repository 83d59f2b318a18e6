"""Who may ask: API keys, access tokens, accounts of Code Assist, service accounts.

In: a key or token as sent, and what tests declared about it. Out: the account behind it, or a ``Refusal``. Must not
read HTTP requests and not know what is asked. Bodies: docs/protocol.md 3.2-3.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from gemproxy.simulator import google_errors as errors
from gemproxy.simulator.google_errors import Refusal


class KeyState(StrEnum):
    """What is the matter with an API key."""

    OK = "ok"
    INVALID = "invalid"
    EXPIRED = "expired"
    LEAKED = "leaked"
    BLOCKED = "blocked"
    SUSPENDED = "suspended"
    DENIED = "denied"
    LOCATION = "location"
    PER_MINUTE = "per minute"
    PER_DAY = "per day"
    LIMIT_ZERO = "limit 0"
    EXHAUSTED = "exhausted"
    NO_CREDITS = "no credits"
    FREE_TIER_GONE = "no longer available"


class AccountState(StrEnum):
    """What is the matter with an account of Code Assist or Vertex AI."""

    OK = "ok"
    UNSUPPORTED_CLIENT = "unsupported client"
    VALIDATION = "validation required"
    NOT_NAMED = "not a named user"
    SERVICE_DISABLED = "service disabled"
    SECURITY_POLICY = "security policy"
    NO_PERMISSION = "no permission"
    RATE_LIMITED = "rate limited"
    EXHAUSTED = "quota exhausted"
    NO_CAPACITY = "no capacity"
    REVOKED = "revoked"


class Account(Struct):
    """One person or robot with an OAuth grant; ``name`` is its first refresh token or the service account's e-mail.

    ``tier`` "" needs onboarding, which takes ``polls`` looks at the operation; ``own_project`` means that discovery
    does not tell the project. ``rotates``: every refresh hands out a new refresh token and the old one dies.
    """

    name: str
    state: AccountState = AccountState.OK
    tier: str = "standard-tier"
    project: str = "sim-project"
    own_project: bool = False
    polls: int = 1
    rotates: bool = False
    public_key: str | None = None  # PEM; only service accounts


class Access(Struct, frozen=True):
    """An access token's owner and the second it ends."""

    account: Account
    expires: float


class Accounts:
    """All that the simulated Google knows of its callers.

    Anybody nobody declared is taken for a healthy caller, unless ``known_only`` is set.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.known_only = False
        self.expires_in = 3599
        self.keys: dict[str, KeyState] = {}
        self.grants: dict[str, Account] = {}
        self.dead: set[str] = set()  # refresh tokens that were rotated away
        self.access: dict[str, Access] = {}
        self.refreshes: Counter[str] = Counter()
        self._issued = 0

    def add(self, account: Account) -> Account:
        """Declare an account."""
        self.grants[account.name] = account
        return account

    def grant(self, name: str, *, service: bool = False) -> Account | None:
        """Return the account behind a refresh token or service account; None if it is unknown or revoked."""
        account = self.grants.get(name)
        if account is None and name and not self.known_only and name not in self.dead:
            account = self.add(Account(name, project="sim-vertex-project" if service else "sim-project"))
        return None if account is None or account.state is AccountState.REVOKED else account

    def issue(self, account: Account, expires_in: float | None = None) -> str:
        """Return a fresh access token of that account."""
        self._issued += 1
        token = f"sim-access-{self._issued}"
        self.access[token] = Access(account, self.clock() + (self.expires_in if expires_in is None else expires_in))
        return token

    def rotate(self, refresh_token: str) -> str:
        """Return a new refresh token for the account of this one, which is dead from now on."""
        account = self.grants.pop(refresh_token)
        self.dead.add(refresh_token)
        self._issued += 1
        self.grants[f"sim-refresh-{self._issued}"] = account
        return f"sim-refresh-{self._issued}"

    def bearer(self, token: str, service: str) -> Account:
        """Return the account of an access token; raises ``Refusal`` 401 if it is unknown or over."""
        access = self.access.get(token)
        if access is None or access.expires <= self.clock() or access.account.state is AccountState.REVOKED:
            raise errors.unauthenticated("ACCESS_TOKEN_EXPIRED" if access else "ACCESS_TOKEN_TYPE_UNSUPPORTED", service)
        return access.account

    def expire_all(self) -> None:
        """End every access token now."""
        self.access.clear()

    def check_key(self, key: str, model: str) -> None:
        """Raise ``Refusal`` when this API key may not ask this model; ``model`` "" for free calls."""
        if not key:
            raise errors.unregistered()
        state = self.keys.get(key, KeyState.INVALID if self.known_only else KeyState.OK)
        if state in _BY_MODEL:
            if model:
                raise _BY_MODEL[state](model)
        elif state in _BY_KEY:
            raise _BY_KEY[state](key)


_BY_KEY: dict[KeyState, Callable[[str], Refusal]] = {
    KeyState.INVALID: lambda _: errors.bad_key(),
    KeyState.EXPIRED: lambda _: errors.bad_key("API key expired. Please renew the API key."),
    KeyState.LEAKED: lambda _: errors.denied("Your API key was reported as leaked. Please use another API key."),
    KeyState.DENIED: lambda _: errors.denied("Your project has been denied access. Please contact support."),
    KeyState.BLOCKED: lambda _: errors.denied(
        "Requests to this API generativelanguage.googleapis.com method "
        "google.ai.generativelanguage.v1beta.GenerativeService.GenerateContent are blocked.",
        "API_KEY_SERVICE_BLOCKED",
        service="generativelanguage.googleapis.com",
        consumer="projects/000000000000",
    ),
    # Google repeats the key in three places (docs/protocol.md S38).
    KeyState.SUSPENDED: lambda key: errors.denied(
        f"Permission denied: Consumer 'api_key:{key}' has been suspended.",
        "CONSUMER_SUSPENDED",
        consumer="projects/000000000000",
        containerInfo=f"api_key:{key}",
        service="generativelanguage.googleapis.com",
    ),
    KeyState.LOCATION: lambda _: errors.location(),
    KeyState.NO_CREDITS: lambda _: Refusal(
        402, "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."
    ),
}
_BY_MODEL: dict[KeyState, Callable[[str], Refusal]] = {
    KeyState.PER_MINUTE: lambda model: errors.quota(model, "Minute", limit=5, delay="41.2s"),
    KeyState.PER_DAY: lambda model: errors.quota(model, "Day", limit=20, delay="38.90923309s"),
    KeyState.LIMIT_ZERO: lambda model: errors.quota(model, "Day", limit=0, delay="38.90923309s"),
    KeyState.EXHAUSTED: lambda _: errors.exhausted(),
    KeyState.FREE_TIER_GONE: lambda model: Refusal(
        404,
        f"This model models/{model} is no longer available to new users. Please update your code to use a newer model "
        "for the latest features and improvements.",
    ),
}
