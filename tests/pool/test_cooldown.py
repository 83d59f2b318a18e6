"""How long a credential rests: hints, bounds, the ladder, strikes, and clocks that jump."""

from __future__ import annotations

import math

import pytest

from gemproxy.pool.cooldown import LONGEST_DAY, NO_END, Cooldown, Policy, in_words, next_cooldown, said, turn_back
from gemproxy.pool.slot import Slot
from gemproxy.upstream.dialect import OK, Action, Scope, Verdict
from tests.pool.pool_transcript import PARKS, UNHINTED, Pool, rests

NOW = 1_000_000.0
DAY = 86400.0


def limited(until: float | None, daily: bool = False) -> Verdict:
    return Verdict(Action.NEXT, Scope.MODEL, until, "rate_limit", daily=daily)


@pytest.mark.parametrize(
    ("hint", "daily", "expected"),
    [
        (NOW + 40, False, 40),
        (NOW + 0.2, False, 0.2),
        (NOW + 3 * DAY, False, DAY),
        (NOW + 24.5 * 3600, True, 24.5 * 3600),
        (NOW + 161 * 3600, True, LONGEST_DAY),
        (NO_END, False, math.inf),
        (NO_END, True, math.inf),
        (None, False, 5),
        (NOW, False, 5),
        (NOW - 60, False, 5),
        (-NO_END, False, 5),
        (math.nan, False, 5),
    ],
    ids=[
        "a hint is kept",
        "a short hint is kept",
        "a long hint is cut at max_rest",
        "midnight on the longest day is kept",
        "a weekly quota is asked again after a day",
        "never stays never",
        "never of a daily quota stays never",
        "no hint takes the first rung",
        "a hint of nothing is no hint",
        "a hint in the past is no hint",
        "a hint in the infinite past is no hint",
        "a hint that is no number is no hint",
    ],
)
def test_a_verdict_makes_a_rest_of_this_length(hint, daily, expected):
    rest = next_cooldown(None, limited(hint, daily), NOW, Policy())
    assert rest.until - NOW == pytest.approx(expected)
    assert (rest.since, rest.reason) == (NOW, "rate_limit")


@pytest.mark.parametrize(
    ("policy", "rungs"),
    [
        (Policy(), [5, 10, 20, 40, 80, 160, 300, 300]),
        (Policy(base_rest=1, max_unhinted=3), [1, 2, 3, 3]),
        (Policy(max_rest=7), [5, 7, 7]),
    ],
    ids=["shipped", "another ladder", "max_rest beats the ladder"],
)
def test_rests_without_a_hint_climb_the_ladder(pool, policy, rungs):
    p = pool("a", policy)
    for rung in rungs:
        assert p.serve(verdict=UNHINTED) == "a"
        assert p.refusal().returns_in == rung
        p.clock.advance(rung)


def test_a_hundred_strikes_still_make_a_finite_rest(pool):
    p = pool("a")
    for _ in range(100):
        p.serve(verdict=UNHINTED)
        p.clock.advance(300)
    assert p.serve(verdict=UNHINTED) == "a"
    assert p.refusal().returns_in == 300


def test_a_success_resets_the_ladder(pool):
    p = pool("a")
    for _ in range(3):
        p.serve(verdict=UNHINTED)
        p.clock.advance(300)
    p.serve()
    p.serve(verdict=UNHINTED)
    assert p.refusal().returns_in == 5


def test_hints_between_leave_the_ladder_where_it_was(pool):
    p = pool("a")
    p.serve(verdict=UNHINTED)
    p.clock.advance(5)
    p.serve(verdict=rests(60, now=p.clock.now))
    p.clock.advance(60)
    p.serve(verdict=UNHINTED)
    assert p.refusal().returns_in == 10


def test_leases_that_fail_together_make_one_strike(pool):
    p = pool("a")
    leases = [p.acquire() for _ in range(10)]
    for lease in leases:
        p.rotator.report(lease, UNHINTED)
    assert p.refusal().returns_in == 5
    assert len(p.changes) == 1


def test_ladders_of_models_are_apart(pool):
    p = pool("a")
    p.serve("pro", UNHINTED)
    p.clock.advance(5)
    p.serve("pro", UNHINTED)
    p.serve("flash", UNHINTED)
    assert (p.refusal("pro").returns_in, p.refusal("flash").returns_in) == (10, 5)


def test_the_longer_of_two_rests_holds(pool):
    p = pool("a")
    first, second, third = p.acquire(), p.acquire(), p.acquire()
    p.rotator.report(first, rests(40, now=p.clock.now))
    p.rotator.report(second, rests(3, now=p.clock.now))
    assert p.refusal().returns_in == 40
    p.rotator.report(third, rests(3600, now=p.clock.now, daily=True))
    assert p.refusal().returns_in == 3600


def test_a_success_of_an_older_lease_ends_no_rest(pool):
    p = pool("a")
    old, bad = p.acquire(), p.acquire()
    p.rotator.report(bad, rests(40, now=p.clock.now))
    p.rotator.report(old, OK)
    assert p.refusal().returns_in == 40


# ------------------------------------------------------------------------------------------------- clocks that jump


def test_a_clock_that_goes_back_lengthens_no_rest(pool):
    p = pool("a")
    p.serve(verdict=rests(40, now=p.clock.now))
    p.clock.advance(-7200)
    assert p.refusal().returns_in == 40
    p.clock.advance(30)
    assert p.refusal().returns_in == 10
    p.clock.advance(10)
    assert p.serve() == "a"


def test_a_clock_that_goes_back_keeps_midnight_where_it_is(pool):
    p = pool("a")
    p.serve(verdict=rests(6 * 3600, now=p.clock.now, daily=True))
    p.clock.advance(-7200)
    assert p.refusal().returns_in == 8 * 3600
    p.clock.advance(-30 * DAY)
    assert p.refusal().returns_in == LONGEST_DAY


def test_a_clock_that_goes_back_unparks_nobody(pool):
    p = pool("a")
    p.serve("flash", Verdict(Action.NEXT, Scope.MODEL, NO_END, "limit_zero"))
    p.serve("pro", PARKS)
    p.clock.advance(-7200)
    assert p.refusal("flash").returns_in is None
    assert p.refusal("pro").returns_in is None


def test_a_clock_that_goes_forward_ends_rests_in_a_probe(pool):
    p = pool("a")
    p.serve(verdict=rests(3600, now=p.clock.now))
    p.clock.advance(10 * DAY)
    assert p.acquire().probe


def test_changes_stay_in_order_when_the_clock_goes_back(pool):
    p = pool("a")
    p.serve(verdict=UNHINTED)
    p.clock.advance(5)
    p.clock.advance(-2)
    p.clock.advance(10)
    p.clock.advance(-60)
    p.clock.advance(60)
    p.serve()
    assert [change.until == 0 for change in p.changes] == [False, True]
    assert p.changes[1].changed > p.changes[0].changed


def test_turning_back_moves_the_beginning_too():
    rest = Cooldown(NOW + 10, NOW)
    turn_back(rest, 100, NOW - 100, Policy())
    assert (rest.since, rest.until) == (NOW - 100, NOW - 90)


def test_each_credential_of_a_project_keeps_its_own_rest(clock):
    p = Pool(clock, Slot("a", dialect="ai_studio", project="one"), Slot("b", dialect="ai_studio", project="one"))
    p.serve(verdict=rests(40, now=clock.now, scope=Scope.PROJECT))
    clock.advance(-100)
    assert p.refusal().returns_in == 40


# ----------------------------------------------------------------------------------------------------------- in words


@pytest.mark.parametrize(
    ("seconds", "words", "whole"),
    [
        (0.2, "1 s", "1 s"),
        (29.5, "30 s", "30 s"),
        (120.0, "120 s", "120 s"),
        (121.0, "3 min", "3 min, until 18:28 UTC"),
        (300.0, "5 min", "5 min, until 18:30 UTC"),
        (3600.0, "1 h", "1 h, until 19:25 UTC"),
        (48_900.0, "13 h 35 min", "13 h 35 min, until 08:00 UTC"),
        (48_899.5, "13 h 35 min", "13 h 35 min, until 08:00 UTC"),
        (90_000.0, "25 h", "25 h, until 2026-11-29 19:25 UTC"),
        (400_000.0, "4 d 15 h", "4 d 15 h, until 2026-12-03 09:32 UTC"),
    ],
)
def test_a_wait_is_said_in_words(seconds: float, words: str, whole: str) -> None:
    now = 1_795_890_300.0  # 2026-11-28 18:25 UTC
    assert in_words(seconds) == words
    assert said(seconds, now) == whole
    assert said(seconds, now, "at") == whole.replace("until", "at")
