"""Google's token endpoint and consent page (docs/protocol.md 2.6; RFC 6749, 7523, 7636).

In: the form of a token request, or the query of a consent page. Out: status and JSON, or the address to redirect to.
Must not delay, reset or script anything: that is the player's.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Struct

from gemproxy.simulator.accounts import Account, Accounts

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE = (
    "https://www.googleapis.com/auth/userinfo.email https://www.googleapis.com/auth/cloud-platform "
    "https://www.googleapis.com/auth/userinfo.profile openid"
)


class TokenError(Exception):
    """A refusal in OAuth's own shape, where ``error`` is a string (RFC 6749, 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.status = status
        self.body = {"error": error, "error_description": description}


class Code(Struct, frozen=True):
    """An authorization code that was handed out and not yet redeemed."""

    client_id: str
    redirect_uri: str
    challenge: str
    method: str


class TokenDesk:
    """Gives out codes and tokens. ``clients`` empty takes any client id and secret; ``deny`` refuses consent."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.clients: dict[str, str] = {}
        self.deny = False
        self.new_account = Account("sim-refresh-login")
        self._codes: dict[str, Code] = {}

    # ------------------------------------------------------------------------------------------------ consent

    def consent(self, query: Mapping[str, str]) -> str:
        """Return where the consent page sends the browser; the person always agrees unless ``deny``."""
        back: dict[str, str] = {"state": query["state"]} if "state" in query else {}
        if self.deny:
            back["error"] = "access_denied"
        else:
            code = f"4/sim-code-{len(self._codes) + 1}"
            challenge, method = query.get("code_challenge", ""), query.get("code_challenge_method", "plain")
            self._codes[code] = Code(query.get("client_id", ""), query.get("redirect_uri", ""), challenge, method)
            back |= {"code": code, "scope": query.get("scope", _SCOPE)}
        return query.get("redirect_uri", "") + "?" + urlencode(back)

    # ------------------------------------------------------------------------------------------------ tokens

    def token(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Return the token answer; raises ``TokenError``."""
        match form.get("grant_type"):
            case "refresh_token":
                return self._refresh(form)
            case "authorization_code":
                return self._redeem(form)
            case kind if kind == JWT_GRANT:
                return self._robot(form.get("assertion", ""))
            case kind:
                raise TokenError("unsupported_grant_type", f"Invalid grant_type: {kind or ''}")

    def _check_client(self, form: Mapping[str, str]) -> None:
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        if not client:
            raise TokenError("invalid_request", "Could not determine client ID from request.")
        if self.clients and client not in self.clients:
            raise TokenError("invalid_client", "The OAuth client was not found.", 401)
        if self.clients and self.clients[client] != secret:
            raise TokenError("invalid_client", "The provided client secret is invalid.", 401)

    def _refresh(self, form: Mapping[str, str]) -> dict[str, Any]:
        self._check_client(form)
        old = form.get("refresh_token", "")
        if not old:
            raise TokenError("invalid_request", "Missing required parameter: refresh_token")
        account = self.accounts.grant(old)
        if account is None:
            raise TokenError("invalid_grant", "Token has been expired or revoked.")
        self.accounts.refreshes[account.name] += 1
        answer = self._issued(account)
        if account.rotates:
            answer["refresh_token"] = self.accounts.rotate(old)
        return answer

    def _redeem(self, form: Mapping[str, str]) -> dict[str, Any]:
        self._check_client(form)
        code = self._codes.pop(form.get("code", ""), None)
        if code is None:
            raise TokenError("invalid_grant", "Malformed auth code.")
        if code.redirect_uri != form.get("redirect_uri"):
            raise TokenError("redirect_uri_mismatch", "Bad Request")
        if code.client_id != form.get("client_id"):
            raise TokenError("unauthorized_client", "Unauthorized")
        if code.challenge:
            _verify(code, form.get("code_verifier", ""))
        account = self.accounts.add(self.new_account)
        return {**self._issued(account), "refresh_token": account.name}

    def _robot(self, assertion: str) -> dict[str, Any]:
        signed, _, signature = assertion.rpartition(".")
        claims = _claims(signed)
        issuer = str(claims.get("iss", ""))
        account = self.accounts.grant(issuer, service=True)
        if account is None:
            raise TokenError("invalid_grant", "Invalid grant: account not found")
        if float(claims.get("exp", 0)) <= self.accounts.clock():
            raise TokenError("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)")
        if not claims.get("scope"):
            raise TokenError("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        if account.public_key is not None and not _signed(account.public_key, signed, signature):
            raise TokenError("invalid_grant", "Invalid JWT Signature.")
        self.accounts.refreshes[issuer] += 1
        return {key: value for key, value in self._issued(account).items() if key != "scope"}

    def _issued(self, account: Account) -> dict[str, Any]:
        token = self.accounts.issue(account)
        return {
            "access_token": token,
            "expires_in": int(self.accounts.expires_in),
            "scope": _SCOPE,
            "token_type": "Bearer",
        }


def _verify(code: Code, verifier: str) -> None:
    if not verifier:
        raise TokenError("invalid_grant", "Missing code verifier.")
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if code.challenge != (digest if code.method == "S256" else verifier):
        raise TokenError("invalid_grant", "Invalid code verifier.")


def _claims(signed: str) -> dict[str, Any]:
    """Return the claims of ``header.claims``; raises ``TokenError`` unless both are JSON objects."""
    try:
        header, claims = (msgspec.json.decode(_unpadded(part), type=dict[str, Any]) for part in signed.split("."))
    except (ValueError, msgspec.DecodeError) as problem:
        raise TokenError("invalid_grant", "Bad Request") from problem
    if header.get("alg") != "RS256":
        raise TokenError("invalid_grant", "Invalid JWT: unsupported algorithm.")
    return claims


def _unpadded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _signed(pem: str, signed: str, signature: str) -> bool:
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, RSAPublicKey):
        return False
    try:
        key.verify(_unpadded(signature), signed.encode(), PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True
