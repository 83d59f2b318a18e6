"""Counts of Messages: what is kept of them and for how long, and what is guessed where nobody counts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemproxy.converter.anthropic.counting import COUNT_TOKENS
from gemproxy.converter.api import Known, Options, Plan, Received, Settled
from gemproxy.converter.transcript import Part, Usage
from gemproxy.errors import ClientFault, Failure, NoCredential, Overload, UpstreamFault
from gemproxy.load.effort import Effort
from gemproxy.models import capabilities
from tests.converter.anthropic.asking_messages import PLAIN

BODY = {key: value for key, value in PLAIN.items() if key != "max_tokens"}
PART = Part(b'{"input_tokens":7}', "studio-1", 1, Usage(), ())


def planned(stored: bytes | None = None, **change: Any) -> Plan:
    asked = COUNT_TOKENS.read(Received(msgspec.json.encode(BODY | change), {}, "/v1/messages/count_tokens"), Options())
    known = Known("m1", 1_800_000_000, lambda: "x")
    wants = asked.wants(known)
    assert wants is not None
    assert wants.alone
    known.stored |= dict.fromkeys(wants.stored, stored)
    assert asked.wants(known) is None
    model = capabilities(asked.model)
    return asked.plan(known, Settled(model, asked.model, False, Effort(1_000)))


def gathered(plan: Plan, came: Part | Failure) -> tuple[bytes, list[float]]:
    """Return the answer, and how long it is kept."""
    assert plan.gather is not None
    return plan.gather([came]), [kept.lasts for kept in plan.keep()]


def test_a_count_holds_for_a_minute() -> None:
    assert gathered(planned(), PART) == (PART.body, [60.0])


def test_a_guess_holds_for_a_moment() -> None:
    text = "word " * 400
    body, lasts = gathered(planned(messages=[{"role": "user", "content": text}]), UpstreamFault("It broke."))
    assert 500 < msgspec.json.decode(body)["input_tokens"] < 600
    assert lasts == [1.0]


def test_what_was_counted_is_not_asked_again() -> None:
    plan = planned(stored=b'{"input_tokens":7}')
    assert (plan.calls, plan.gather and plan.gather([])) == ((), b'{"input_tokens":7}')
    assert not plan.keep()


@pytest.mark.parametrize(
    ("failure", "spared"),
    [
        (UpstreamFault("It broke."), True),
        (NoCredential("Resting.", returns_in=7.0), True),
        (NoCredential("Parked.", returns_in=None), True),
        (Overload("Full."), True),
        (ClientFault("Forbidden.", status=403), True),
        (ClientFault("No such model.", status=404), False),
        (ClientFault("Too long."), False),
    ],
)
def test_only_what_is_wrong_with_the_question_is_told(failure: Failure, spared: bool) -> None:
    assert planned().spares(failure) is spared


def test_equal_questions_are_one_and_others_are_not() -> None:
    keys = {
        COUNT_TOKENS.read(Received(body, {}, ""), Options()).key  # type: ignore[attr-defined]
        for body in (msgspec.json.encode(BODY), msgspec.json.encode(BODY), msgspec.json.encode(BODY | {"system": "a"}))
    }
    assert len(keys) == 2
