"""Who is let in, by which key, and to what."""

from __future__ import annotations

import pytest

from gemproxy.errors import ClientFault
from gemproxy.server.auth import ANYONE, Caller, ClientAuth, allow

CI = Caller("ci", admin=False)
OPS = Caller("ops")
RING = ClientAuth([("sk-one", CI), ("sk-two", OPS), ("sk-ü", OPS)])


@pytest.mark.parametrize(("key", "caller"), [("sk-one", CI), ("sk-two", OPS), ("sk-ü", OPS)])
def test_known_key_names_its_caller(key: str, caller: Caller) -> None:
    assert RING.caller(key) is caller


@pytest.mark.parametrize("key", ["", "sk-on", "sk-one2", "SK-ONE", "\udcff\udcfe"])
def test_anything_else_is_401(key: str) -> None:
    with pytest.raises(ClientFault) as caught:
        RING.caller(key)
    assert (caught.value.status, caught.value.type, caught.value.code) == (
        401,
        "authentication_error",
        "invalid_api_key",
    )
    assert "sk-" not in caught.value.message


@pytest.mark.parametrize("key", ["placeholder", "x"])
def test_without_keys_any_is_a_placeholder(key: str) -> None:
    assert ClientAuth([]).caller(key) is ANYONE


def test_operators_routes_are_for_admins() -> None:
    RING.admin(OPS)
    with pytest.raises(ClientFault) as caught:
        RING.admin(CI)
    assert (caught.value.status, caught.value.type) == (403, "permission_error")


def test_caller_is_held_to_its_models() -> None:
    held = Caller("held", models=frozenset({"gemini-2.5-flash"}))
    allow(held, "gemini-2.5-flash")
    allow(CI, "gemini-2.5-pro")
    with pytest.raises(ClientFault) as caught:
        allow(held, "gemini-2.5-pro")
    assert (caught.value.status, caught.value.param) == (403, "model")
