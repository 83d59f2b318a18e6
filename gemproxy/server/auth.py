"""Client keys: who calls, and what that caller may do. Pure; compares in constant time, shows no key."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import blake2b

from msgspec import Struct

from gemproxy.errors import ClientFault, unauthorized


class Caller(Struct, frozen=True):
    """One client. ``models`` None: all of them. Limits of 0: none.

    ``mark`` is what tells its key from others (``mark_of``): a name may be another key's tomorrow, as bare keys are
    named by their places.
    """

    name: str
    models: frozenset[str] | None = None
    admin: bool = True
    max_concurrent: int = 0
    requests_per_minute: int = 0
    mark: str = ""


ANYONE = Caller("anyone", mark="anyone")


def mark_of(key: str) -> str:
    """Return a digest of a client's key, which may be written down."""
    return blake2b(key.encode(), digest_size=16, person=b"gemproxy client").hexdigest()


class ClientAuth:
    """All keys with their callers; without any key, every bearer token on loopback is a placeholder.

    Promised: docs/architecture.md 14.5.
    """

    def __init__(self, keys: Sequence[tuple[str, Caller]]) -> None:
        self._keys = [(key.encode(), caller) for key, caller in keys]

    @property
    def keyless(self) -> bool:
        """Return whether there is no key, so that only callers on this machine may be served."""
        return not self._keys

    def caller(self, shown: str) -> Caller:
        """Return whose key was shown; raises ``ClientFault`` 401."""
        if not self._keys:
            return ANYONE
        found: Caller | None = None
        given = shown.encode(errors="surrogateescape")
        for key, caller in self._keys:  # every key is compared, whichever fits: the time tells nothing
            if hmac.compare_digest(key, given):
                found = caller
        if found is None:
            raise unauthorized("The API key is not known to this server (auth.keys).")
        return found

    def admin(self, caller: Caller) -> None:
        """Raise ``ClientFault`` 403 unless this caller may see the operators' routes."""
        if not caller.admin:
            raise ClientFault(
                "This key may not use the operators' routes (auth.admin_keys).",
                status=403,
                type="permission_error",
                code="forbidden",
            )


def allow(caller: Caller, model: str) -> None:
    """Raise ``ClientFault`` 403 when the caller is held to other models."""
    if caller.models is not None and model not in caller.models:
        raise ClientFault(
            f"This key may not use the model {model!r} (auth.clients.models).",
            status=403,
            type="permission_error",
            code="model_not_allowed",
            param="model",
        )
