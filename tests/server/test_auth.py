"""Who is let in, by which header, and to what."""

from __future__ import annotations

import pytest

from gemproxy.errors import ClientFault
from gemproxy.server.auth import ANYONE, Caller, ClientAuth, allow

CI = Caller("ci", admin=False)
OPS = Caller("ops")
RING = ClientAuth([("sk-one", CI), ("sk-two", OPS), ("sk-ü", OPS)])


@pytest.mark.parametrize(
    ("header", "caller"),
    [
        ("Bearer sk-one", CI),
        ("bearer  sk-two ", OPS),
        ("BEARER sk-one", CI),
        ("Bearer sk-ü", OPS),
    ],
)
def test_known_key_names_its_caller(header: str, caller: Caller) -> None:
    assert RING.caller(header) is caller


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "sk-one", "Basic sk-one", "Bearer sk-on", "Bearer sk-one2", "Bearer \udcff\udcfe"],
)
def test_anything_else_is_401(header: str | None) -> None:
    with pytest.raises(ClientFault) as caught:
        RING.caller(header)
    assert (caught.value.status, caught.value.type, caught.value.code) == (
        401,
        "authentication_error",
        "invalid_api_key",
    )
    assert "sk-" not in caught.value.message


@pytest.mark.parametrize("header", ["Bearer placeholder", "Bearer x"])
def test_without_keys_any_bearer_is_a_placeholder(header: str) -> None:
    assert ClientAuth([]).caller(header) is ANYONE


def test_without_keys_a_bearer_is_still_needed() -> None:
    # a web page in a browser cannot send one across origins without asking first (CORS)
    with pytest.raises(ClientFault):
        ClientAuth([]).caller(None)


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
