"""The rotator as a transcript: who serves, what came of it, who is next. The clock is turned by hand."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from gemproxy.errors import NoCredential
from gemproxy.pool.cooldown import Policy
from gemproxy.pool.slot import Slot
from gemproxy.upstream.cause import Cause
from gemproxy.upstream.demand import Demand, MethodDemand
from gemproxy.upstream.dialect import OK, Action, Scope, Verdict
from gemproxy.upstream.refusals.rules import NO_MODEL
from gemproxy.wire.gemini import Content, Empty, GenerateRequest, Part, ToolSpec
from tests.pool.pool_transcript import CLIENT_FAULT, NEVER_THIS_MODEL, OVERLOADED, PARKS, UNHINTED, Pool, rests

# ------------------------------------------------------------------------------------------------------- who is next


def test_healthy_slots_serve_in_turn(pool):
    assert pool("a b c").serve(times=7) == "a b c a b c a"


def test_turns_go_on_from_the_last_pick_when_a_slot_is_skipped(pool):
    p = pool("a b c")
    p.serve(verdict=UNHINTED)  # a rests
    assert p.serve(times=4) == "b c b c"


def test_backup_serves_only_when_every_primary_is_out(pool):
    p = pool("a b | x y")
    assert p.serve(times=2, verdict=UNHINTED) == "a b"
    assert p.serve(times=3) == "x y x"
    p.clock.advance(5)
    assert p.serve(times=3) == "a b a"


def test_slots_tried_by_this_request_are_passed_over_into_the_backup_pool(pool):
    p = pool("a b | x")
    assert p.acquire(tried=("a",)).slot.name == "b"
    assert p.acquire(tried=("a", "b")).slot.name == "x"
    assert "already tried" in p.refusal(tried=("a", "b", "x")).message


def test_a_slot_serves_only_the_models_it_has(clock):
    p = Pool(clock, Slot("a", models=frozenset({"flash"})), Slot("b"))
    assert p.serve("pro", times=2) == "b b"
    assert p.serve("flash", times=2) == "a b"


def test_only_the_wanted_dialects_serve(clock):
    p = Pool(clock, Slot("a", dialect="ai_studio"), Slot("v", dialect="vertex"))
    assert p.serve(times=2, dialects=("vertex",)) == "v v"
    refusal = p.refusal(dialects=("code_assist",))
    assert refusal.returns_in is None
    assert "of an upstream that has what was asked for" in refusal.message


def test_a_model_named_like_the_wildcard_reaches_no_credential(pool):
    p = pool("a")
    assert p.refusal("*").returns_in is None


# --------------------------------------------------------------------------------------------------- what rests whom


def test_a_model_rests_alone(pool):
    p = pool("a b")
    p.serve("pro", rests(60, now=p.clock.now))
    assert p.serve("pro", times=2) == "b b"
    assert p.serve("flash", times=2) == "a b"


def test_a_credential_rests_for_every_model(pool):
    p = pool("a b")
    p.serve("pro", rests(60, now=p.clock.now, scope=Scope.CREDENTIAL))
    assert p.serve("pro", times=2) == "b b"
    assert p.serve("flash", times=2) == "b b"


@pytest.mark.parametrize("verdict", [OVERLOADED, CLIENT_FAULT, None], ids=["overload", "client fault", "client left"])
def test_what_is_not_the_credentials_fault_rests_nothing(pool, verdict):
    p = pool("a")
    assert p.serve(times=3, verdict=verdict) == "a a a"
    assert p.changes == []


def test_an_unhinted_infinite_upstream_verdict_parks_nobody(pool):
    p = pool("a")
    p.serve(verdict=Verdict(Action.STOP, Scope.UPSTREAM, math.inf, "location"))
    assert p.serve() == "a"


def test_credentials_of_one_project_rest_together(clock):
    p = Pool(
        clock,
        Slot("a", dialect="ai_studio", project="one"),
        Slot("b", dialect="ai_studio", project="one"),
        Slot("c", dialect="ai_studio", project="two"),
        Slot("v", dialect="vertex", project="one"),
    )
    p.serve(verdict=rests(60, now=clock.now, scope=Scope.PROJECT))
    assert p.serve(times=4) == "c v c v"
    assert p.serve("flash", times=2) == "a b"
    clock.advance(60)
    assert p.serve(times=4) == "c v a b"


def test_a_project_verdict_without_a_configured_project_rests_one_slot(pool):
    p = pool("a b")
    p.serve(verdict=rests(60, now=p.clock.now, scope=Scope.PROJECT))
    assert p.serve(times=2) == "b b"


def test_a_parked_credential_stays_out_until_unparked(pool):
    p = pool("a b")
    p.serve(verdict=PARKS)
    p.clock.advance(10 * 86400)
    assert p.serve(times=2) == "b b"
    assert p.view("a").state == "parked"
    assert p.view("a").parked == "key_invalid"
    p.rotator.unpark("a")
    assert p.serve(times=2) == "a b"


def test_an_older_lease_neither_unparks_nor_reparks(pool):
    p = pool("a")
    good, bad, worse, parking = (p.acquire() for _ in range(4))
    p.rotator.report(parking, PARKS)
    p.rotator.report(worse, Verdict(Action.NEXT, Scope.CREDENTIAL, math.inf, "later"))
    p.rotator.report(bad, rests(5, now=p.clock.now, scope=Scope.CREDENTIAL))
    p.rotator.report(good, OK)
    assert p.view("a").parked == "key_invalid"


def test_parking_ends_a_running_rest_of_the_credential(pool):
    p = pool("a")
    first, second = p.acquire(), p.acquire()
    p.rotator.report(first, rests(5, now=p.clock.now, scope=Scope.CREDENTIAL))
    p.rotator.report(second, PARKS)
    p.rotator.unpark("a")
    assert p.serve() == "a"


def test_a_model_denied_for_ever_leaves_the_others(pool):
    p = pool("a b")
    p.serve(verdict=NEVER_THIS_MODEL)
    p.clock.advance(10 * 86400)
    assert p.serve(times=2) == "b b"
    assert p.serve("flash", times=2) == "a b"
    assert p.view("a").cooling[0].seconds_left is None
    p.rotator.unpark("a")
    assert p.serve(times=2) == "a b"


def test_unpark_of_a_well_credential_changes_nothing(pool):
    p = pool("a")
    p.rotator.unpark("a")
    p.rotator.unpark("nobody")
    assert p.changes == []


# ------------------------------------------------------------------------------------------------ some requests rest


def of_size(size, *tools):
    return Demand(GenerateRequest([Content([Part(text="x" * size)], "user")], tools=list(tools)))


SEARCHING = of_size(9, ToolSpec(google_search=Empty()))
LARGE, LARGER = of_size(40 << 10), of_size(80 << 10)


def of_kind(verdict, demand, cause=Cause.UNTOLD):
    return replace(verdict, kind=demand.kind(cause))


def test_what_a_feature_draws_rests_requests_with_it_alone(pool):
    p = pool("a b | x")
    assert p.serve(verdict=of_kind(UNHINTED, SEARCHING), demand=SEARCHING, times=2) == "a b"
    assert p.serve(demand=SEARCHING) == "x"
    assert p.serve(times=4) == "a b a b"
    assert p.serve("flash", demand=SEARCHING, times=2) == "a b"


def test_what_a_size_draws_rests_requests_of_that_size_or_more(pool):
    p = pool("a | x")
    p.serve(verdict=of_kind(UNHINTED, LARGE), demand=LARGE)
    assert p.serve(times=2) == "a a"
    assert p.serve(demand=LARGE) == "x"
    assert p.serve(demand=LARGER) == "x"
    assert p.serve(demand=of_size(33 << 10)) == "a"


def test_a_model_that_rests_rests_for_every_kind_of_request(pool):
    p = pool("a")
    p.serve(verdict=UNHINTED)
    assert p.serve(demand=SEARCHING) == "-"
    assert p.serve(demand=LARGE) == "-"


def test_a_feature_without_any_quota_leaves_the_model_to_the_others(pool):
    p = pool("a")
    p.serve(verdict=of_kind(NEVER_THIS_MODEL, SEARCHING), demand=SEARCHING)
    p.clock.advance(10 * 86400)
    assert p.serve() == "a"
    assert p.refusal(demand=SEARCHING).returns_in is None
    assert p.rotator.earliest("pro", None, SEARCHING) is None
    assert p.rotator.earliest("pro") == 0
    p.rotator.unpark("a")
    assert p.serve(demand=SEARCHING) == "a"


def test_keys_of_one_project_rest_together_for_a_kind_too(clock):
    p = Pool(clock, Slot("a", project="one"), Slot("b", project="one"), Slot("c"))
    p.serve(verdict=of_kind(rests(60, now=clock.now, scope=Scope.PROJECT), SEARCHING), demand=SEARCHING)
    assert p.serve(demand=SEARCHING, times=2) == "c c"
    assert p.serve(times=3) == "a b c"


def test_a_probe_of_a_kind_keeps_no_other_request_waiting(pool):
    p = pool("a")
    p.serve(verdict=of_kind(UNHINTED, SEARCHING), demand=SEARCHING)
    p.clock.advance(5)
    probe = p.acquire(demand=SEARCHING)
    assert probe.probe
    assert p.serve() == "a"
    assert p.refusal(demand=SEARCHING).full
    p.rotator.report(probe, of_kind(UNHINTED, SEARCHING))
    assert p.refusal(demand=SEARCHING).returns_in == 10
    p.clock.advance(10)
    assert p.serve(demand=SEARCHING, times=2) == "a a"
    assert not p.acquire(demand=SEARCHING).probe


def test_success_of_other_requests_proves_nothing_for_a_kind(pool):
    p = pool("a")
    p.serve(verdict=of_kind(UNHINTED, SEARCHING), demand=SEARCHING)
    p.serve(times=3)
    assert p.serve(demand=SEARCHING) == "-"


def test_a_refusal_within_an_answer_that_may_concern_few_rests_nobody(pool):
    p = pool("a")
    p.serve(verdict=replace(UNHINTED, cause=Cause.UNTOLD))
    assert (p.serve(), p.changes) == ("a", [])


def test_operators_and_clients_are_told_which_requests_rest(pool):
    p = pool("a")
    p.serve(verdict=of_kind(rests(60, now=p.clock.now), SEARCHING), demand=SEARCHING)
    assert [rest.model for rest in p.view("a").cooling] == ["pro with search"]
    assert p.rotator.ready(["pro"]).ok
    assert p.refusal(demand=SEARCHING).message.startswith("Every credential for 'pro' with search is resting")


def test_a_rest_of_a_kind_outlives_the_process(pool, clock):
    p = pool("a")
    p.serve(verdict=of_kind(rests(60, now=clock.now), LARGE), demand=LARGE)
    again = pool("a")
    again.rotator.restore(p.changes)
    assert again.serve(demand=LARGE) == "-"
    assert again.serve() == "a"


def test_no_model_can_be_named_like_a_kind(pool):
    p = pool("a")
    p.serve(verdict=of_kind(UNHINTED, SEARCHING), demand=SEARCHING)
    key = p.changes[-1].model
    assert p.refusal(key).returns_in is None


def test_peers_are_of_the_same_pool_and_upstream(clock):
    p = Pool(clock, Slot("a", dialect="x"), Slot("b", dialect="x"), Slot("c", dialect="y"), Slot("d", 1, "x"))
    assert p.rotator.peers("a", True) == {"a", "b"}
    assert p.rotator.peers("gone", True) == {"gone"}
    assert p.rotator.peers("a", False) == {"a", "b", "d"}


def test_a_request_that_cannot_pass_anywhere_is_no_failure_of_the_credential(pool):
    p = pool("a")
    p.serve(
        verdict=Verdict(Action.ELSEWHERE, Scope.MODEL, p.clock.now + 9, "quota_minute", kind=LARGE.kind(Cause.SIZE))
    )
    assert p.view("a").failed == 0


# ------------------------------------------------------------------------------------------------------- half open


def test_a_rest_ends_in_a_single_probe(pool):
    p = pool("a")
    p.serve(verdict=rests(60, now=p.clock.now))
    p.clock.advance(60)
    probe = p.acquire()
    assert probe.probe
    waiting = p.refusal()
    assert (waiting.full, waiting.returns_in) == (True, 1.0)
    p.rotator.report(probe, OK)
    assert not p.acquire().probe


def test_others_skip_a_slot_that_is_being_probed(pool):
    p = pool("a b")
    p.serve(verdict=UNHINTED)
    p.clock.advance(5)
    p.serve()  # b's turn
    probe = p.acquire()
    assert (probe.slot.name, probe.probe) == ("a", True)
    assert p.serve(times=2) == "b b"
    p.rotator.report(probe, OK)
    assert p.serve(times=2) == "a b"


def test_a_probe_of_one_model_keeps_no_other_model_waiting(pool):
    p = pool("a")
    p.serve("pro", UNHINTED)
    p.clock.advance(5)
    p.acquire("pro")
    assert p.serve("flash") == "a"


def test_a_probe_of_the_whole_credential_keeps_all_models_waiting(pool):
    p = pool("a")
    p.serve("pro", rests(5, now=p.clock.now, scope=Scope.CREDENTIAL))
    p.clock.advance(5)
    p.acquire("pro")
    assert p.serve("flash") == "-"


@pytest.mark.parametrize(
    "verdict", [None, CLIENT_FAULT, OVERLOADED], ids=["its client left", "its client erred", "google was overloaded"]
)
def test_a_probe_that_proves_nothing_is_freed_without_a_strike(pool, verdict):
    p = pool("a")
    p.serve(verdict=UNHINTED)
    p.clock.advance(5)
    p.serve(verdict=verdict)
    assert p.acquire().probe
    assert p.records()[0].strikes == 1


def test_a_failed_probe_rests_again(pool):
    p = pool("a")
    p.serve(verdict=UNHINTED)
    p.clock.advance(5)
    p.serve(verdict=UNHINTED)
    assert p.refusal().returns_in == 10
    assert not p.refusal().full


def test_content_of_a_probe_lets_others_in_before_it_ends(pool):
    p = pool("a")
    p.serve(verdict=UNHINTED)
    p.clock.advance(5)
    probe = p.acquire()
    p.rotator.confirm(probe)
    assert not p.acquire().probe
    p.rotator.report(probe, OK)
    p.rotator.confirm(probe)
    assert p.view("a").served == 1


def test_a_rest_that_came_while_the_probe_ran_outlives_its_success(pool):
    p = pool("a")
    old, first = p.acquire(), p.acquire()
    p.rotator.report(first, UNHINTED)
    p.clock.advance(5)
    probe = p.acquire()
    p.rotator.report(old, rests(3600, now=p.clock.now))
    p.rotator.report(probe, OK)
    assert p.refusal().returns_in == 3600


def test_a_probe_reports_only_what_it_probed(pool):
    p = pool("a")
    old, first = p.acquire("flash"), p.acquire("pro")
    p.rotator.report(first, UNHINTED)
    p.clock.advance(5)
    pro = p.acquire("pro")  # probes pro
    p.rotator.report(old, rests(5, now=p.clock.now, scope=Scope.CREDENTIAL))
    p.clock.advance(5)
    p.acquire("flash")  # probes the credential
    p.rotator.report(pro, OK)
    assert p.serve("other") == "-"


# ------------------------------------------------------------------------------------------------ leases and caps


def test_a_slot_at_its_cap_is_passed_over_until_a_lease_returns(pool):
    p = pool("a | x", Policy(max_in_flight=2))
    leases = [p.acquire() for _ in range(4)]
    assert [lease.slot.name for lease in leases] == ["a", "a", "x", "x"]
    full = p.refusal()
    assert (full.full, full.returns_in, full.retry_after) == (True, 1.0, 1.0)
    assert "rotation.max_in_flight" in full.message
    p.rotator.report(leases[1], None)
    assert p.serve() == "a"


def test_a_cap_of_tried_slots_is_no_reason_to_wait(pool):
    p = pool("a", Policy(max_in_flight=1))
    p.acquire()
    assert p.refusal().full
    assert not p.refusal(tried=("a",)).full


def test_a_resting_slot_at_its_cap_counts_as_resting(pool):
    p = pool("a", Policy(max_in_flight=2))
    p.acquire()
    p.rotator.report(p.acquire(), rests(40, now=p.clock.now))
    assert (p.refusal().full, p.refusal().returns_in) == (False, 40)


def test_a_lease_reported_twice_is_a_bug(pool):
    p = pool("a")
    lease = p.acquire()
    p.rotator.report(lease, OK)
    with pytest.raises(ValueError, match="reported twice"):
        p.rotator.report(lease, OK)
    assert p.view("a").in_flight == 0


# ----------------------------------------------------------------------------------------------------- when all are out


def test_the_earliest_return_of_all_tiers_is_told(pool):
    p = pool("a b | x")
    for seconds in (40, 20.5, 30):
        p.serve(verdict=rests(seconds, now=p.clock.now))
    refusal = p.refusal()
    assert (refusal.status, refusal.code, refusal.returns_in) == (429, "rate_limit_exceeded", 20.5)
    assert "21 s" in refusal.message
    assert p.rotator.earliest("pro") == 20.5
    assert p.rotator.earliest("flash") == 0


def test_a_long_rest_is_an_exhausted_quota(pool):
    p = pool("a")
    p.serve(verdict=rests(3600, now=p.clock.now, daily=True))
    assert (p.refusal().code, p.refusal().retryable) == ("insufficient_quota", False)


@pytest.mark.parametrize("verdict", [PARKS, NEVER_THIS_MODEL], ids=["all parked", "model never"])
def test_when_only_the_operator_can_help_there_is_no_return(pool, verdict):
    p = pool("a b")
    assert p.serve(times=3, verdict=verdict) == "a b -"
    refusal = p.refusal()
    assert (refusal.status, refusal.returns_in, refusal.retry_after) == (503, None, None)
    assert "/v1/debug/cache" in refusal.message
    assert p.rotator.earliest("pro") is None


LACKS = Verdict(Action.NEXT, Scope.MODEL, 1_003_600.0, NO_MODEL, status=404)


@pytest.mark.parametrize(
    ("slots", "verdicts", "expected"),
    [
        ([Slot("a"), Slot("b")], [LACKS, LACKS], True),
        ([Slot("a"), Slot("b")], [LACKS], False),
        ([Slot("a"), Slot("b")], [LACKS, rests(60, now=1_000_000.0)], False),
        ([Slot("a"), Slot("b")], [LACKS, PARKS], False),
        ([Slot("a"), Slot("b")], [PARKS, PARKS], False),
        ([Slot("a"), Slot("b", models=frozenset({"flash"}))], [LACKS], True),
        ([Slot("a", models=frozenset({"flash"}))], [], False),
    ],
    ids=[
        "nobody has it",
        "one was not asked",
        "one rests and may have it",
        "one is parked and may have it",
        "all are parked",
        "those that are held to others do not count",
        "all are held to others",
    ],
)
def test_a_model_is_missing_when_everybody_who_might_have_it_was_asked(clock, slots, verdicts, expected):
    p = Pool(clock, *slots)
    for verdict in verdicts:
        p.serve(verdict=verdict)
    assert p.rotator.missing("pro") is expected
    clock.advance(3600)
    assert not p.rotator.missing("pro")


@pytest.mark.parametrize(
    ("other", "status", "returns_in"),
    [
        pytest.param(PARKS, 503, None, id="the other is parked: its operator must act"),
        pytest.param(rests(7200, now=1_000_000.0), 429, 7200.0, id="the other rests for longer than the model is kept"),
    ],
)
def test_who_lacks_a_model_makes_nobody_wait_for_it(clock, other, status, returns_in):
    p = Pool(clock, Slot("a"), Slot("b"))
    for verdict in (LACKS, other):
        p.serve(verdict=verdict)
    refusal = p.refusal()
    assert (refusal.status, refusal.returns_in) == (status, returns_in)
    assert p.rotator.earliest("pro") == returns_in


def test_a_pool_without_credentials_serves_nobody(pool):
    assert pool("").refusal().status == 503


def test_a_rested_slot_that_was_tried_counts_as_back(pool):
    p = pool("a b")
    p.serve(verdict=UNHINTED)
    assert p.refusal(tried=("a", "b")).returns_in == 0


@pytest.mark.parametrize(
    ("verdicts", "models", "expected"),
    [
        ({}, ["pro", "flash"], (True, 0)),
        ({"pro": rests(60, now=1_000_000.0)}, ["pro", "flash"], (True, 0)),
        ({"pro": rests(60, now=1_000_000.0)}, ["pro"], (False, 60)),
        ({"pro": rests(60, now=1_000_000.0), "flash": rests(9, now=1_000_000.0)}, ["pro", "flash"], (False, 9)),
        ({"pro": rests(60, now=1_000_000.0, scope=Scope.CREDENTIAL)}, ["flash"], (False, 60)),
        ({"pro": rests(60, now=1_000_000.0, scope=Scope.CREDENTIAL)}, [], (False, 60)),
        ({"pro": rests(60, now=1_000_000.0)}, [], (True, 0)),
        ({"pro": PARKS}, ["pro", "flash"], (False, None)),
    ],
    ids=[
        "all well",
        "one model of two rests",
        "the only model rests",
        "both models rest",
        "the credential rests",
        "the credential rests and there is no catalogue",
        "a model rests and there is no catalogue",
        "the credential is parked",
    ],
)
def test_readiness_is_about_every_credential_and_model(pool, verdicts, models, expected):
    p = pool("a")
    for model, verdict in verdicts.items():
        p.serve(model, verdict)
    ready = p.rotator.ready(models)
    assert (ready.ok, ready.returns_in) == expected


def test_one_well_backup_keeps_the_pool_ready(pool):
    p = pool("a | x")
    p.serve(verdict=PARKS)
    assert p.rotator.ready(["pro"]).ok


def test_readiness_asks_a_limited_credential_only_for_its_models(clock):
    p = Pool(clock, Slot("a", models=frozenset({"flash"})))
    assert not p.rotator.ready(["pro"]).ok
    assert p.rotator.ready(["pro", "flash"]).ok


# ------------------------------------------------------------------------------------------------------ operator's view


def test_the_snapshot_shows_state_and_counts(clock):
    p = Pool(clock, Slot("a", 0, "ai_studio", kind="api_key"), Slot("x", 1, "vertex"), Slot("z", 2, "vertex"))
    p.serve(verdict=rests(12.34, now=clock.now))
    p.serve("flash")
    p.serve("flash", CLIENT_FAULT)
    p.acquire("flash")
    a, x, z = p.rotator.snapshot()
    assert (a.name, a.kind, a.dialect, a.pool, a.state) == ("a", "api_key", "ai_studio", "primary", "cooling")
    assert [(rest.model, rest.seconds_left, rest.reason) for rest in a.cooling] == [("pro", 12.3, "rate_limit")]
    assert (a.in_flight, a.served, a.failed, a.last_error) == (1, 1, 1, "invalid_argument")
    assert (x.pool, x.state, x.cooling, x.parked) == ("backup", "ready", [], None)
    assert z.pool == "tier 2"


def test_a_rest_that_is_over_is_not_shown_as_cooling(pool):
    p = pool("a")
    p.serve(verdict=UNHINTED)
    p.clock.advance(5)
    assert p.view("a").state == "ready"


def test_model_names_from_clients_do_not_grow_a_slot_without_bound(pool):
    p = pool("a")
    p.serve("keep", NEVER_THIS_MODEL)
    p.serve("any", rests(50, now=p.clock.now, scope=Scope.CREDENTIAL))
    p.clock.advance(50)
    for number in range(2000):
        p.serve(f"made-up-{number}", rests(3600, now=p.clock.now))
        p.clock.advance(0.1)
    slot = p.acquire("flash").slot
    assert len(slot.cooldowns) <= 512
    assert len(slot.stamps) <= 514
    assert {"keep", "*"} <= slot.cooldowns.keys()


def test_names_made_up_by_clients_push_out_no_real_rest(pool):
    p = pool("a")
    for number in range(200):
        p.serve(f"real-{number}", rests(60, now=p.clock.now))
        p.serve(f"real-{number}", of_kind(rests(60, now=p.clock.now), SEARCHING), demand=SEARCHING)
    for number in range(1060):
        p.serve(f"made-up-{number}", Verdict(Action.NEXT, Scope.MODEL, p.clock.now + 3600, NO_MODEL, status=404))
    assert "a" not in p.serve("real-0") + "".join(p.serve(f"real-{number}") for number in range(200))
    assert len(p.rotator._slots[0].cooldowns) <= 512


def test_kinds_of_requests_push_out_no_rest_of_a_whole_model(pool):
    p = pool("a")
    for number in range(200):
        p.serve(f"real-{number}", rests(60, now=p.clock.now))
    for number in range(1060):
        p.serve(f"other-{number}", of_kind(rests(3600, now=p.clock.now), SEARCHING), demand=SEARCHING)
    assert {p.serve(f"real-{number}") for number in range(200)} == {"-"}


def test_models_that_are_well_again_do_not_grow_a_slot_without_bound(pool):
    p = pool("a")
    for number in range(3000):
        p.serve(f"m-{number}", UNHINTED)
        p.clock.advance(5)
        p.serve(f"m-{number}")
    assert len(p.rotator._slots[0].stamps) <= 1025


def test_a_method_with_quotas_of_its_own_rests_apart_from_answers(pool):
    p = pool("a")
    count = MethodDemand("countTokens")
    lease = p.rotator.acquire("pro")
    p.rotator.report(lease, rests(60))
    p.rotator.report(p.rotator.acquire("pro", demand=count), None)
    lease = p.rotator.acquire("pro", demand=count)
    p.rotator.report(lease, replace(rests(90), kind=count.kind(Cause.ANY)))
    with pytest.raises(NoCredential, match="by countTokens"):
        p.rotator.acquire("pro", demand=count)
    p.clock.now += 61
    assert p.serve("pro") == "a"
