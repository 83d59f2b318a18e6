"""What outlives the process, what a reload keeps, and how two processes agree."""

from __future__ import annotations

import math

import pytest

from gemproxy.pool.cooldown import Policy, Record
from gemproxy.pool.slot import Slot
from gemproxy.upstream.dialect import OK, Scope
from tests.pool.pool_transcript import NEVER_THIS_MODEL, PARKS, UNHINTED, Pool, rests


def reborn(p: Pool, *names: str) -> Pool:
    """Return the pool after a restart of the process: fresh slots, restored records."""
    fresh = Pool(p.clock, *(Slot(name, 0, "ai_studio", fingerprint=f"print-{name}") for name in names))
    fresh.rotator.restore(p.records())
    return fresh


def test_rests_strikes_and_parking_survive_a_restart(pool):
    p = pool("a b c")
    p.serve("pro", UNHINTED)
    p.clock.advance(5)
    p.serve("pro", PARKS)  # b
    p.serve("pro", rests(3600, now=p.clock.now, daily=True))  # c
    p.serve("pro", UNHINTED)  # a again: second strike
    fresh = reborn(p, "a", "b", "c")
    assert fresh.records() == p.records()
    assert fresh.refusal("pro").returns_in == 10
    assert [view.state for view in fresh.rotator.snapshot()] == ["cooling", "parked", "cooling"]
    assert fresh.view("c").cooling[0].daily
    assert fresh.changes == []


def test_a_rest_that_ended_meanwhile_still_needs_a_probe(pool):
    p = pool("a")
    p.serve(verdict=UNHINTED)
    p.clock.advance(3600)
    assert reborn(p, "a").acquire().probe


def test_a_credential_that_was_changed_starts_afresh(pool):
    p = pool("a")
    p.serve(verdict=PARKS)
    fresh = Pool(p.clock, Slot("a", fingerprint="print-of-a-new-key"))
    fresh.rotator.restore(p.records())
    assert fresh.serve() == "a"


def test_a_credential_that_was_renamed_keeps_its_state(clock):
    p = Pool(clock, Slot("a", fingerprint="print"))
    p.serve(verdict=PARKS)
    fresh = Pool(clock, Slot("renamed", fingerprint="print"))
    fresh.rotator.restore(p.records())
    assert fresh.view("renamed").state == "parked"


def test_every_change_is_told_once(pool):
    p = pool("a")
    p.serve(verdict=UNHINTED)
    p.serve("flash", PARKS)
    p.rotator.unpark("a")
    p.clock.advance(5)
    p.serve()
    assert [(change.model, change.until - 1_000_000.0) for change in p.changes] == [
        ("pro", 5),
        ("*", math.inf),
        ("*", -1_000_000.0),
        ("pro", -1_000_000.0),
    ]
    assert {change.fingerprint for change in p.changes} == {"print-a"}


def test_ordinary_traffic_tells_nothing(pool):
    p = pool("a b")
    p.serve(times=20)
    assert p.changes == []
    assert p.records() == []


def test_two_processes_agree_on_the_newest_word(pool):
    one, two = pool("a"), pool("a")
    one.serve(verdict=rests(60, now=one.clock.now))
    two.rotator.restore(one.changes)
    assert two.refusal().returns_in == 60
    one.clock.advance(60)
    two.serve()
    one.rotator.restore(two.changes)
    assert not one.acquire().probe


def test_an_old_record_brings_no_lifted_rest_back(pool):
    p = pool("a")
    p.serve(verdict=UNHINTED)
    p.clock.advance(5)
    p.serve()
    p.rotator.restore(p.changes[:1])
    assert not p.acquire().probe


def test_parking_and_unparking_cross_processes(pool):
    one, two = pool("a"), pool("a")
    one.serve(verdict=PARKS)
    two.rotator.restore(one.changes)
    assert two.view("a").parked == "key_invalid"
    one.clock.advance(1)
    two.rotator.unpark("a")
    one.rotator.restore(two.changes)
    assert one.serve() == "a"


def test_a_record_of_a_lost_credential_is_passed_over(pool):
    p = pool("a")
    p.rotator.restore([Record("print-z", "pro", math.inf, changed=1.0)])
    assert p.serve() == "a"


@pytest.mark.parametrize(
    ("since", "until", "daily", "expected"),
    [(0, 40, False, 40), (5000, 5040, False, 40), (0, 10 * 86400, False, 86400), (5000, 6000, True, 6000)],
    ids=["as written", "written by a clock that was ahead", "longer than max_rest", "midnight holds"],
)
def test_a_record_is_read_by_todays_clock(pool, since, until, daily, expected):
    p = pool("a")
    now = p.clock.now
    p.rotator.restore([Record("print-a", "pro", now + until, now + since, "rate_limit", daily, 1, now)])
    assert p.refusal().returns_in == expected


def test_two_slots_of_one_credential_share_a_record(clock):
    p = Pool(clock, Slot("a", fingerprint="print"), Slot("b", fingerprint="print"))
    p.serve(verdict=PARKS)
    p.serve(verdict=PARKS)
    assert len(p.records()) == 1
    assert reborn(p, "a").serve() == "a"


# --------------------------------------------------------------------------------------------------------- reload


def slots(*names: str, tier: int = 0) -> list[Slot]:
    return [Slot(name, tier, "ai_studio", fingerprint=f"print-{name}") for name in names]


def test_a_reload_keeps_rests_of_unchanged_credentials(pool):
    p = pool("a b")
    p.serve(verdict=rests(60, now=p.clock.now))
    p.rotator.replace(slots("a", "c"))
    assert p.serve(times=2) == "c c"
    assert p.refusal(tried=("c",)).returns_in == 0
    assert p.view("a").failed == 1


def test_a_reload_forgives_what_only_the_operator_could_mend(pool):
    p = pool("a b")
    p.serve(verdict=PARKS)
    p.serve(verdict=NEVER_THIS_MODEL)
    p.rotator.replace(slots("a", "b"))
    assert p.serve(times=2) == "a b"
    assert [change.until for change in p.changes] == [math.inf, math.inf, 0, 0]


def test_a_credential_that_comes_back_brings_its_rests_but_is_not_parked(pool):
    p = pool("a b c")
    p.serve(verdict=PARKS)
    p.serve(verdict=rests(60, now=p.clock.now))
    p.rotator.replace(slots("c"))
    p.rotator.replace(slots("a", "b", "c"), records=p.changes)
    assert p.serve(times=4) == "a c a c"


def test_a_lease_survives_a_reload_that_keeps_its_credential(pool):
    p = pool("a", Policy(max_in_flight=1))
    lease = p.acquire()
    p.rotator.replace(slots("a"))
    assert p.refusal().full
    p.rotator.report(lease, OK)
    assert p.serve() == "a"


@pytest.mark.parametrize("verdict", [OK, UNHINTED, PARKS, None], ids=["success", "rest", "parking", "client left"])
def test_a_lease_of_a_removed_credential_ends_without_effect(pool, verdict):
    p = pool("a", project="one")
    p.serve(verdict=UNHINTED)
    p.clock.advance(5)
    lease = p.acquire()
    told = len(p.changes)
    p.rotator.replace([Slot("b", 0, "ai_studio", "one", "print-b")])
    p.rotator.report(lease, verdict)
    assert len(p.changes) == told
    assert p.serve(times=2) == "b b"


def test_a_removed_credential_no_longer_speaks_for_its_project(clock):
    p = Pool(clock, Slot("a", 0, "ai_studio", "one", "print-a"), Slot("b", 0, "ai_studio", "one", "print-b"))
    lease = p.acquire()
    p.rotator.replace([Slot("b", 0, "ai_studio", "one", "print-b")])
    p.rotator.report(lease, rests(60, now=clock.now, scope=Scope.PROJECT))
    assert p.serve() == "b"


def test_a_reload_takes_the_new_place_name_models_and_policy(pool):
    p = pool("a b")
    p.serve()
    fresh = [Slot("renamed", 1, "vertex", "two", "print-a", frozenset({"pro"}), "service_account"), *slots("b")]
    p.rotator.replace(fresh, Policy(max_in_flight=1))
    assert p.acquire().slot.name == "b"
    lease = p.acquire()
    assert (lease.slot.name, lease.slot.dialect, lease.slot.served) == ("renamed", "vertex", 1)
    assert p.refusal("flash").full
    assert p.view("renamed").kind == "service_account"


def test_a_reload_without_a_policy_keeps_the_old_one(pool):
    p = pool("a", Policy(max_in_flight=1))
    p.rotator.replace(slots("a"))
    p.acquire()
    assert p.refusal().full


def test_slots_without_fingerprint_are_known_by_name(clock):
    p = Pool(clock, Slot("a"), Slot("b"))
    p.serve(verdict=rests(60, now=clock.now))
    p.rotator.replace([Slot("b"), Slot("a")])
    assert p.serve(times=2) == "b b"


def test_twins_of_one_credential_keep_their_own_state_in_a_reload(clock):
    p = Pool(clock, Slot("a", fingerprint="print"), Slot("b", fingerprint="print"))
    p.serve(times=3)
    p.rotator.replace([Slot("b", fingerprint="print"), Slot("a", fingerprint="print"), Slot("c", fingerprint="print")])
    assert [(view.name, view.served) for view in p.rotator.snapshot()] == [("b", 1), ("a", 2), ("c", 0)]
