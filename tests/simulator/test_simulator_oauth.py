"""The token endpoint and the consent page."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gemproxy.simulator import Account, AccountState, Pause
from gemproxy.simulator.google import Google
from tests.simulator.asking import google, read, request

CLIENT = {"client_id": "fake-client", "client_secret": "fake-secret"}
REFRESH = {"grant_type": "refresh_token", "refresh_token": "fake-refresh-1", **CLIENT}
JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def token(target: Google, **form: str) -> tuple[int, dict[str, Any]]:
    answer = target.answer(request("POST", "/token", urlencode(form).encode()))
    return answer.status, read(answer)


def test_refresh_gives_an_access_token_and_keeps_the_refresh_token() -> None:
    target = google()
    status, body = token(target, **REFRESH)
    assert status == 200
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 3599
    assert "refresh_token" not in body
    assert target.accounts.access[body["access_token"]].account.name == "fake-refresh-1"
    assert target.refreshes == {"fake-refresh-1": 1}


def test_rotating_account_hands_out_a_new_refresh_token() -> None:
    target = google()
    target.accounts.add(Account("fake-refresh-1", rotates=True))
    fresh = token(target, **REFRESH)[1]["refresh_token"]
    assert token(target, **REFRESH)[1]["error"] == "invalid_grant"
    assert token(target, **{**REFRESH, "refresh_token": fresh})[0] == 200
    assert target.refreshes == {"fake-refresh-1": 2}


BAD: list[tuple[dict[str, str], int, str, str]] = [
    ({"refresh_token": "fake-refresh-9"}, 400, "invalid_grant", "Token has been expired or revoked."),
    ({"refresh_token": "fake-revoked"}, 400, "invalid_grant", "Token has been expired or revoked."),
    ({"refresh_token": ""}, 400, "invalid_request", "Missing required parameter: refresh_token"),
    ({"client_id": "fake-other"}, 401, "invalid_client", "The OAuth client was not found."),
    ({"client_secret": "fake-wrong"}, 401, "invalid_client", "The provided client secret is invalid."),
    ({"client_id": ""}, 400, "invalid_request", "Could not determine client ID from request."),
    ({"grant_type": "password"}, 400, "unsupported_grant_type", "Invalid grant_type: password"),
    ({"grant_type": ""}, 400, "unsupported_grant_type", "Invalid grant_type: "),
]


@pytest.mark.parametrize(("change", "status", "error", "description"), BAD)
def test_bad_refresh_is_refused_in_the_shape_of_oauth(
    change: dict[str, str], status: int, error: str, description: str
) -> None:
    target = google()
    target.accounts.known_only = True
    target.accounts.add(Account("fake-refresh-1"))
    target.accounts.add(Account("fake-revoked", state=AccountState.REVOKED))
    target.desk.clients = {"fake-client": "fake-secret"}
    expected = {"error": error, "error_description": description}
    assert token(target, **{**REFRESH, **change}) == (status, expected)
    assert target.refreshes == {}


def test_delay_comes_before_the_answer_and_before_a_refusal() -> None:
    target = google()
    target.token_delay = 0.5
    good = target.answer(request("POST", "/token", urlencode(REFRESH).encode()))
    bad = target.answer(request("POST", "/token", b"grant_type=x"))
    assert good.before == bad.before == (Pause(0.5),)


# ------------------------------------------------------------------------------------------------ login

VERIFIER = "fake-verifier-" + "v" * 40
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
BACK = "http://127.0.0.1:9/callback"


def consent(target: Google, **query: str) -> dict[str, str]:
    asked = {
        "client_id": "fake-client",
        "redirect_uri": BACK,
        "state": "fake-state",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **query,
    }
    answer = target.answer(request("GET", "/auth?" + urlencode(asked)))
    assert answer.status == 302
    assert answer.headers["Location"].startswith(BACK + "?")
    return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))


def redeem(target: Google, code: str, **change: str) -> tuple[int, dict[str, Any]]:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER, **CLIENT}
    return token(target, **{**form, **change})


def test_code_is_redeemed_once_for_both_tokens() -> None:
    target = google()
    back = consent(target)
    assert back["state"] == "fake-state"
    status, body = redeem(target, back["code"])
    assert status == 200
    assert body["refresh_token"] == "sim-refresh-login"
    assert token(target, **{**REFRESH, "refresh_token": "sim-refresh-login"})[0] == 200
    assert redeem(target, back["code"])[1]["error_description"] == "Malformed auth code."


def test_refused_consent_comes_back_as_an_error() -> None:
    target = google()
    target.desk.deny = True
    assert consent(target) == {"state": "fake-state", "error": "access_denied"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"code_verifier": "fake-other"}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:9/other"}, "redirect_uri_mismatch"),
        ({"client_id": "fake-other"}, "unauthorized_client"),
        ({"code": "4/unknown"}, "invalid_grant"),
    ],
)
def test_bad_redemption_is_refused(change: dict[str, str], error: str) -> None:
    target = google()
    status, body = redeem(target, **{"code": consent(target)["code"], **change})
    assert (status, body["error"]) == (400, error)


def test_plain_challenge_is_compared_as_it_is() -> None:
    target = google()
    back = consent(target, code_challenge=VERIFIER, code_challenge_method="plain")
    assert redeem(target, back["code"])[0] == 200


# ------------------------------------------------------------------------------------------------ service accounts

ROBOT = "robot@example.iam"
CLAIMS = {"iss": ROBOT, "scope": "https://www.googleapis.com/auth/cloud-platform", "exp": 1_900_000_000}


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def assertion(claims: dict[str, Any], signature: bytes = b"unsigned", alg: str = "RS256") -> str:
    head = encoded(msgspec.json.encode({"alg": alg, "typ": "JWT"}))
    return f"{head}.{encoded(msgspec.json.encode(claims))}.{encoded(signature)}"


def test_robot_gets_a_token_for_its_assertion() -> None:
    target = google()
    status, body = token(target, grant_type=JWT, assertion=assertion(CLAIMS))
    assert status == 200
    assert target.accounts.access[body["access_token"]].account.name == ROBOT
    assert target.refreshes == {ROBOT: 1}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (assertion({**CLAIMS, "exp": 1_700_000_000}), "Invalid JWT: Token must be a short-lived token (60 minutes)"),
        (assertion({**CLAIMS, "iss": ""}), "Invalid grant: account not found"),
        (assertion({**CLAIMS, "scope": ""}), "Invalid OAuth scope or ID token audience provided."),
        (assertion(CLAIMS, alg="none"), "Invalid JWT: unsupported algorithm."),
        ("one.part", "Bad Request"),
        ("a.b.c", "Bad Request"),
        ("", "Bad Request"),
    ],
)
def test_bad_assertion_is_refused(text: str, error: str) -> None:
    status, body = token(google(), grant_type=JWT, assertion=text)
    assert (status, body["error_description"]) == (400, error)


def test_signature_counts_when_a_public_key_is_known() -> None:
    target = google()
    private = generate_private_key(65537, 2048)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    target.accounts.add(Account(ROBOT, public_key=pem))
    unsigned = assertion(CLAIMS)
    assert token(target, grant_type=JWT, assertion=unsigned)[1]["error_description"] == "Invalid JWT Signature."
    signed = unsigned.rpartition(".")[0]
    signature = private.sign(signed.encode(), PKCS1v15(), SHA256())
    assert token(target, grant_type=JWT, assertion=f"{signed}.{encoded(signature)}")[0] == 200
