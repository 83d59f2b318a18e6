"""What OAuth's error words mean for a credential: the table of docs/protocol.md 2.6, row by row."""

from __future__ import annotations

import math

import pytest

from gemproxy.credentials import token_errors
from gemproxy.credentials.onboarding import Ineligible
from gemproxy.errors import NoCredential
from gemproxy.pool.cooldown import Policy
from gemproxy.pool.rotator import Rotator
from gemproxy.pool.slot import Slot
from gemproxy.upstream.dialect import Action, Scope
from gemproxy.upstream.reach import Obstacle, Reason

PARKED = (Action.NEXT, Scope.CREDENTIAL, math.inf)
RESTS = (Action.NEXT, Scope.CREDENTIAL, None)
NOBODY = (Action.NEXT, Scope.UPSTREAM, None)


@pytest.mark.parametrize(
    ("word", "about", "own_client", "expected"),
    [
        ("invalid_grant", "Token has been expired or revoked.", False, PARKED),
        ("invalid_grant", "Bad Request", True, PARKED),
        ("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)", True, NOBODY),
        ("invalid_client", "The OAuth client was not found.", False, NOBODY),
        ("invalid_client", "Unauthorized", True, PARKED),
        ("deleted_client", "The OAuth client was deleted.", False, NOBODY),
        ("disabled_client", "The OAuth client was disabled.", True, PARKED),
        ("unauthorized_client", "Unauthorized", False, PARKED),
        ("invalid_scope", "", False, PARKED),
        ("admin_policy_enforced", "", False, PARKED),
        ("something_new", "", False, RESTS),
    ],
    ids=[
        "a revoked grant parks",
        "a bad grant parks, whosever the client",
        "a signature out of time is our clock's fault",
        "an unknown client is everybody's trouble",
        "an unknown client of one file parks that one",
        "a deleted client is everybody's trouble",
        "a disabled client of one file parks that one",
        "a grant of another client parks",
        "a scope that was not given parks",
        "a company's policy parks",
        "an unknown word rests",
    ],
)
def test_an_oauth_error_means(word, about, own_client, expected):
    verdict = token_errors.by_grant(word, about, own_client=own_client).verdict
    assert (verdict.action, verdict.scope, verdict.until) == expected
    assert verdict.status == 503
    assert not about or about not in verdict.message


@pytest.mark.parametrize(
    ("word", "expected"), [("invalid_grant", NOBODY), ("invalid_scope", PARKED)], ids=["a signature", "another matter"]
)
def test_what_a_wrong_clock_signed_parks_nobody_for_its_signature(word, expected):
    refused = token_errors.by_grant(
        word, "Invalid JWT Signature.", own_client=True, clock="this machine's clock is slow"
    )
    assert (refused.verdict.action, refused.verdict.scope, refused.verdict.until) == expected


@pytest.mark.parametrize(("parks", "expected"), [(True, PARKED), (False, RESTS)], ids=["for good", "for now"])
def test_an_ineligible_account_means(parks, expected):
    refused = token_errors.ineligible(
        Ineligible("SOME_REASON", "words about the account", parks, "https://link.invalid")
    )
    verdict = refused.verdict
    assert (verdict.action, verdict.scope, verdict.until) == expected
    assert (verdict.reason, refused.detail, refused.link) == (
        "some_reason",
        "words about the account",
        "https://link.invalid",
    )
    assert "words" not in verdict.message


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [(Reason.TIMEOUT, 504, "upstream_timeout"), (Reason.DNS, 502, "upstream_error")],
    ids=["silence is a timeout", "what answers with a refusal is a bad gateway"],
)
def test_an_endpoint_out_of_reach_is_told_as_an_upstream_is(reason, status, code):
    verdict = token_errors.unreached("Code Assist", Obstacle(reason)).verdict
    assert (verdict.status, verdict.code) == (status, code)


def test_a_removed_credential_touches_nobody():
    verdict = token_errors.removed().verdict
    assert (verdict.action, verdict.scope) == (Action.NEXT, Scope.NONE)


def test_the_rotator_does_as_the_verdicts_say(clock):
    rotator = Rotator([Slot("a"), Slot("b")], Policy(), clock)
    rotator.report(rotator.acquire("pro"), token_errors.by_grant("invalid_client", "", own_client=False).verdict)
    rotator.report(rotator.acquire("pro"), token_errors.by_grant("invalid_grant", "", own_client=False).verdict)
    assert [view.state for view in rotator.snapshot()] == ["ready", "parked"]
    rotator.report(rotator.acquire("pro"), token_errors.by_grant("something_new", "", own_client=False).verdict)
    with pytest.raises(NoCredential) as caught:
        rotator.acquire("pro")
    assert caught.value.returns_in == 5
