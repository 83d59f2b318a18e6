"""Tokens against the simulated Google: refreshes, rotation, refusals, outages, other processes, reloads."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import math
import sqlite3
import sys

import google.auth
import msgspec
import pytest
from aiohttp import web
from google.auth import environment_vars

from gemproxy.credentials.sources import OAuthSource, ServiceAccountSource, read_oauth
from gemproxy.credentials.token_cache import BACKOFF
from gemproxy.credentials.tokens import TokenView
from gemproxy.simulator import AccountState, Answer, Hang, Pause, Reset, Wait, error_answer, unary_answer
from gemproxy.state.opening import open_state
from gemproxy.state.store import Grant
from gemproxy.upstream.dialect import Action, HttpRequest, Scope, Token
from tests.credentials.token_desk import CLIENT, KEY, SECRET, begin, prints, refusal
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time

WORD = {"error": "invalid_grant", "error_description": "Token fake-refresh of nobody@example.invalid has been revoked."}


# --------------------------------------------------------------------------------------------------------- keys


async def test_a_key_is_its_own_token(desk):
    tokens = desk.tokens(KEY)
    assert await tokens.get("team-1") == await tokens.check("team-1") == await tokens.rediscover("team-1")
    assert (await tokens.get("team-1")).secret == "test-key-1"
    assert tokens.view("team-1") == TokenView(True, None)
    assert desk.sim.requests == []


async def test_a_refused_key_cannot_be_refreshed(desk):
    verdict = await refusal(desk.tokens(KEY).refresh("team-1", Token("test-key-1")))
    assert (verdict.scope, verdict.until) == (Scope.CREDENTIAL, math.inf)


async def test_a_slot_that_a_reload_removed_serves_nobody(desk):
    tokens = desk.tokens(KEY)
    tokens.replace({}, {})
    for work in (tokens.get("team-1"), tokens.check("team-1"), tokens.refresh("team-1", Token("x"))):
        assert (await refusal(work)).scope is Scope.NONE
    assert tokens.view("team-1") == TokenView(False, None)


# ---------------------------------------------------------------------------------------------------- one refresh


async def test_fifty_requests_at_once_make_one_refresh_and_one_discovery(desk):
    tokens = desk.tokens(desk.oauth())
    given = await asyncio.gather(*(tokens.get("team-1") for _ in range(50)))
    assert {(token.secret, token.project) for token in given} == {("sim-access-1", "sim-project")}
    assert (desk.asked(), desk.asked("/v1internal:loadCodeAssist")) == (1, 1)
    form = desk.sim.requests[0].body.decode()
    assert all(part in form for part in ("grant_type=refresh_token", f"client_id={CLIENT}", f"client_secret={SECRET}"))
    assert tokens.view("team-1") == TokenView(True, 3599.0)


async def test_a_rotated_refresh_token_is_on_disk_before_the_access_token_is_used(desk, tmp_path):
    path = tmp_path / "state.db"
    desk.state = await open_state(path, desk.clock)
    rotated = {"access_token": "fake-access", "refresh_token": "fake-rotated", "expires_in": 3599}
    desk.sim.script(unary_answer(rotated), method="token")
    reading = begin(desk.tokens(desk.oauth(project="acme")).get("team-1"))
    on_disk = []

    def look(_):  # the very moment it is there: whatever kills the process now
        with contextlib.closing(sqlite3.connect(path)) as db:
            on_disk.extend(db.execute("SELECT access, refresh FROM grants").fetchall())

    reading.add_done_callback(look)
    await reading
    await asyncio.sleep(0)
    await desk.state.close()
    assert on_disk == [("fake-access", "fake-rotated")]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"access_token": "fake\r\nx-evil: 1"}, id="a token of two lines"),
        pytest.param({"access_token": "f\u00e4ke"}, id="a token that is no ASCII"),
        pytest.param({"access_token": "x" * 100_000}, id="a token that no header holds"),
        pytest.param({"access_token": ["fake"]}, id="a token that is a list"),
        pytest.param({"access_token": "fake", "expires_in": 10**30}, id="a token beyond all time"),
    ],
)
async def test_what_cannot_be_a_token_is_no_answer(desk, answer):
    desk.sim.script(unary_answer({"expires_in": 3599} | answer), method="token", times=3)
    verdict = await refusal(desk.tokens(desk.oauth()).get("team-1"))
    assert (verdict.scope, verdict.reason) == (Scope.UPSTREAM, "token_unavailable")
    assert len(verdict.message) < 200


@pytest.mark.parametrize("rotated", ["two\nlines", "x" * 100_000, 7, ["fake"]])
async def test_what_cannot_be_a_refresh_token_replaces_none(desk, rotated):
    answer = {"access_token": "fake-access", "expires_in": 3599, "refresh_token": rotated}
    desk.sim.script(unary_answer(answer), method="token")
    source = desk.oauth(project="acme")
    assert (await desk.tokens(source).get("team-1")).secret == "fake-access"
    assert (await desk.state.grant(read_oauth(source).key)).refresh == ""


async def test_a_token_in_the_file_that_still_lives_needs_no_refresh(desk):
    living = desk.sim.accounts.issue(desk.sim.accounts.grant("fake-refresh"))
    source = desk.oauth(access_token=living, expiry_date=(desk.clock.now + 3000) * 1000)
    assert (await desk.tokens(source).get("team-1")).secret == living
    assert desk.asked() == 0


async def test_a_token_in_the_file_that_is_near_its_end_is_refreshed(desk):
    source = desk.oauth(access_token="fake-old", expiry_date=(desk.clock.now + 60) * 1000)
    assert (await desk.tokens(source).get("team-1")).secret == "sim-access-1"


async def test_an_early_refresh_runs_behind_the_requests(desk):
    tokens = desk.tokens(desk.oauth())
    await tokens.get("team-1")
    desk.clock.advance(3400)
    assert [(await tokens.get("team-1")).secret for _ in range(5)] == ["sim-access-1"] * 5
    await soon(lambda: tokens.view("team-1").seconds_left > 1000)
    assert (await tokens.get("team-1")).secret == "sim-access-2"
    assert desk.asked() == 2


async def test_a_401_brings_a_new_token_once_for_all(desk):
    tokens = desk.tokens(desk.oauth())
    stale = await tokens.get("team-1")
    given = await asyncio.gather(*(tokens.refresh("team-1", stale) for _ in range(20)))
    assert {token.secret for token in given} == {"sim-access-2"}
    assert {token.project for token in given} == {"sim-project"}
    assert desk.asked() == 2


async def test_a_check_authenticates_anew_whatever_is_at_hand(desk):
    tokens = desk.tokens(desk.oauth())
    await tokens.get("team-1")
    assert (await tokens.check("team-1")).secret == "sim-access-2"
    assert (await tokens.get("team-1")).secret == "sim-access-2"


async def test_the_loop_runs_on_while_a_refresh_takes_its_time(desk):
    import google.oauth2.credentials  # noqa: F401 - its import is another matter

    gate = asyncio.Event()
    desk.sim.script(
        unary_answer({"access_token": "fake", "expires_in": 3600}).after(Wait(gate)), method="token", times=2
    )
    tokens = desk.tokens({"slow": desk.oauth("a-project"), "robot": desk.robot()})
    work = asyncio.gather(tokens.check("slow"), tokens.check("robot"))
    await soon(lambda: desk.asked() == 2)  # a refresh that held the loop would keep the other, and us, from going on
    gate.set()
    assert [token.secret for token in await work] == ["fake", "fake"]


async def test_closing_does_not_wait_for_a_refresh_that_hangs(desk):
    desk.sim.token_delay = 60
    tokens = desk.tokens(desk.oauth())
    waiting = begin(tokens.get("team-1"))
    await soon(desk.asked)
    tokens.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# ------------------------------------------------------------------------------------------------------- rotation


async def test_the_old_refresh_token_is_kept_when_none_comes(desk):
    tokens = desk.tokens(desk.oauth())
    for _ in range(3):
        await tokens.check("team-1")
    assert desk.sim.refreshes == {"fake-refresh": 3}


async def test_a_rotated_refresh_token_is_used_from_then_on_and_after_a_restart(desk):
    account = desk.sim.accounts.grant("fake-refresh")
    account.rotates = True
    await desk.tokens(desk.oauth()).check("team-1")
    await desk.tokens(desk.oauth()).check("team-1")
    account.rotates = False
    await desk.tokens(desk.oauth()).check("team-1")
    assert desk.sim.refreshes[account.name] == 3
    assert b"fake-refresh" not in desk.sim.requests[-1].body


async def test_a_process_that_missed_a_rotation_finds_it_in_the_state(desk):
    account = desk.sim.accounts.grant("fake-refresh")
    account.rotates = True
    one, two = desk.tokens(desk.oauth()), desk.tokens(desk.oauth())
    await asyncio.gather(one.check("team-1"), two.check("team-1"))  # both hold the same refresh token
    await one.check("team-1")
    await two.check("team-1")
    assert desk.sim.refreshes[account.name] == 4


async def test_a_new_login_is_found_without_a_reload(desk):
    tokens = desk.tokens(desk.oauth())
    await tokens.get("team-1")
    desk.sim.accounts.grant("fake-refresh").state = AccountState.REVOKED
    desk.file(refresh_token="fake-newer")
    assert (await tokens.check("team-1")).secret == "sim-access-2"


async def test_a_clock_that_went_back_loses_no_rotated_token(desk):
    account = desk.sim.accounts.grant("fake-refresh")
    account.rotates = True
    await desk.tokens(desk.oauth()).check("team-1")
    desk.clock.advance(-7200)
    await desk.tokens(desk.oauth()).check("team-1")
    await desk.tokens(desk.oauth()).check("team-1")
    assert desk.sim.refreshes[account.name] == 3


# -------------------------------------------------------------------------------------------------- other processes


async def test_a_token_of_another_process_is_taken_over(desk):
    first = await desk.tokens(desk.oauth()).get("team-1")
    assert await desk.tokens(desk.oauth()).get("team-1") == first
    assert (desk.asked(), desk.asked("/v1internal:loadCodeAssist")) == (1, 1)


@pytest.mark.parametrize("kind", ["oauth", "robot"])
async def test_two_that_hold_a_revoked_token_get_another_though_a_renewal_fails(desk, kind):
    tokens = desk.tokens(desk.oauth() if kind == "oauth" else desk.robot())
    stale = await tokens.get("team-1")
    desk.sim.script(error_answer(503, b""), method="token", times=3)
    assert (await refusal(tokens.refresh("team-1", stale))).scope is Scope.UPSTREAM
    desk.clock.advance(BACKOFF)
    asking = begin(tokens.get("team-1"))
    await asyncio.sleep(0)
    renewed = await tokens.refresh("team-1", stale)
    assert renewed.secret != stale.secret
    assert (await asking).secret == renewed.secret


async def test_a_token_that_was_refused_is_not_taken_from_the_state_again(desk):
    stale = await desk.tokens(desk.oauth()).get("team-1")
    tokens = desk.tokens(desk.oauth())
    await tokens.get("team-1")
    assert (await tokens.refresh("team-1", stale)).secret == "sim-access-2"


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("lives", [False, True], ids=["at the first token", "after a good one"])
async def test_a_revoked_grant_parks_its_credential(desk, lives, caplog):
    tokens = desk.tokens(desk.oauth())
    if lives:
        await tokens.get("team-1")
    desk.sim.script(unary_answer(WORD, status=400), method="token", times=None)
    with caplog.at_level(logging.WARNING):
        verdict = await refusal(tokens.check("team-1"))
        await refusal(tokens.check("team-1"))
    assert (verdict.action, verdict.scope, verdict.until) == (Action.NEXT, Scope.CREDENTIAL, math.inf)
    assert (verdict.reason, verdict.status, verdict.code) == ("invalid_grant", 503, "no_upstream_credentials")
    assert caplog.text.count("credential team-1: invalid_grant") == 1
    assert "gemproxy login" in caplog.text
    assert not any(secret in caplog.text + verdict.message for secret in ("fake-", "nobody@", SECRET))


async def test_a_wrong_client_is_everybodys_trouble_and_parks_nobody(desk, caplog):
    tokens = desk.tokens(desk.oauth(client_secret="fake-wrong"))
    verdict = await refusal(tokens.get("team-1"))
    assert (verdict.action, verdict.scope, verdict.reason) == (Action.NEXT, Scope.UPSTREAM, "invalid_client")
    assert verdict.code == "no_upstream_credentials"
    assert "oauth.client_id" in verdict.message
    assert "oauth.client_id" in caplog.text
    assert "fake-wrong" not in caplog.text + verdict.message


async def test_a_wrong_client_of_a_file_is_that_files_trouble(desk):
    verdict = await refusal(desk.tokens(desk.oauth(client_id="test-other", client_secret=SECRET)).get("team-1"))
    assert (verdict.scope, verdict.until) == (Scope.CREDENTIAL, math.inf)


async def test_the_client_of_a_file_beats_the_configured_one(desk):
    desk.sim.desk.clients = {"test-own": "test-own-secret"}
    path = desk.file(type="authorized_user", client_id="test-own", client_secret="test-own-secret")
    assert (await desk.tokens(OAuthSource(path, CLIENT, SECRET)).get("team-1")).secret == "sim-access-1"


async def test_the_token_url_of_a_file_counts_only_without_a_configured_one(desk):
    path = desk.file(token_uri=desk.sim.token_url + "?from=file")
    await desk.tokens(OAuthSource(path, CLIENT, SECRET)).check("team-1")
    desk.token_url = ""
    await desk.tokens(OAuthSource(path, CLIENT, SECRET)).check("team-1")
    assert [dict(request.query) for request in desk.sim.requests if request.path == "/token"] == [{}, {"from": "file"}]


@pytest.mark.parametrize(
    "answer",
    [
        error_answer(500, b"<html>"),
        error_answer(503, {"error": "temporarily_unavailable"}),
        error_answer(429, {"error": "rate_limit_exceeded"}),
        Answer().after(Reset()),
        unary_answer({"expires_in": 3599}),
        unary_answer({"access_token": "fake", "expires_in": "soon"}),
        unary_answer({"access_token": "", "expires_in": 3599}),
        unary_answer(b"nonsense"),
        error_answer(302, b"", headers={"Location": "http://127.0.0.1:9/"}),
    ],
    ids=["500", "503", "429", "reset", "no token", "no end", "empty token", "no JSON", "redirect"],
)
async def test_an_endpoint_out_of_order_is_asked_thrice_and_is_nobodys_fault(desk, answer):
    tokens = desk.tokens(desk.oauth())
    desk.sim.script(answer, method="token", times=2)
    assert (await tokens.get("team-1")).secret == "sim-access-1"
    desk.sim.script(answer, method="token", times=None)
    before = desk.asked()
    verdict = await refusal(tokens.check("team-1"))
    assert desk.asked() - before == 3
    assert (verdict.action, verdict.scope, verdict.until) == (Action.NEXT, Scope.UPSTREAM, None)
    assert (await tokens.get("team-1")).secret == "sim-access-1"  # a check that fails takes no living token away


async def test_a_living_token_serves_through_an_outage_and_a_dead_one_does_not(desk):
    tokens = desk.tokens(desk.oauth())
    await tokens.get("team-1")
    desk.sim.script(error_answer(503, b""), method="token", times=None)
    desk.clock.advance(3400)
    assert (await tokens.get("team-1")).secret == "sim-access-1"
    desk.clock.advance(300)
    assert (await refusal(tokens.get("team-1"))).reason == "token_unavailable"
    desk.sim.clear()
    desk.clock.advance(BACKOFF)
    assert (await tokens.get("team-1")).secret == "sim-access-2"


async def test_a_slow_token_is_fetched_on_for_those_who_will_not_wait(desk, caplog):
    gate = asyncio.Event()
    desk.sim.script(unary_answer({"access_token": "late", "expires_in": 3600}).after(Wait(gate)), method="token")
    tokens = desk.tokens(desk.oauth("own"))
    caplog.set_level(logging.INFO)
    assert tokens.without() == set()
    for grace in (0.01, 0.0, 0.0):
        verdict = await refusal(tokens.get("team-1", grace))
        assert (verdict.action, verdict.scope, verdict.reason) == (Action.LATER, Scope.NONE, "token_slow")
    assert tokens.without() == {"team-1"}
    assert caplog.text.count("takes long") == 1
    patient = begin(tokens.get("team-1"))
    gate.set()
    assert (await patient).secret == "late"
    assert tokens.without() == set()
    assert desk.asked() == 1


async def test_a_token_that_takes_very_long_is_warned_of_once_until_one_comes_quickly(desk, caplog, monkeypatch):
    tokens = desk.tokens(desk.oauth("own"))
    warned = []
    for bound in (0.0, 0.0, 60.0, 0.0):
        monkeypatch.setattr("gemproxy.credentials.tokens.SLOW_FETCH", bound)
        assert await tokens.get("team-1")
        desk.clock.advance(3600)
        warned.append([record.levelname for record in caplog.records if "given no token" in record.message])
    assert warned == [["WARNING"]] * 3 + [["WARNING"] * 2]


async def test_two_refresh_tokens_share_the_time_for_one_token(desk):
    """The rotated one is refused late, then the file's is tried."""
    desk.state.keep_grant(read_oauth(desk.oauth()).key, Grant(refresh="fake-rotated", issued=1.0, changed=1.0))
    desk.sim.script(error_answer(400, {"error": "invalid_grant"}).after(Pause(0.3)), method="token")
    desk.sim.script(unary_answer({}).after(Hang()), method="token", times=None)
    tokens = desk.tokens(desk.oauth("own"))
    tokens.replace({"team-1": desk.oauth("own")}, {"team-1": ""}, 0.5)
    left: list[float] = []
    asking = tokens._google._ask

    async def ask(request: HttpRequest, timeout: float) -> object:
        left.append(timeout)
        return await asking(request, timeout)

    tokens._google._ask = ask
    assert (await refusal(tokens.get("team-1"))).scope is Scope.UPSTREAM
    assert [seconds <= most for seconds, most in zip(left, (0.5, 0.2), strict=True)] == [True, True]


async def test_who_got_no_token_is_known_for_a_while(desk):
    desk.sim.script(error_answer(503, b""), method="token", times=3)
    tokens = desk.tokens(desk.oauth("own"))
    assert (await refusal(tokens.get("team-1"))).scope is Scope.UPSTREAM
    assert tokens.without() == {"team-1"}
    desk.clock.advance(BACKOFF)
    assert tokens.without() == set()
    assert await tokens.get("team-1", 5.0)
    tokens.replace({}, {}, 3.0)
    assert tokens._google.patience == 3.0


async def test_an_outage_is_not_waited_for_by_every_request_and_a_reload_forgets_it(desk):
    source = desk.oauth()
    tokens = desk.tokens(source)
    desk.sim.script(error_answer(503, b""), method="token", times=None)
    first = await refusal(tokens.get("team-1"))
    asked = desk.asked()
    desk.clock.advance(BACKOFF - 1)
    assert await refusal(tokens.get("team-1")) == first
    assert desk.asked() == asked
    desk.sim.clear()
    tokens.replace({"team-1": source}, prints({"team-1": source}))
    assert (await tokens.get("team-1")).secret == "sim-access-1"


async def test_trouble_of_an_account_that_a_reload_replaced_is_not_the_new_ones(desk):
    source = desk.oauth()
    tokens = desk.tokens(source)
    desk.sim.script(error_answer(503, b"").after(Pause(0.05)), method="token", times=3)
    waiting = begin(tokens.get("team-1"))
    await soon(desk.asked)
    desk.file(refresh_token="fake-newer")
    tokens.replace({"team-1": source}, prints({"team-1": source}))
    assert (await refusal(waiting)).reason == "token_unavailable"
    assert (await tokens.get("team-1")).secret == "sim-access-1"


async def test_a_check_ends_the_memory_of_an_outage(desk):
    tokens = desk.tokens(desk.oauth())
    desk.sim.script(error_answer(503, b""), method="token", times=3)
    await refusal(tokens.get("team-1"))
    assert await tokens.check("team-1") == await tokens.get("team-1")


async def test_an_unknown_refusal_rests_its_credential_without_parking_it(desk):
    desk.sim.script(unary_answer({"error": "some_new_word"}, status=400), method="token")
    verdict = await refusal(desk.tokens(desk.oauth()).get("team-1"))
    assert (verdict.scope, verdict.until, verdict.reason) == (Scope.CREDENTIAL, None, "some_new_word")


@pytest.mark.parametrize("word", ["ya29.fake token", "", 7], ids=["a secret for a word", "no word", "a number"])
async def test_what_stands_for_an_error_word_is_not_repeated(desk, word, caplog):
    desk.sim.script(unary_answer({"error": word}, status=400), method="token", times=None)
    verdict = await refusal(desk.tokens(desk.oauth()).get("team-1"))
    assert "ya29" not in caplog.text + verdict.reason + verdict.message


async def test_a_lost_file_parks_its_credential_and_the_log_names_it(desk, caplog):
    path = desk.folder / "absent.json"
    verdict = await refusal(desk.tokens(OAuthSource(path, CLIENT, SECRET)).get("team-1"))
    assert (verdict.scope, verdict.until, verdict.reason) == (Scope.CREDENTIAL, math.inf, "credential_file")
    assert str(path) in caplog.text
    assert str(path) not in verdict.message


async def test_a_file_that_is_just_being_written_is_read_again(desk, monkeypatch):
    monkeypatch.setattr("gemproxy.credentials.token_fetch.REREAD_PAUSE", 1.0)
    source = desk.oauth()
    whole = source.file.read_bytes()
    source.file.write_bytes(whole[:10])
    waiting = begin(desk.tokens(source).get("team-1"))
    await asyncio.sleep(0.05)
    source.file.write_bytes(whole)
    assert (await waiting).secret == "sim-access-1"


async def test_a_disk_that_cannot_be_read_parks_nobody(desk, monkeypatch):
    def refuse(source: OAuthSource) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("gemproxy.credentials.token_fetch.read_oauth", refuse)
    verdict = await refusal(desk.tokens(desk.oauth()).get("team-1"))
    assert (verdict.scope, verdict.until) == (Scope.UPSTREAM, None)


# ------------------------------------------------------------------------------------------------ service accounts


async def test_a_service_account_signs_for_its_token(desk):
    tokens = desk.tokens(desk.robot())
    token = await tokens.get("team-1")
    assert (token.secret, token.project, token.location) == ("sim-access-1", "robots-project", "global")
    assert await tokens.rediscover("team-1") == token
    assert (await tokens.refresh("team-1", token)).secret == "sim-access-2"
    assert desk.asked() == 2


async def test_a_service_accounts_token_outlives_the_process(desk):
    source = desk.robot()
    token = await desk.tokens(source).get("team-1")
    assert await desk.tokens(source).get("team-1") == token
    assert desk.asked() == 1


async def test_a_user_in_a_key_file_works_too(desk):
    path = desk.file(type="authorized_user", client_id=CLIENT, client_secret=SECRET)
    token = await desk.tokens(ServiceAccountSource(path, "own-project", "us-east1")).get("team-1")
    assert (token.secret, token.project, token.location) == ("sim-access-1", "own-project", "us-east1")


@pytest.mark.parametrize(
    ("content", "reason"),
    [({"private_key": "fake-private-key"}, "credential_file"), ({"project_id": ""}, "credential_file")],
    ids=["a key that is none", "no project anywhere"],
)
async def test_a_service_account_that_cannot_work_is_parked(desk, content, reason, caplog):
    verdict = await refusal(desk.tokens(desk.robot(**content)).get("team-1"))
    assert (verdict.scope, verdict.until, verdict.reason) == (Scope.CREDENTIAL, math.inf, reason)
    assert "fake-private-key" not in caplog.text


async def test_a_service_account_that_google_does_not_know_is_parked(desk):
    source = desk.robot()
    desk.sim.accounts.grant("robot@example.invalid", service=True).state = AccountState.REVOKED
    assert (await refusal(desk.tokens(source).get("team-1"))).reason == "invalid_grant"


async def test_a_wrong_clock_parks_no_service_account(desk):
    words = {
        "error": "invalid_grant",
        "error_description": "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable ...",
    }
    desk.sim.script(unary_answer(words, status=400), method="token", times=None)
    verdict = await refusal(desk.tokens(desk.robot()).get("team-1"))
    assert (verdict.scope, verdict.reason) == (Scope.UPSTREAM, "clock")


PERSON = {"type": "authorized_user", "refresh_token": "fake", "client_id": CLIENT, "client_secret": SECRET}
JWT = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}


@pytest.mark.parametrize("slow", [2 * 86400.0, -2 * 86400.0, 301.0], ids=["two days slow", "two days fast", "minutes"])
async def test_while_the_clock_is_wrong_no_word_is_one_on_the_account(desk, slow, caplog):
    desk.slow = slow
    desk.sim.script(unary_answer(JWT, status=400), method="token")
    tokens = desk.tokens(desk.robot())
    verdict = await refusal(tokens.get("team-1"))
    assert (verdict.scope, verdict.until, verdict.reason) == (Scope.UPSTREAM, None, "clock")
    assert verdict.message == f"Google refused a signed request: {desk.skew.words}."
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], "the clock is told as such"
    desk.slow = 0.0
    desk.clock.advance(BACKOFF)
    assert (await tokens.get("team-1")).secret == "sim-access-1", "it comes back by itself"


@pytest.mark.parametrize(
    ("slow", "source"),
    [
        pytest.param(299.0, lambda desk: desk.robot(), id="a clock that is right: the account is meant"),
        pytest.param(2 * 86400.0, lambda desk: desk.oauth(), id="a person's login is signed by no clock"),
        pytest.param(2 * 86400.0, lambda desk: desk.robot(**PERSON), id="nor is one that Vertex AI is asked with"),
    ],
)
async def test_a_refusal_that_is_no_matter_of_the_clock_parks(desk, slow, source):
    desk.slow = slow
    desk.sim.script(unary_answer(JWT, status=400), method="token", times=None)
    verdict = await refusal(desk.tokens(source(desk)).get("team-1"))
    assert (verdict.scope, verdict.until, verdict.reason) == (Scope.CREDENTIAL, math.inf, "invalid_grant")


async def test_application_default_credentials_come_from_the_environment(desk, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(desk.robot().file))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    tokens = desk.tokens({"here": ServiceAccountSource(), "there": ServiceAccountSource(None, "other", "us-east1")})
    here, there = await tokens.get("here"), await tokens.get("there")
    assert (here.secret, here.project, here.location) == ("sim-access-1", "robots-project", "global")
    assert (there.project, there.location) == ("other", "us-east1")
    assert (await tokens.refresh("here", here)).secret == "sim-access-3"


async def test_absent_default_credentials_park_their_slot(desk, monkeypatch, caplog):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(desk.folder / "absent.json"))
    verdict = await refusal(desk.tokens(ServiceAccountSource()).get("team-1"))
    assert (verdict.scope, verdict.until, verdict.reason) == (Scope.CREDENTIAL, math.inf, "no_default_credentials")
    assert "application-default" in caplog.text


async def test_a_machine_of_googles_gives_tokens_by_its_metadata_server(desk, monkeypatch, aiohttp_server):
    server = await aiohttp_server(metadata_server())
    machines(monkeypatch, f"127.0.0.1:{server.port}")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(desk.folder))  # and no login of gcloud's
    tokens = desk.tokens(ServiceAccountSource())
    token = await tokens.get("team-1")
    assert (token.secret, token.project, token.location) == ("fake-machine-token", "machines-project", "global")


def machines(monkeypatch, host):
    """Let google-auth find a metadata server there. It reads the variables as it is imported, so it is, anew."""
    was = pytest.importorskip("google.auth.compute_engine", reason="needs the extra gce")
    monkeypatch.setenv(environment_vars.GCE_METADATA_HOST, host)
    monkeypatch.setenv(environment_vars.GCE_METADATA_IP, host)
    for name in [name for name in sys.modules if name.startswith(was.__name__)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(google.auth, "compute_engine", was)  # so that it comes back afterwards
    importlib.import_module(was.__name__)


def metadata_server():
    """What Compute Engine and Cloud Run have at metadata.google.internal."""
    answers = {
        "project/project-id": "machines-project",
        "universe/universe-domain": "googleapis.com",
        "instance/service-accounts/default/": {"email": "robot@example.invalid", "scopes": []},
        "instance/service-accounts/default/token": {"access_token": "fake-machine-token", "expires_in": 3600},
    }

    async def answer(request):
        assert request.headers["Metadata-Flavor"] == "Google"
        asked = request.path.removeprefix("/computeMetadata/v1/")
        found = answers.get(asked.replace("robot@example.invalid", "default"), "")  # an account has both names
        kind = "application/text" if isinstance(found, str) else "application/json"
        body = found.encode() if isinstance(found, str) else msgspec.json.encode(found)
        return web.Response(body=body, content_type=kind, headers={"Metadata-Flavor": "Google"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return app


# ------------------------------------------------------------------------------------------------------- projects


async def test_a_configured_project_is_not_looked_for(desk):
    assert (await desk.tokens(desk.oauth(project="mine")).get("team-1")).project == "mine"
    assert desk.asked("/v1internal:loadCodeAssist") == 0


async def test_a_project_in_the_file_is_not_looked_for(desk):
    assert (await desk.tokens(desk.oauth(project_id="theirs,others")).get("team-1")).project == "theirs"


async def test_a_project_that_proved_wrong_is_discovered_and_used_until_a_reload(desk):
    source = desk.oauth(project="wrong")
    tokens = desk.tokens(source)
    assert (await tokens.get("team-1")).project == "wrong"
    assert (await tokens.rediscover("team-1")).project == "sim-project"
    assert (await tokens.get("team-1")).project == "sim-project"
    tokens.replace({"team-1": source}, prints({"team-1": source}))
    assert (await tokens.get("team-1")).project == "wrong"
    assert (await desk.tokens(source).get("team-1")).project == "wrong"


async def test_a_token_that_discovery_will_not_take_is_refreshed_once(desk):
    source = desk.oauth(access_token="fake-dead", expiry_date=(desk.clock.now + 3000) * 1000)
    token = await desk.tokens(source).get("team-1")
    assert (token.secret, token.project) == ("sim-access-1", "sim-project")


async def test_an_account_that_discovery_refuses_parks_its_credential(desk):
    desk.sim.accounts.grant("fake-refresh").state = AccountState.UNSUPPORTED_CLIENT
    verdict = await refusal(desk.tokens(desk.oauth()).get("team-1"))
    assert (verdict.scope, verdict.until, verdict.reason) == (Scope.CREDENTIAL, math.inf, "unsupported_client")


# --------------------------------------------------------------------------------------------------------- reload


async def test_a_reload_keeps_the_tokens_of_unchanged_credentials(desk):
    source = desk.oauth()
    tokens = desk.tokens({"same": source, "gone": desk.robot(), "changed": source})
    await asyncio.gather(*(tokens.get(name) for name in ("same", "gone", "changed")))
    sources = {"same": source, "changed": msgspec.structs.replace(source, project="mine"), "new": KEY}
    tokens.replace(sources, prints(sources))
    assert tokens.view("same").cached
    assert not tokens.view("changed").cached
    assert not tokens.view("gone").cached
    assert (await tokens.get("changed")).project == "mine"
    assert (await tokens.get("new")).secret == "test-key-1"


async def test_a_reload_after_a_new_login_into_the_same_file_gives_the_new_accounts_token(desk):
    source = desk.oauth()
    tokens = desk.tokens(source)
    old = await tokens.get("team-1")
    desk.file(refresh_token="fake-newer")
    tokens.replace({"team-1": source}, prints({"team-1": source}))
    assert (await tokens.get("team-1")).secret != old.secret
    assert desk.sim.refreshes == {"fake-refresh": 1, "fake-newer": 1}


async def test_a_reload_takes_no_token_from_those_who_wait_for_it(desk):
    desk.sim.token_delay = 0.1
    tokens = desk.tokens(desk.oauth())
    waiting = begin(tokens.get("team-1"))
    await soon(desk.asked)
    tokens.replace({}, {})
    assert (await waiting).secret == "sim-access-1"


async def test_an_outage_of_discovery_is_logged_once_until_it_is_over(desk, caplog):
    tokens = desk.tokens(desk.oauth())
    desk.sim.script(error_answer(503, b""), method="loadCodeAssist", times=2)
    for _ in range(2):
        assert (await refusal(tokens.get("team-1"))).reason == "project_unknown"
    assert caplog.text.count("credential team-1") == 1
    assert (await tokens.get("team-1")).project == "sim-project"


async def test_no_repr_of_a_token_shows_it(desk):
    tokens = desk.tokens(desk.oauth())
    await tokens.get("team-1")
    assert "sim-access" not in repr([tokens.view("team-1"), tokens._accounts["team-1"].cache.access])
    (grant,) = desk.state._grants.values()
    assert "sim-access" not in repr(grant)
