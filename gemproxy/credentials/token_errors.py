"""What a refusal by the token endpoint or by project discovery means for a credential. Pure: words in, verdicts out.

Rows: docs/protocol.md 2.4 and 2.6. Messages are fit for the client: they name no account, no secret, and say who acts.
"""

from __future__ import annotations

from gemproxy.credentials.oauth import BAD_CLIENT_ERRORS, PARKING_ERRORS
from gemproxy.credentials.onboarding import Ineligible
from gemproxy.pool.cooldown import NO_END
from gemproxy.upstream.dialect import Action, Scope, Verdict
from gemproxy.upstream.reach import Obstacle

CLOCK_DOUBT = "the clock of the proxy may be wrong"
RENEWAL_MESSAGE = "A credential of the proxy is no longer accepted by Google; its operator must renew it."


class TokenRefused(Exception):  # noqa: N818 - a verdict on its way, not a failure
    """No token can be had for a credential; ``verdict`` says what that means for it.

    ``detail`` is for logs and operators. ``known``: the log has the cause already, as that of a host. ``link`` is a
    page that Google wants a person to open: it works once and for anybody, so it goes to the operator's terminal only.
    """

    def __init__(self, verdict: Verdict, detail: str = "", link: str = "", *, known: bool = False) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict
        self.detail = detail or verdict.message
        self.link = link
        self.known = known

    def again(self) -> TokenRefused:
        """Return the same refusal to raise once more: a raised one holds on to whom it passed."""
        return TokenRefused(self.verdict, self.detail, self.link, known=self.known)


def parked(reason: str, detail: str = "") -> TokenRefused:
    """Return the refusal that parks a credential until its operator acts."""
    return _resting(reason, NO_END, detail=detail)


def advice(reason: str) -> str:
    """Return what the operator may do, to be added to a log line."""
    return " Run `gemproxy login`, or replace its file." if reason in PARKING_ERRORS else ""


def _resting(
    reason: str, until: float | None, message: str = RENEWAL_MESSAGE, *, detail: str = "", link: str = ""
) -> TokenRefused:
    verdict = Verdict(Action.NEXT, Scope.CREDENTIAL, until, reason, message, status=503, code="no_upstream_credentials")
    return TokenRefused(verdict, detail, link)


def unavailable(reason: str, message: str, why: str = "", *, known: bool = False) -> TokenRefused:
    """Return the refusal of an endpoint that is out of order: no credential's fault, another upstream may serve."""
    message = f"{message} ({why})" if why else message
    return TokenRefused(Verdict(Action.NEXT, Scope.UPSTREAM, None, reason, message, status=503), known=known)


def unreached(what: str, obstacle: Obstacle) -> TokenRefused:
    """Return the refusal of an endpoint to which no connection came about; ``what`` begins a sentence."""
    message = f"{what} cannot be reached: {obstacle.public}"
    verdict = Verdict(
        Action.NEXT, Scope.UPSTREAM, None, obstacle.reason, message, status=obstacle.status, code=obstacle.code
    )
    return TokenRefused(verdict, f"{what} cannot be reached: {obstacle.words}", known=True)


def slow() -> TokenRefused:
    """Return the refusal of a credential whose token is still being fetched."""
    message = "Google's token endpoint has not answered yet."
    return TokenRefused(Verdict(Action.LATER, Scope.NONE, None, "token_slow", message, status=503))


def removed() -> TokenRefused:
    """Return the refusal of a credential that a reload took away while a request held it."""
    return TokenRefused(Verdict(Action.NEXT, Scope.NONE, None, "removed", "The credential was removed.", status=503))


def by_grant(word: str, about: str, *, own_client: bool, clock: str = "") -> TokenRefused:
    """Return what an OAuth error means (RFC 6749, 5.2). ``own_client``: no other credential uses this client.

    ``clock`` says how this machine's clock is wrong, of a request that it signed: then no word is one on the account.
    """
    if word in BAD_CLIENT_ERRORS and not own_client:
        return _bad_client()
    if word == "invalid_grant" and (clock or "short-lived" in about):
        return unavailable("clock", f"Google refused a signed request: {clock or CLOCK_DOUBT}.", known=bool(clock))
    if word in PARKING_ERRORS or word in BAD_CLIENT_ERRORS:
        return parked(word)
    return _resting(word, None)


def _bad_client() -> TokenRefused:
    """Every OAuth credential fails alike: none is parked, and other kinds may serve."""
    return TokenRefused(
        Verdict(
            Action.NEXT,
            Scope.UPSTREAM,
            None,
            "invalid_client",
            "Google does not accept the proxy's OAuth client; its operator must correct oauth.client_id "
            "and oauth.client_secret.",
            status=503,
            code="no_upstream_credentials",
        )
    )


def ineligible(found: Ineligible) -> TokenRefused:
    """Return what an account that cannot be used means; Google's words speak of the account, so no client sees them."""
    message = "Code Assist does not serve an account of the proxy; its operator must act."
    until = NO_END if found.parks else None
    return _resting(found.reason.lower(), until, message, detail=found.message, link=found.link)


def undiscovered(why: str, until: float | None = None) -> TokenRefused:
    """Return the refusal of an account whose project Code Assist did not tell this time."""
    return _resting("project_unknown", until, f"Code Assist did not name a project ({why}).")
