"""Google's recorded refusals, each with the verdict that docs/protocol.md 3 asks for."""

import math

import pytest

from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Action, Repair, Scope
from gemproxy.upstream.vertex import Vertex
from tests.corpus import listed
from tests.upstream.refusals.refusal_bodies import NOW, TO_MIDNIGHT

ERRORS = {path.name: path for path in listed("corpus/errors/*")}
DIALECTS = {
    "aistudio": AiStudio("http://upstream.test", "gemproxy/test"),
    "codeassist": CodeAssist("http://upstream.test", "gemproxy/test"),
    "oauth2": CodeAssist("http://upstream.test", "gemproxy/test"),
    "vertex": Vertex("http://upstream.test", "gemproxy/test"),
}

DEAD = (Action.NEXT, Scope.CREDENTIAL, math.inf)
BAD = (Action.STOP, Scope.NONE, None)
UNKNOWN_MODEL = (Action.NEXT, Scope.MODEL, 3600.0)
MEND = (Action.REPAIR, Scope.NONE, None)
FULL = (Action.RETRY, Scope.UPSTREAM, None)

EXPECTED = {
    "400-failed-precondition__vertex__firebase-02.json": (Action.STOP, Scope.UPSTREAM, None, "location", 503),
    "400-invalid-argument-api-key-invalid__aistudio__firebase-01.json": (*DEAD, "key_invalid", 503),
    "400-invalid-argument-api-key-invalid__aistudio__quoted-01.json": (*DEAD, "key_invalid", 503),
    "400-invalid-argument-api-key-invalid__aistudio__rubyllm-01.json": (*DEAD, "key_invalid", 503),
    "400-invalid-argument-array__aistudio__quoted-01.json": (*MEND, "signature", 400),
    "400-invalid-argument__aistudio__firebase-01.json": (*BAD, "bad_request", 400),
    "400-invalid-argument__codeassist__quoted-01.json": (*BAD, "bad_request", 400),
    "400-invalid-argument__codeassist__quoted-02.json": (*BAD, "bad_request", 400),
    "400-invalid-argument__codeassist__quoted-03.json": (*MEND, "signature", 400),
    "400-invalid-argument__vertex__firebase-03.json": (*BAD, "bad_request", 400),
    # the token endpoint's, which no dialect is shown: ``pool/refusals`` parks by it
    "400-invalid-grant__oauth2__quoted-01.json": (*BAD, "bad_request", 400),
    "401-unauthenticated-access-token-type-unsupported__aistudio__quoted-01.json": (*DEAD, "key_refused", 503),
    "403-permission-denied-array__codeassist__quoted-01.json": (*DEAD, "no_licence", 503),
    "403-permission-denied-iam-permission-denied__vertex__firebase-01.json": (*DEAD, "no_permission", 503),
    "403-permission-denied-service-disabled__codeassist__quoted-02.json": (*DEAD, "api_disabled", 503),
    "403-permission-denied-service-disabled__vertex__firebase-01.json": (*DEAD, "api_disabled", 503),
    "403-permission-denied-service-disabled__vertex__firebase-02.json": (*DEAD, "api_disabled", 503),
    "403-permission-denied-validation-required__codeassist__quoted-01.json": (*DEAD, "verification", 503),
    "404-not-found__vertex__firebase-01.json": (*UNKNOWN_MODEL, "model_not_found", 404),
    "404-not-found__vertex__firebase-02.json": (Action.NEXT, Scope.NONE, None, "resource_not_found", 404),
    "404-not-found__vertex__firebase-03.json": (*UNKNOWN_MODEL, "model_not_found", 404),
    "404__vertex__firebase-01.html": (*UNKNOWN_MODEL, "model_not_found", 404),
    "429-resource-exhausted-array__codeassist__quoted-01.json": (Action.NEXT, Scope.MODEL, None, "rate_limit", 429),
    "429-resource-exhausted-model-capacity-exhausted-array__codeassist__quoted-02.json": (*FULL, "capacity", 503),
    "429-resource-exhausted-per-day-per-minute__aistudio__quoted-02.json": (
        Action.NEXT,
        Scope.PROJECT,
        TO_MIDNIGHT,
        "quota_day",
        429,
    ),
    "429-resource-exhausted-per-day__aistudio__quoted-02.json": (
        Action.NEXT,
        Scope.PROJECT,
        TO_MIDNIGHT,
        "quota_day",
        429,
    ),
    "429-resource-exhausted-per-minute__aistudio__quoted-01.json": (
        Action.NEXT,
        Scope.PROJECT,
        15.0,
        "quota_minute",
        429,
    ),
    "429-resource-exhausted-quota-exhausted__codeassist__quoted-01.json": (
        Action.NEXT,
        Scope.MODEL,
        581_981.300432511,
        "quota_exhausted",
        429,
    ),
    "429-resource-exhausted-quota-exhausted__codeassist__quoted-02.json": (
        Action.NEXT,
        Scope.MODEL,
        33_740.910400305,
        "quota_exhausted",
        429,
    ),
    "429-resource-exhausted-rate-limit-exceeded-array__codeassist__quoted-01.json": (
        Action.NEXT,
        Scope.MODEL,
        TO_MIDNIGHT,
        "quota_day",
        429,
    ),
    "429-resource-exhausted-rate-limit-exceeded__aistudio__quoted-01.json": (
        Action.NEXT,
        Scope.MODEL,
        math.inf,
        "no_quota",
        429,
    ),
    "429-resource-exhausted-rate-limit-exceeded__vertex__firebase-01.json": (
        Action.NEXT,
        Scope.MODEL,
        math.inf,
        "no_quota",
        429,
    ),
    "429-resource-exhausted__aistudio__quoted-01.json": (Action.NEXT, Scope.PROJECT, None, "rate_limit", 429),
    "429-resource-exhausted__aistudio__quoted-02.json": (Action.NEXT, Scope.PROJECT, None, "rate_limit", 429),
    "429-resource-exhausted__aistudio__vercel-01.json": (Action.NEXT, Scope.PROJECT, 34.4, "quota_minute", 429),
    "500-internal__aistudio__quoted-01.json": (*FULL, "upstream_error", 502),
    "503-unavailable-model-capacity-exhausted__codeassist__quoted-03.json": (
        Action.RETRY,
        Scope.UPSTREAM,
        25.0,
        "capacity",
        503,
    ),
    "503-unavailable-model-capacity-exhausted__codeassist__quoted-04.json": (*FULL, "capacity", 503),
    "503-unavailable__aistudio__quoted-01.json": (*FULL, "overloaded", 503),
}


def meant(name):
    """Return the row for a file: what was only quoted has one of ours in its place, which means the same."""
    return name.replace("__invented-", "__quoted-")


def judged(name):
    upstream = name.split("__")[1]
    return DIALECTS[upstream].judge(int(name[:3]), {}, ERRORS[name].read_bytes(), NOW)


def given_row(verdict):
    rest = None if verdict.until is None else verdict.until - NOW
    return (verdict.action, verdict.scope, rest, verdict.reason, verdict.status)


@pytest.mark.parametrize("name", ERRORS)
def test_a_recorded_refusal_gets_its_verdict(name):
    action, scope, rest, reason, status = EXPECTED[meant(name)]
    verdict = judged(name)
    assert (verdict.action, verdict.scope, verdict.reason, verdict.status) == (action, scope, reason, status)
    assert given_row(verdict)[2] == (None if rest is None else pytest.approx(rest, abs=1e-3))
    assert verdict.daily == (reason in ("quota_day", "quota_exhausted", "no_quota"))
    assert verdict.repair is (Repair.DUMMY_SIGNATURES if action is Action.REPAIR else None)


def test_every_recorded_refusal_is_in_the_table():
    assert {meant(name) for name in ERRORS} == set(EXPECTED)


@pytest.mark.parametrize("name", ERRORS)
def test_a_message_for_the_client_names_no_key_project_or_link(name):
    message = judged(name).message
    assert message
    for secret in ("key1234", "test-project-id-1234", "example-project-1a2b3", "0000000000", "plt=", "accounts.google"):
        assert secret not in message


def test_credential_trouble_is_not_told_in_googles_words():
    for name in ERRORS:
        verdict = judged(name)
        if verdict.scope is Scope.CREDENTIAL:
            assert "API key" not in verdict.message
            assert verdict.message.startswith("An upstream credential")
