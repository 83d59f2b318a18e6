"""Thought signatures: bound to seed, upstream and family; whole or worthless."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.simulator.signatures import DUMMIES, Signer, dummy


def test_signature_is_genuine_where_it_was_made() -> None:
    signature = Signer(7).sign("ai_studio", "flash-3")
    assert Signer(7).genuine(signature, "ai_studio", "flash-3")
    assert not Signer(8).genuine(signature, "ai_studio", "flash-3")
    assert not Signer(7).genuine(signature, "vertex", "flash-3")
    assert not Signer(7).genuine(signature, "ai_studio", "pro-3")


def test_signatures_never_repeat_and_look_like_base64() -> None:
    signer = Signer(-1)
    made = {signer.sign("vertex", "flash-3") for _ in range(20)}
    assert len(made) == 20
    assert all(len(base64.b64decode(each, validate=True)) > 100 for each in made)


@given(st.text(max_size=40))
def test_no_other_text_is_genuine(text: str) -> None:
    assert not Signer(0).genuine(text, "ai_studio", "flash-3")


@pytest.mark.parametrize("form", [str, lambda text: base64.b64encode(text.encode()).decode()], ids=["plain", "base64"])
def test_dummies_skip_the_check(form: type[str]) -> None:
    assert [dummy(form(each), "ai_studio") for each in DUMMIES] == [True, True]
    assert [dummy(form(each), "vertex") for each in DUMMIES] == [True, False]
    assert not dummy(form("skip"), "ai_studio")
