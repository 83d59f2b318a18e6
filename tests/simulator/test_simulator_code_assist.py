"""Code Assist besides generation: tiers, projects, onboarding, quota, and who may generate."""

from __future__ import annotations

from typing import Any

import pytest

from gemproxy.simulator import Account, AccountState, Answer
from gemproxy.simulator.google import Google
from tests.simulator.asking import FLASH, google, post, read, refused, request, user

BODY = {"contents": [user()]}
META = {"ideType": "IDE_UNSPECIFIED", "platform": "PLATFORM_UNSPECIFIED", "pluginType": "GEMINI"}


def ask(target: Google, account: Account, call: str, body: Any = b"", verb: str = "POST") -> Answer:
    headers = {"Authorization": f"Bearer {target.accounts.issue(account)}"}
    return target.answer(request(verb, f"/v1internal{call}", body, **headers))


def made(target: Google, **fields: Any) -> Account:
    return target.accounts.add(Account("fake-refresh-1", **fields))


def load(target: Google, account: Account) -> Any:
    return read(ask(target, account, ":loadCodeAssist", {"metadata": META}))


def test_licensed_account_learns_its_project() -> None:
    target = google()
    found = load(target, made(target))
    assert found["currentTier"]["id"] == "standard-tier"
    assert found["cloudaicompanionProject"] == "sim-project"


def test_account_with_a_project_of_its_own_is_not_told_it() -> None:
    target = google()
    found = load(target, made(target, own_project=True))
    assert found["currentTier"]["id"] == "standard-tier"
    assert "cloudaicompanionProject" not in found


@pytest.mark.parametrize(
    ("state", "reason"),
    [(AccountState.UNSUPPORTED_CLIENT, "UNSUPPORTED_CLIENT"), (AccountState.VALIDATION, "VALIDATION_REQUIRED")],
)
def test_ineligible_account_is_told_why_with_200(state: AccountState, reason: str) -> None:
    target = google()
    found = load(target, made(target, state=state))
    assert found["ineligibleTiers"][0]["reasonCode"] == reason
    assert "currentTier" not in found
    assert "cloudaicompanionProject" not in found


def test_security_policy_refuses_discovery() -> None:
    target = google()
    answer = ask(target, made(target, state=AccountState.SECURITY_POLICY), ":loadCodeAssist", {})
    assert answer.status == 403
    assert read(answer)["error"]["details"][0]["reason"] == "SECURITY_POLICY_VIOLATED"


@pytest.mark.parametrize("polls", [0, 1, 3])
def test_onboarding_takes_as_many_looks_as_it_was_told(polls: int) -> None:
    target = google()
    account = made(target, tier="", polls=polls)
    assert load(target, account)["allowedTiers"][0] == {
        "id": "free-tier",
        "name": "Gemini Code Assist for individuals",
        "isDefault": True,
    }
    operation = read(ask(target, account, ":onboardUser", {"tierId": "free-tier", "metadata": META}))
    looks = 0
    while not operation["done"]:
        operation = read(ask(target, account, "/" + operation["name"], verb="GET"))
        looks += 1
    assert looks == polls
    assert operation["response"]["cloudaicompanionProject"]["id"] == "sim-project"
    assert load(target, account)["currentTier"]["id"] == "free-tier"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"tierId": "free-tier", "cloudaicompanionProject": "mine"}, "FAILED_PRECONDITION"),
        ({"tierId": "standard-tier"}, "FAILED_PRECONDITION"),
        ({"tierId": "golden-tier"}, "INVALID_ARGUMENT"),
        ({"tierId": "free-tier", "duetProject": "x"}, "INVALID_ARGUMENT"),
    ],
)
def test_bad_onboarding_is_refused(body: dict[str, Any], status: str) -> None:
    target = google()
    answer = ask(target, made(target, tier=""), ":onboardUser", body)
    assert answer.status == 400
    assert read(answer)["error"]["status"] == status


def test_standard_tier_is_onboarded_with_a_project() -> None:
    target = google()
    account = made(target, tier="", polls=0)
    body = {"tierId": "standard-tier", "cloudaicompanionProject": "mine"}
    assert read(ask(target, account, ":onboardUser", body))["done"] is True
    assert account.project == "mine"


@pytest.mark.parametrize("call", ["/operations/unknown", ":fetchAdminControls"])
def test_unknown_operation_and_method_are_not_found(call: str) -> None:
    target = google()
    verb = "GET" if call.startswith("/") else "POST"
    answer = ask(target, made(target), call, {}, verb)
    assert refused(answer) == (404, "Requested entity was not found.")


@pytest.mark.parametrize(("state", "left"), [(AccountState.OK, 0.75), (AccountState.EXHAUSTED, 0.0)])
def test_quota_is_told_per_model(state: AccountState, left: float) -> None:
    target = google()
    buckets = read(ask(target, made(target, state=state), ":retrieveUserQuota", {"project": "sim-project"}))["buckets"]
    (bucket,) = [bucket for bucket in buckets if bucket["modelId"] == FLASH]
    assert bucket["remainingFraction"] == left
    assert bucket["resetTime"] == "2027-01-16T00:00:00Z"


def test_tokens_are_counted_for_the_long_name_only() -> None:
    target = google()
    account = made(target)
    body = {"request": {"model": f"models/{FLASH}", "contents": [user("one two three")]}}
    assert read(ask(target, account, ":countTokens", body))["totalTokens"] == 3
    body["request"]["model"] = FLASH
    assert ask(target, account, ":countTokens", body).status == 404


# ------------------------------------------------------------------------------------------------ may it generate?

STATES: list[tuple[AccountState, int, str]] = [
    (AccountState.UNSUPPORTED_CLIENT, 403, "SUBSCRIPTION_REQUIRED"),
    (AccountState.VALIDATION, 403, "VALIDATION_REQUIRED"),
    (AccountState.NOT_NAMED, 403, "You must be a named user on your organization's\nGemini Code Assist"),
    (AccountState.SERVICE_DISABLED, 403, "SERVICE_DISABLED"),
    (AccountState.NO_PERMISSION, 403, "IAM_PERMISSION_DENIED"),
    (AccountState.RATE_LIMITED, 429, "RATE_LIMIT_EXCEEDED"),
    (AccountState.EXHAUSTED, 429, "QUOTA_EXHAUSTED"),
    (AccountState.NO_CAPACITY, 503, "MODEL_CAPACITY_EXHAUSTED"),
]


@pytest.mark.parametrize(("state", "status", "words"), STATES)
def test_account_is_refused_as_its_state_says(state: AccountState, status: int, words: str) -> None:
    target = google()
    made(target, state=state)
    answer = post(target, BODY, upstream="code_assist")
    error = read(answer)["error"]
    assert answer.status == error["code"] == status
    assert words in error["message"] + str(error.get("details"))


def test_quota_tells_when_it_returns_in_three_places() -> None:
    target = google()
    made(target, state=AccountState.EXHAUSTED)
    error = read(post(target, BODY, upstream="code_assist"))["error"]
    assert error["message"].endswith("Your quota will reset after 4h28m20s.")
    metadata = error["details"][0]["metadata"]
    assert metadata["quotaResetDelay"] == error["details"][1]["retryDelay"] == "4h28m20.5s"
    assert metadata["quotaResetTimeStamp"].startswith("2027-01-15T12:28:20.5")


@pytest.mark.parametrize("project", ["", "default-project"])
def test_wrong_project_is_refused(project: str) -> None:
    answer = post(google(), BODY, upstream="code_assist", project=project)
    assert answer.status == 403
    assert read(answer)["error"]["details"][0]["reason"] == "CONSUMER_INVALID"


def test_account_that_was_not_onboarded_may_not_generate() -> None:
    target = google()
    made(target, tier="")
    assert post(target, BODY, upstream="code_assist").status == 403


@pytest.mark.parametrize("name", ["gemini-3-flash", "gemini-3-pro-preview", FLASH])
def test_code_assist_knows_its_own_names(name: str) -> None:
    assert post(google(), BODY, upstream="code_assist", name=name).status == 200


def test_unknown_model_is_an_unknown_entity() -> None:
    answer = post(google(), BODY, upstream="code_assist", name="gemini-9")
    assert refused(answer) == (404, "Requested entity was not found.")
