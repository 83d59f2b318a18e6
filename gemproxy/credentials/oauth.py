"""Google's OAuth for installed apps: addresses, what is asked for, the words of a refusal (docs/protocol.md 2.6).

In: bodies of the token endpoint. Out: OAuth's error word, fit to be shown. Pure; nothing here is sent.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Struct

from gemproxy.redaction import redact
from gemproxy.wire import UNREADABLE

AUTH_URL: Final = "https://accounts.google.com/o/oauth2/v2/auth"
TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
SCOPES: Final = (
    SCOPE,
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/userinfo.profile",
)
LIFETIME: Final = 3600
"""Seconds of a token when the answer does not say (RFC 6749, 5.1: the server documents it; Google's is an hour)."""

BAD_CLIENT_ERRORS: Final = frozenset({"invalid_client", "deleted_client", "disabled_client"})
PARKING_ERRORS: Final = frozenset(
    {
        "invalid_grant",  # revoked, expired, password changed
        "unauthorized_client",  # the grant belongs to another client
        "invalid_scope",
        "access_denied",
        "admin_policy_enforced",
        "account_not_found",
        "invalid_rapt",
        "rapt_required",
    }
)

_WORD: Final = re.compile(r"[A-Za-z_]{1,60}")


class Refused(Struct):
    """RFC 6749, 5.2: ``error`` is a string here, not Google's usual object. The repr shows no description."""

    error: str = ""
    error_description: str = ""

    def __repr__(self) -> str:
        return f"Refused({self.error!r})"


def read_refusal(body: bytes) -> Refused:
    """Return the refusal with its ``word``; without one for what is no such answer."""
    try:
        found = msgspec.json.decode(body, type=Refused)
    except UNREADABLE:
        return Refused()
    return Refused(word(found.error), found.error_description)


def word(text: str) -> str:
    """Return an OAuth error code; nothing of what is none, which may be a secret."""
    return text if _WORD.fullmatch(text) and redact(text) == text else "unknown_error"
