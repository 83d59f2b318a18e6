"""Code Assist's administration: which project an account works in, how it gets one.

In: a token, a configured project, answer bodies. Out: requests for the edge to send, and what their answers mean.
Nothing here is sent, waited for or remembered. Rules: docs/protocol.md 2.4, 2.5; refusals come as HTTP 200 (S13).

    load_request -> read_load -> Project                       done
                              -> Onboard -> onboard_request -> read_operation -> Project | Pending | Ineligible
                              -> Ineligible                    with what the operator should know
    Pending(name) -> operation_request(name), or onboard_request again when there is no name
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from gemproxy.credentials.oauth import word
from gemproxy.redaction import for_client
from gemproxy.upstream.dialect import HttpRequest, Token
from gemproxy.upstream.refusals import error_body
from gemproxy.upstream.request_body import encode
from gemproxy.wire import UNREADABLE

FREE_TIER: Final = "free-tier"
LEGACY_TIER: Final = "legacy-tier"
_LONGEST_ID: Final = 128  # characters of a project's id; Google's have 30, those of domains some more
_LONGEST_NAME: Final = 1_000  # of an operation's name, which becomes a part of a URL


class Project(Struct, frozen=True):
    """The project that the account's requests run in."""

    id: str


class Onboard(Struct, frozen=True):
    """The account has to accept a tier first. ``project`` None: Google makes one (free tier)."""

    tier_id: str
    project: str | None = None


class Pending(Struct, frozen=True):
    """Onboarding still runs. ``name`` of the operation to ask for; "" when Google gave none."""

    name: str = ""


class Ineligible(Struct, frozen=True):
    """The account cannot be used. ``reason`` is Google's code or ours, ``message`` redacted text for logs and answers.

    ``parks``: no waiting helps, an operator must act. ``link`` is the page that Google wants a person to open; it
    works once and for anybody, so it goes to the operator's terminal only, never into a log or an answer.
    """

    reason: str
    message: str
    parks: bool = True
    link: str = ""

    def __repr__(self) -> str:
        return f"Ineligible({self.reason!r}, {self.message!r}, parks={self.parks})"


class Onboarding:
    """Makes the requests. ``base_url`` is that of Code Assist, e.g. ``…/v1internal``."""

    def __init__(self, base_url: str, user_agent: str) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"content-type": "application/json", "user-agent": user_agent}

    def load_request(self, token: Token, configured_project: str = "") -> HttpRequest:
        """Return the request for the account's tier and project."""
        return self._post("loadCodeAssist", token, _about(configured_project))

    def onboard_request(self, token: Token, onboard: Onboard) -> HttpRequest:
        """Return the request that accepts a tier; the free tier must not name a project (docs/protocol.md 2.4)."""
        return self._post("onboardUser", token, {"tierId": onboard.tier_id, **_about(onboard.project or "")})

    def operation_request(self, token: Token, name: str) -> HttpRequest:
        """Return the request for the state of an onboarding."""
        return HttpRequest(f"{self._base}/{quote(name.strip('/'), safe='/')}", self._signed(token), b"", "GET")

    def quota_request(self, token: Token) -> HttpRequest:
        """Return the request for what is left; it spends nothing, so it also tells whether an account works."""
        return self._post("retrieveUserQuota", token, {"project": token.project})

    def _post(self, method: str, token: Token, body: dict[str, Any]) -> HttpRequest:
        return HttpRequest(f"{self._base}:{method}", self._signed(token), encode(body))

    def _signed(self, token: Token) -> dict[str, str]:
        return {**self._headers, "authorization": f"Bearer {token.secret}"}


def _about(project: str) -> dict[str, Any]:
    """Return the fields of loadCodeAssist and onboardUser that speak of us; without a project they name none at all:
    a placeholder would be refused with the first generation (docs/protocol.md 2.4).
    """
    metadata = {"ideType": "IDE_UNSPECIFIED", "platform": "PLATFORM_UNSPECIFIED", "pluginType": "GEMINI"}
    if not project or project.isdigit():
        return {"metadata": metadata}
    return {"cloudaicompanionProject": project, "metadata": {**metadata, "duetProject": project}}


# --------------------------------------------------------------------------------------------------------- answers


class _Tier(Struct, rename="camel"):
    id: str = ""
    is_default: bool | None = None


class _IneligibleTier(Struct, rename="camel"):
    reason_code: str = ""
    reason_message: str = ""
    tier_id: str = ""
    validation_url: str | None = None


class _NamedProject(Struct):
    id: str = ""


class _Load(Struct, rename="camel"):
    current_tier: _Tier | None = None
    allowed_tiers: list[_Tier] | None = None
    ineligible_tiers: list[_IneligibleTier] | None = None
    project: str | _NamedProject | None = field(default=None, name="cloudaicompanionProject")


class _Done(Struct):
    project: str | _NamedProject | None = field(default=None, name="cloudaicompanionProject")


class _Fault(Struct):
    message: str = ""


class _Operation(Struct):
    name: str = ""
    done: bool = False
    response: _Done | None = None
    error: _Fault | None = None


_LOAD: Final = msgspec.json.Decoder(_Load)
_OPERATION: Final = msgspec.json.Decoder(_Operation)


def read_load(body: bytes, configured_project: str = "") -> Project | Onboard | Ineligible:
    """Return what an answer of loadCodeAssist means. For bodies of 200, and of the 403 of VPC service controls, which
    hides a working account behind a company's border; other refusals are ``CodeAssist.judge``'s.
    """
    if configured_project.isdigit():
        return Ineligible(
            "NUMERIC_PROJECT", "credentials.project is a project number; Code Assist wants the project id."
        )
    refused = error_body.inside(body)
    if refused is not None and "SECURITY_POLICY_VIOLATED" in refused.reasons:
        return Project(configured_project) if configured_project else _needs_project()
    try:
        load = _LOAD.decode(body)
    except UNREADABLE:
        return Ineligible("UNREADABLE", "Code Assist's answer about the account cannot be read.", parks=False)
    if refused is not None:
        return Ineligible(word(next(iter(refused.reasons), "UNKNOWN")), for_client(refused.message), parks=False)
    if load.current_tier is not None:
        return _settled(load, configured_project)
    return _newcomer(load, configured_project)


def _settled(load: _Load, configured: str) -> Project | Ineligible:
    project = _id_of(load.project) or configured
    return Project(project) if project else _refused(load.ineligible_tiers or ()) or _needs_project()


def _newcomer(load: _Load, configured: str) -> Onboard | Ineligible:
    ineligible = load.ineligible_tiers or ()
    check = next((tier for tier in ineligible if tier.reason_code == "VALIDATION_REQUIRED"), None)
    if check is not None:
        return _refusal(check)
    allowed = load.allowed_tiers or ()
    tier = next((tier.id for tier in allowed if tier.is_default and tier.id), "")
    if not tier and ineligible:
        return _refusal(ineligible[0])
    barred = next((entry for entry in ineligible if entry.tier_id == tier), None)
    if barred is not None:
        return _refusal(barred)
    if tier == FREE_TIER:
        return Onboard(tier)
    if not configured:
        return _refused(ineligible) or _needs_project()
    return Onboard(tier or LEGACY_TIER, configured)


def _refused(tiers: Iterable[_IneligibleTier]) -> Ineligible | None:
    return next((_refusal(tier) for tier in tiers), None)


def _refusal(tier: _IneligibleTier) -> Ineligible:
    reason = word(tier.reason_code) if tier.reason_code else "UNKNOWN"
    return Ineligible(reason, for_client(tier.reason_message), reason != "UNKNOWN", tier.validation_url or "")


def _needs_project() -> Ineligible:
    return Ineligible(
        "PROJECT_REQUIRED",
        "This account has no Google Cloud project of its own; name one in the setting credentials.project.",
    )


def _id_of(project: str | _NamedProject | None) -> str:
    """Return the id; nothing of what is too long for one: it is kept, and sent with every request."""
    found = project.id if isinstance(project, _NamedProject) else project or ""
    return found if len(found) <= _LONGEST_ID else ""


def read_operation(body: bytes, configured_project: str = "") -> Project | Pending | Ineligible:
    """Return the state of an onboarding, from ``onboardUser`` itself or from its operation."""
    try:
        operation = _OPERATION.decode(body)
    except UNREADABLE:
        return Ineligible("UNREADABLE", "Code Assist's answer about the onboarding cannot be read.", parks=False)
    if operation.error is not None:
        return Ineligible("ONBOARDING_FAILED", for_client(operation.error.message), parks=False)
    if not operation.done:
        return Pending(operation.name if len(operation.name) <= _LONGEST_NAME else "")
    project = (_id_of(operation.response.project) if operation.response is not None else "") or configured_project
    return Project(project) if project else _needs_project()


def account_link(body: bytes) -> str:
    """Return the page at which Google wants the account verified, from a 403 of any method; "" if there is none.

    For the operator's terminal only, as ``Ineligible.link``.
    """
    refused = error_body.read(403, {}, body)
    if "VALIDATION_REQUIRED" not in refused.reasons:
        return ""
    return refused.metadata.get("validation_url") or refused.metadata.get("validation_link") or ""
