"""Finding the project of an account: every way the answer can go, once per credential, within bounds."""

from __future__ import annotations

import asyncio
import gc
import logging
import math

import pytest

from gemproxy.credentials.projects import Projects
from gemproxy.credentials.token_errors import TokenRefused
from gemproxy.simulator import Account, AccountState, Hang, Reset, error_answer, unary_answer
from gemproxy.upstream.dialect import Action, Scope, Token
from tests.credentials.token_desk import begin, refusal
from tests.waiting import soon

LOAD, ONBOARD = "/v1internal:loadCodeAssist", "/v1internal:onboardUser"


@pytest.fixture
def account(desk) -> Account:
    return desk.sim.accounts.grant("fake-refresh")


@pytest.fixture
def token(desk, account):
    """Return a function that makes a token of the account, with the project that is configured."""
    return lambda project="": Token(desk.sim.accounts.issue(account), project)


@pytest.fixture
def projects(desk) -> Projects:
    return desk.projects(poll=0.01, patience=2.0)


async def test_an_account_with_a_tier_has_a_project(desk, projects, token):
    assert await projects.find("key", token()) == "sim-project"
    assert desk.asked(LOAD) == 1


async def test_many_who_ask_at_once_search_once(desk, projects, token):
    found = await asyncio.gather(*(projects.find("key", token()) for _ in range(20)))
    assert set(found) == {"sim-project"}
    assert desk.asked(LOAD) == 1


async def test_a_found_project_is_kept_for_later_and_for_others(desk, projects, token):
    for rooms in (projects, projects, desk.projects()):
        assert await rooms.find("key", token()) == "sim-project"
    assert desk.asked(LOAD) == 1
    assert await desk.projects().find("another key", token()) == "sim-project"
    assert desk.asked(LOAD) == 2


async def test_a_new_search_replaces_what_was_kept(desk, projects, account, token):
    await projects.find("key", token())
    account.project = "moved"
    assert await projects.find("key", token()) == "sim-project"
    assert await projects.search("key", token()) == "moved"
    assert await desk.projects().find("key", token()) == "moved"


async def test_what_google_says_of_a_configured_project_is_not_kept(desk, projects, token):
    assert await projects.find("key", token("mine")) == "mine"
    assert await projects.search("key", token("mine")) == "sim-project"
    assert await projects.find("key", token("mine")) == "sim-project"
    projects.forget()
    assert await projects.find("key", token("mine")) == "mine"
    assert await desk.state.project("key") == ""


async def test_two_slots_of_one_grant_keep_their_own_projects(desk, projects, token):
    assert await projects.find("key", token("mine")) == "mine"
    assert await projects.find("key", token("yours")) == "yours"
    assert await projects.find("key", token()) == "sim-project"


async def test_a_newcomer_is_onboarded_and_waited_for(desk, projects, account, token):
    account.tier, account.polls = "", 3
    assert await projects.find("key", token()) == "sim-project"
    paths = [request.path for request in desk.sim.requests]
    assert paths[:2] == [LOAD, ONBOARD]
    assert paths[2:] == ["/v1internal/operations/sim-onboard-1"] * 3
    assert "cloudaicompanionProject" not in desk.sim.requests[1].json()


async def test_an_onboarding_without_a_name_is_asked_for_again(desk, projects, account, token):
    account.tier = ""
    desk.sim.script(unary_answer({"done": False}), method="onboardUser")
    account.polls = 0
    assert await projects.find("key", token()) == "sim-project"
    assert desk.asked(ONBOARD) == 2


async def test_an_onboarding_that_never_ends_is_given_up(desk, account, token):
    account.tier, account.polls = "", 10_000
    verdict = await refusal(desk.projects(poll=0.01, patience=0.1).find("key", token()))
    assert (verdict.action, verdict.scope, verdict.until) == (Action.NEXT, Scope.CREDENTIAL, None)
    assert verdict.reason == "project_unknown"


async def test_an_account_behind_a_company_border_uses_the_configured_project(projects, account, token):
    account.state = AccountState.SECURITY_POLICY
    assert await projects.search("key", token("mine")) == "mine"


@pytest.mark.parametrize(
    ("state", "own_project", "reason"),
    [
        (AccountState.UNSUPPORTED_CLIENT, False, "unsupported_client"),
        (AccountState.VALIDATION, False, "validation_required"),
        (AccountState.SECURITY_POLICY, False, "project_required"),
        (AccountState.OK, True, "project_required"),
    ],
    ids=["client refused", "account to be verified", "company border", "no project told"],
)
async def test_an_account_that_only_its_operator_can_mend_is_parked(
    projects, account, token, state, own_project, reason
):
    account.state, account.own_project = state, own_project
    verdict = await refusal(projects.find("key", token()))
    assert (verdict.scope, verdict.until, verdict.reason) == (Scope.CREDENTIAL, math.inf, reason)
    assert (verdict.status, verdict.code) == (503, "no_upstream_credentials")


async def test_the_link_to_verify_an_account_stays_out_of_words(projects, account, token, caplog):
    account.state = AccountState.VALIDATION
    with caplog.at_level(logging.DEBUG), pytest.raises(TokenRefused) as caught:
        await projects.find("key", token())
    refused = caught.value
    assert "plt=" in refused.link
    assert "plt=" not in f"{refused!r} {refused} {refused.detail} {refused.verdict} {caplog.text}"


@pytest.mark.parametrize(
    ("answer", "scope", "rests", "words"),
    [
        (error_answer(503, b"<html>"), Scope.CREDENTIAL, None, "status 503"),
        (error_answer(400, "Unknown name"), Scope.CREDENTIAL, None, "status 400"),
        (error_answer(404, "Not found"), Scope.CREDENTIAL, None, "status 404"),
        (error_answer(429, "Please retry in 20s."), Scope.CREDENTIAL, 20.0, "status 429"),
        (error_answer(302, b"", headers={"Location": "http://127.0.0.1:9/"}), Scope.CREDENTIAL, None, "status 302"),
        (unary_answer(b"nonsense"), Scope.CREDENTIAL, None, "does not serve"),
        (unary_answer({}).after(Reset()), Scope.UPSTREAM, None, "gave no answer"),
    ],
    ids=["503", "a field it does not know", "404", "a quota", "a redirect", "nonsense", "reset"],
)
async def test_a_search_that_fails_for_now_parks_nobody(desk, projects, token, answer, scope, rests, words):
    desk.sim.script(answer, method="loadCodeAssist")
    verdict = await refusal(projects.find("key", token()))
    assert (verdict.action, verdict.scope, verdict.status) == (Action.NEXT, scope, 503)
    assert verdict.until == (rests and desk.clock.now + rests)
    assert words in verdict.message
    assert await projects.find("key", token()) == "sim-project"


async def test_a_dead_token_is_told_as_one(projects):
    assert (await refusal(projects.find("key", Token("sim-access-unknown")))).action is Action.REFRESH


async def test_one_who_leaves_takes_nobodys_search_away(desk, projects, account, token):
    desk.sim.script(unary_answer({}).after(Hang()), method="loadCodeAssist")
    given = token()
    leaver, stayer = begin(projects.find("key", given)), begin(projects.find("key", given))
    await soon(lambda: desk.asked(LOAD))
    leaver.cancel()
    await asyncio.sleep(0.02)
    assert not stayer.done()
    projects.close()
    with pytest.raises(asyncio.CancelledError):
        await stayer
    assert desk.asked(LOAD) == 1


async def test_a_search_that_nobody_waits_for_fails_in_silence(desk, projects, token, caplog):
    desk.sim.script(error_answer(503, b""), method="loadCodeAssist")
    leaver = begin(projects.find("key", token()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaver.cancel()
    await soon(lambda: "project discovery" not in {task.get_name() for task in asyncio.all_tasks()})
    assert desk.asked(LOAD) == 1
    await asyncio.sleep(0)  # what is done with a task that is done
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert await projects.find("key", token()) == "sim-project"
