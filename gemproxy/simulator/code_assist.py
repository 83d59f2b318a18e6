"""Code Assist besides generation: tiers, projects, onboarding, quota (docs/protocol.md 2.4, 2.5, 3.3).

In: an account and a decoded body. Out: the answer's JSON, or a ``Refusal``. Must not look at contents or tools.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from gemproxy.simulator import google_errors as errors
from gemproxy.simulator.accounts import Account, AccountState
from gemproxy.simulator.google_errors import Refusal

DOMAIN = "cloudcode-pa.googleapis.com"
_TIERS = {
    "free-tier": "Gemini Code Assist for individuals",
    "standard-tier": "Gemini Code Assist",
    "legacy-tier": "Gemini Code Assist (legacy)",
}
_UNSUPPORTED = (
    "This client is no longer supported for Gemini Code Assist for individuals. To continue using Gemini, please "
    "migrate to the Antigravity suite of products."
)
_VERIFY_URL = "https://accounts.google.com/signin/continue?sarp=1&scc=1&plt=SIM-ONE-TIME&flowName=GlifWebSignIn"


class Operation(Struct):
    """An onboarding that is under way: done after ``left`` more looks."""

    account: Account
    tier: str
    project: str
    left: int


class Onboarding:
    """Discovery and onboarding of accounts; remembers the operations that run."""

    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}

    def load(self, account: Account) -> dict[str, Any]:
        """Answer ``loadCodeAssist``; refusals of eligibility come as 200 (docs/protocol.md S13)."""
        if account.state is AccountState.SECURITY_POLICY:
            raise errors.denied("Request is prohibited by organization's policy.", "SECURITY_POLICY_VIOLATED")
        if account.state is AccountState.UNSUPPORTED_CLIENT:
            return {"allowedTiers": [_tier("standard-tier", own=True)], "ineligibleTiers": [_ineligible(account)]}
        if account.state is AccountState.VALIDATION:
            return {"allowedTiers": [_tier("free-tier")], "ineligibleTiers": [_ineligible(account)]}
        if not account.tier:
            return {"allowedTiers": [_tier("free-tier", default=True), _tier("standard-tier", own=True)]}
        answer = {"currentTier": _tier(account.tier), "allowedTiers": [_tier(account.tier, default=True)]}
        return answer if account.own_project else {**answer, "cloudaicompanionProject": account.project}

    def onboard(self, account: Account, body: dict[str, Any]) -> dict[str, Any]:
        """Answer ``onboardUser`` with an operation."""
        tier, project = body.get("tierId", ""), body.get("cloudaicompanionProject", "")
        if tier not in _TIERS:
            raise errors.invalid(f"Invalid tier id: {tier}")
        if (tier == "free-tier") == bool(project):
            raise Refusal(400, "Precondition check failed.", name="FAILED_PRECONDITION")
        name = f"operations/sim-onboard-{len(self.operations) + 1}"
        self.operations[name] = Operation(account, tier, project or account.project, account.polls)
        return self._view(name)

    def operation(self, name: str) -> dict[str, Any]:
        """Answer one look at an operation."""
        if name not in self.operations:
            raise errors.unknown_entity()
        self.operations[name].left -= 1
        return self._view(name)

    def _view(self, name: str) -> dict[str, Any]:
        operation = self.operations[name]
        if operation.left > 0:
            return {"name": name, "done": False}
        operation.account.tier, operation.account.project = operation.tier, operation.project
        project = {"id": operation.project, "name": operation.project, "projectNumber": "000000000000"}
        kind = "type.googleapis.com/google.internal.cloud.code.v1internal.OnboardUserResponse"
        return {"name": name, "done": True, "response": {"@type": kind, "cloudaicompanionProject": project}}


def _tier(id: str, *, default: bool = False, own: bool = False) -> dict[str, Any]:  # noqa: A002 - Google's own key
    tier: dict[str, Any] = {"id": id, "name": _TIERS.get(id, id)}
    if default:
        tier["isDefault"] = True
    if own:
        tier["userDefinedCloudaicompanionProject"] = True
    return tier


def _ineligible(account: Account) -> dict[str, Any]:
    tier = {"tierId": "free-tier", "tierName": _TIERS["free-tier"]}
    if account.state is AccountState.VALIDATION:
        return {
            "reasonCode": "VALIDATION_REQUIRED",
            "reasonMessage": "Verify your account to continue.",
            "validationUrl": _VERIFY_URL,
            **tier,
        }
    return {"reasonCode": "UNSUPPORTED_CLIENT", "reasonMessage": _UNSUPPORTED, **tier}


# ------------------------------------------------------------------------------------------------ may it generate?


def check(account: Account, project: str, model: str, now: float) -> None:
    """Raise ``Refusal`` when this account may not ask this model with this project."""
    if account.state in _REFUSALS:
        raise _REFUSALS[account.state](account, model, now)
    if project != account.project or not account.tier:
        raise errors.denied(
            f"Permission denied on resource project {project or 'default'}.",
            "CONSUMER_INVALID",
            containerInfo=project,
            consumer=f"projects/{project}",
            service="cloudaicompanion.googleapis.com",
        )


def _stamp(now: float, seconds: float) -> str:
    return (datetime.fromtimestamp(now, UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def _unlicensed(account: Account, model: str, now: float) -> Refusal:
    return Refusal(
        403,
        "You do not have a valid license of this product. Please contact your administrator. (#3501)",
        errors.info("SUBSCRIPTION_REQUIRED", "cloudaicompanion.googleapis.com", uiMessage="true", error_number="1001"),
        errors.links("Request a license", "https://cloud.google.com/gemini/docs/codeassist/request-license"),
    )


def _validation(account: Account, model: str, now: float) -> Refusal:
    return Refusal(
        403,
        f"To continue, verify your account at\n\n{_VERIFY_URL}\n\nLearn more\n\nhttps://support.google.com/accounts\n",
        errors.info("VALIDATION_REQUIRED", DOMAIN, validation_url=_VERIFY_URL, validation_link=_VERIFY_URL),
        errors.links("Verify your account", _VERIFY_URL),
    )


def _disabled(account: Account, model: str, now: float) -> Refusal:
    return errors.denied(
        f"Gemini for Google Cloud API has not been used in project {account.project} before or it is disabled.",
        "SERVICE_DISABLED",
        consumer=f"projects/{account.project}",
        service="cloudaicompanion.googleapis.com",
    )


def _unpermitted(account: Account, model: str, now: float) -> Refusal:
    return errors.denied(
        "Permission 'cloudaicompanion.companions.generateChat' denied on resource "
        f"'//cloudaicompanion.googleapis.com/projects/{account.project}/locations/global' (or it may not exist).",
        "IAM_PERMISSION_DENIED",
        "cloudaicompanion.googleapis.com",
        permission="cloudaicompanion.companions.generateChat",
        resource=f"projects/{account.project}/locations/global",
    )


_REFUSALS: dict[AccountState, Callable[[Account, str, float], Refusal]] = {
    AccountState.UNSUPPORTED_CLIENT: _unlicensed,
    AccountState.VALIDATION: _validation,
    AccountState.SERVICE_DISABLED: _disabled,
    AccountState.NO_PERMISSION: _unpermitted,
    AccountState.NOT_NAMED: lambda *_: errors.denied(
        "You must be a named user on your organization's\nGemini Code Assist Standard edition subscription to use this "
        "service. Please contact your\nadministrator to request an entitlement to Gemini Code Assist Standard edition."
    ),
    AccountState.RATE_LIMITED: lambda _, model, now: errors.code_assist_quota(
        model, "RATE_LIMIT_EXCEEDED", delay="539.477544ms", resets=_stamp(now, 0.539), text="0s"
    ),
    AccountState.EXHAUSTED: lambda _, model, now: errors.code_assist_quota(
        model, "QUOTA_EXHAUSTED", delay="4h28m20.5s", resets=_stamp(now, 16100.5), text="4h28m20s"
    ),
    AccountState.NO_CAPACITY: lambda _, model, __: errors.no_capacity(model),
}


def quota(account: Account, models: list[str], now: float) -> dict[str, Any]:
    """Answer ``retrieveUserQuota``: what is left per model, until midnight UTC."""
    left = 0.0 if account.state is AccountState.EXHAUSTED else 0.75
    resets = _stamp(now - now % 86400, 86400)
    fields = {"tokenType": "REQUESTS", "remainingFraction": left, "resetTime": resets}
    return {"buckets": [{"modelId": model, **fields} for model in models]}
