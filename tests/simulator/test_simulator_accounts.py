"""Keys and tokens: what is the matter with each, in Google's words."""

from __future__ import annotations

from typing import Any

import pytest

from gemproxy.simulator import Account, AccountState, KeyState
from gemproxy.simulator.accounts import Accounts
from tests.clock import Clock
from tests.simulator.asking import FLASH, google, post, read, refused, request, user

KEY = "test-key-1"
BODY = {"contents": [user()]}

STATES: list[tuple[KeyState, int, str, str]] = [
    (KeyState.INVALID, 400, "API key not valid. Please pass a valid API key.", "API_KEY_INVALID"),
    (KeyState.EXPIRED, 400, "API key expired. Please renew the API key.", "API_KEY_INVALID"),
    (KeyState.LEAKED, 403, "Your API key was reported as leaked.", ""),
    (KeyState.DENIED, 403, "Your project has been denied access.", ""),
    (KeyState.BLOCKED, 403, "are blocked.", "API_KEY_SERVICE_BLOCKED"),
    (KeyState.SUSPENDED, 403, f"Consumer 'api_key:{KEY}' has been suspended.", "CONSUMER_SUSPENDED"),
    (KeyState.LOCATION, 400, "User location is not supported for the API use.", ""),
    (KeyState.NO_CREDITS, 402, "prepayment credits are depleted", ""),
    (KeyState.PER_MINUTE, 429, "Please retry in 41.2s.", "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
    (KeyState.PER_DAY, 429, "limit: 20, model: gemini-3.8-flash", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
    (
        KeyState.LIMIT_ZERO,
        429,
        "limit: 0, model: gemini-3.8-flash",
        "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
    ),
    (KeyState.EXHAUSTED, 429, "Resource has been exhausted (e.g. check quota).", ""),
    (KeyState.FREE_TIER_GONE, 404, f"models/{FLASH} is no longer available to new users", ""),
]


@pytest.mark.parametrize(("state", "status", "words", "reason"), STATES)
def test_key_is_refused_as_its_state_says(state: KeyState, status: int, words: str, reason: str) -> None:
    target = google()
    target.keys[KEY] = state
    answer = post(target, BODY)
    found, message = refused(answer)
    assert found == status
    assert words in message
    details = read(answer)["error"].get("details", [])
    assert bool(details) == bool(reason)
    assert reason in str(details)
    assert post(target, BODY, key="test-key-2").status == 200


def test_daily_quota_carries_a_delay_of_seconds_all_the_same() -> None:
    target = google()
    target.keys[KEY] = KeyState.PER_DAY
    failure, _, retry = read(post(target, BODY))["error"]["details"]
    assert failure["violations"][0]["quotaValue"] == "20"
    assert retry["retryDelay"] == "38.90923309s"


def test_quota_of_a_model_does_not_touch_free_calls() -> None:
    target = google()
    target.keys[KEY] = KeyState.PER_DAY
    assert target.answer(request("GET", "/v1beta/models", **{"x-goog-api-key": KEY})).status == 200
    target.keys[KEY] = KeyState.LEAKED
    assert target.answer(request("GET", "/v1beta/models", **{"x-goog-api-key": KEY})).status == 403


def test_request_without_a_key_is_unregistered() -> None:
    status, message = refused(post(google(), BODY, key=""))
    assert status == 403
    assert message.startswith("Method doesn't allow unregistered callers")


def test_key_may_come_in_the_query() -> None:
    target = google()
    target.keys[KEY] = KeyState.INVALID
    assert target.answer(request("GET", f"/v1beta/models?key={KEY}")).status == 400


def test_only_declared_keys_count_when_only_they_are_known() -> None:
    target = google()
    target.accounts.known_only = True
    target.keys["test-key-2"] = KeyState.OK
    assert post(target, BODY).status == 400
    assert post(target, BODY, key="test-key-2").status == 200


def test_access_token_is_no_key() -> None:
    target = google()
    account = target.accounts.add(Account("fake-refresh-1"))
    bearer = f"Bearer {target.accounts.issue(account)}"
    answer = target.answer(request("GET", "/v1beta/models", Authorization=bearer))
    assert refused(answer) == (403, "Request had insufficient authentication scopes.")


# ------------------------------------------------------------------------------------------------ access tokens


def generate(target: Any, token: str) -> int:
    body = {"model": FLASH, "project": "sim-project", "request": BODY}
    status: int = target.answer(
        request("POST", "/v1internal:generateContent", body, Authorization=f"Bearer {token}")
    ).status
    return status


def test_token_ends_with_its_time() -> None:
    target, clock = google(), Clock()
    target.accounts.clock = clock
    token = target.accounts.issue(target.accounts.add(Account("fake-refresh-1")), expires_in=10)
    assert generate(target, token) == 200
    clock.now += 10
    assert generate(target, token) == 401


def test_unknown_revoked_and_ended_tokens_are_unauthenticated() -> None:
    target = google()
    account = target.accounts.add(Account("fake-refresh-1"))
    token = target.accounts.issue(account)
    assert generate(target, "fake-token") == 401
    assert generate(target, "") == 401
    account.state = AccountState.REVOKED
    assert generate(target, token) == 401
    account.state = AccountState.OK
    assert generate(target, token) == 200
    target.accounts.expire_all()
    assert generate(target, token) == 401


def test_tokens_never_repeat() -> None:
    accounts = Accounts(Clock())
    account = accounts.add(Account("fake-refresh-1"))
    assert len({accounts.issue(account) for _ in range(5)}) == 5


def test_rotated_refresh_token_takes_the_place_of_the_old_one() -> None:
    accounts = Accounts(Clock())
    account = accounts.add(Account("fake-refresh-1"))
    fresh = accounts.rotate("fake-refresh-1")
    assert accounts.grant(fresh) is account
    assert accounts.grant("fake-refresh-1") is None
