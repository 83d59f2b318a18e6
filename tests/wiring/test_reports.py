"""The log's words on what became of a lease."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from gemproxy.pool.cooldown import Cooldown
from gemproxy.pool.rotator import Lease, Slot
from gemproxy.server.firsts import Firsts
from gemproxy.upstream.dialect import OK, Action, Scope, Verdict
from gemproxy.wiring.reports import report

NIGHT = Slot("a", cooldowns={"m": Cooldown(2e9 + 48_900.0, 2e9)})
NEXT, STOP = Action.NEXT, Action.STOP
WELL, RESTS, PARKED = Slot("a"), Slot("a", cooldowns={"m": Cooldown(2e9 + 30.0, 2e9)}), Slot("a", parked="revoked")


@pytest.mark.parametrize(
    ("slot", "verdict", "line"),
    [
        pytest.param(
            PARKED,
            Verdict(NEXT, Scope.CREDENTIAL, reason="later_refusal"),
            "credential a is parked (revoked): it serves again after a change, a reload or /v1/token-test",
            id="parked, with the reason that parked it",
        ),
        pytest.param(
            PARKED,
            Verdict(Action.RETRY, reason="overloaded"),
            "credential a: attempt at m failed (overloaded)",
            id="a late lease of a parked credential",
        ),
        pytest.param(
            WELL,
            Verdict(Action.RETRY, Scope.UPSTREAM, reason="upstream_error", answered=502),
            "credential a: attempt at m failed (upstream_error, HTTP 502)",
            id="what Google answered, of all that one reason stands for",
        ),
        pytest.param(
            RESTS, Verdict(NEXT, Scope.MODEL, reason="quota"), "credential a rests 30 s for m (quota)", id="a rest"
        ),
        pytest.param(
            NIGHT,
            Verdict(NEXT, Scope.MODEL, reason="quota_day"),
            "credential a rests 13 h 35 min, until 17:09 UTC, for m (quota_day)",
            id="a long rest",
        ),
        pytest.param(
            WELL,
            Verdict(STOP, Scope.UPSTREAM, reason="country"),
            "credential a: attempt at m failed (country)",
            id="Google itself will not",
        ),
        pytest.param(WELL, Verdict(STOP, reason="bad_request"), None, id="the client must change its request"),
        pytest.param(PARKED, Verdict(STOP, reason="bad_request"), None, id="the same, of a parked credential"),
        pytest.param(WELL, OK, None, id="well"),
        pytest.param(WELL, None, None, id="the client left"),
        pytest.param(WELL, Verdict(Action.LATER, reason="token_slow"), None, id="no token yet: told once, elsewhere"),
    ],
)
def test_the_log_tells_what_a_verdict_did(
    caplog: pytest.LogCaptureFixture,
    slot: Slot,
    verdict: Verdict | None,
    line: str | None,
) -> None:
    caplog.set_level(logging.INFO, "gemproxy")
    nobody: Any = SimpleNamespace(metrics=None)
    firsts = Firsts(lambda: 2e9)
    for _ in range(2):
        report(nobody, firsts, lambda: 2e9, Lease(slot, "m", 0.0), verdict)
    assert caplog.messages == ([] if line is None else [line] * 2)
    parked = line is not None and "parked" in line
    expected = ["WARNING", "WARNING" if parked else "INFO"][: len(caplog.records)]
    assert [record.levelname for record in caplog.records] == expected, "the first of its kind"


def test_another_status_for_the_same_reason_is_another_trouble(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gemproxy")
    nobody: Any = SimpleNamespace(metrics=None)
    firsts = Firsts(lambda: 2e9)
    for status in (500, 502, 500):
        failed = Verdict(Action.RETRY, Scope.UPSTREAM, reason="upstream_error", answered=status)
        report(nobody, firsts, lambda: 2e9, Lease(WELL, "m", 0.0), failed)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
