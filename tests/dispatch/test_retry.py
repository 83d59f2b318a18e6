"""What one request does after each refusal: a table of transcripts (docs/architecture.md 14.4)."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from gemproxy.dispatch.retry import BAD_ANSWER, Retry, Step, failure
from gemproxy.errors import ClientFault, Failure, NoCredential, UpstreamFault
from gemproxy.upstream.dialect import Action, Repair, Scope, Verdict

QUOTA = Verdict(Action.NEXT, Scope.MODEL, reason="quota", message="quota", status=429, code="rate_limit_exceeded")
DEAD = Verdict(Action.NEXT, Scope.CREDENTIAL, float("inf"), "key_invalid", "key", status=503)
DENIED = Verdict(Action.NEXT, Scope.NONE, reason="denied", message="denied", status=403, code="forbidden")
MISSING = Verdict(Action.NEXT, Scope.MODEL, reason="model", message="no model", status=404, code="model_not_found")
GONE = Verdict(Action.NEXT, Scope.NONE, reason="resource_not_found", message="no file", status=404, code="not_found")
STALE = Verdict(Action.REFRESH, Scope.CREDENTIAL, float("inf"), "unauthenticated", "token", status=503)
WRONG_PROJECT = Verdict(Action.REDISCOVER, Scope.CREDENTIAL, float("inf"), "project", "project", status=503)
SLOW = Verdict(Action.LATER, reason="token_slow", message="slow", status=503)
BUSY = Verdict(Action.RETRY, Scope.UPSTREAM, reason="overloaded", message="busy", status=503, code="overloaded")
NO_TOKENS = Verdict(Action.NEXT, Scope.UPSTREAM, reason="token_unavailable", message="no token", status=503)
LOST = Verdict(Action.RETRY, Scope.UPSTREAM, reason="connection_lost", message="lost")
DARK = Verdict(Action.RETRY, Scope.UPSTREAM, reason="unreachable", message="unreachable")
EMPTY = Verdict(Action.RETRY, Scope.NONE, reason=BAD_ANSWER, message="empty")
BAD_REQUEST = Verdict(Action.STOP, reason="invalid", message="bad", status=400, code="", field="tools")
TOO_MUCH = Verdict(
    Action.ELSEWHERE, Scope.MODEL, 160.0, "quota_minute", "too many tokens", 429, "rate_limit_exceeded", "messages"
)
NO_PENALTY = Verdict(Action.REPAIR, reason="penalty", message="p", status=400, code="", repair=Repair.DROP_PENALTIES)
NO_LEVEL = Verdict(Action.REPAIR, reason="level", message="l", status=400, code="", repair=Repair.DROP_LEVEL)


def retry(attempts: int = 6, budget: float = 30.0) -> Retry:
    made = Retry(attempts=attempts, budget=budget, started=100.0)
    assert made.may_begin(100.0)
    made.leased("a")
    return made


def walk(retry: Retry, *refusals: tuple[str, Verdict]) -> list[Step | Failure]:
    steps: list[Step | Failure] = []
    for slot, verdict in refusals:
        try:
            steps.append(retry.next(slot, "ai_studio", verdict))
        except Failure as failure:
            steps.append(failure)
    return steps


@pytest.mark.parametrize(
    ("refusals", "steps"),
    [
        pytest.param(
            [("a", QUOTA), ("b", QUOTA), ("c", DEAD)], [Step.MOVE] * 3, id="quota and dead keys: the next one"
        ),
        pytest.param([("a", STALE), ("a", STALE)], [Step.REFRESH, Step.MOVE], id="one refresh a credential"),
        pytest.param(
            [("a", STALE), ("b", STALE)], [Step.REFRESH, Step.REFRESH], id="each credential has its own refresh"
        ),
        pytest.param([("a", WRONG_PROJECT), ("a", WRONG_PROJECT)], [Step.REDISCOVER, Step.MOVE], id="one rediscovery"),
        pytest.param([("a", NO_PENALTY), ("a", NO_LEVEL)], [Step.REPAIR, Step.REPAIR], id="one repair of each kind"),
        pytest.param([("a", MISSING), ("b", MISSING)], [Step.MOVE] * 2, id="a missing model: another may have it"),
        pytest.param([("a", BUSY)] * 3, [Step.MOVE] * 3, id="capacity: again, then the other upstreams"),
        pytest.param([("a", NO_TOKENS)], [Step.MOVE], id="no tokens anywhere: the other upstreams"),
        pytest.param([("a", EMPTY)], [Step.MOVE], id="an empty answer is asked for once more"),
    ],
)
def test_refusals_lead_on(refusals: list[tuple[str, Verdict]], steps: list[Step]) -> None:
    assert walk(retry(), *refusals) == steps


@pytest.mark.parametrize(
    ("refusals", "status", "kind"),
    [
        pytest.param([("a", BAD_REQUEST)], 400, ClientFault, id="the caller's fault ends it at once"),
        pytest.param(
            [("a", DENIED), ("b", DENIED)], 403, ClientFault, id="403 without credential trouble: once elsewhere"
        ),
        pytest.param([("a", NO_PENALTY), ("a", NO_PENALTY)], 400, ClientFault, id="a repair that did not help"),
        pytest.param([("a", EMPTY), ("b", EMPTY)], 502, UpstreamFault, id="empty twice"),
    ],
)
def test_refusals_end_the_request(refusals: list[tuple[str, Verdict]], status: int, kind: type[Failure]) -> None:
    last = walk(retry(), *refusals)[-1]
    assert isinstance(last, kind)
    assert last.status == status


def test_refused_slots_are_not_asked_again_but_busy_upstreams_are() -> None:
    made = retry()
    walk(made, ("a", QUOTA), ("b", BUSY), ("c", DEAD))
    assert made.tried == {"a", "c"}


def test_slot_that_fails_is_left_after_two_more_tries_with_a_growing_pause() -> None:
    made = retry()
    pauses = []
    assert made.pause("ai_studio") == 0.0
    for _ in range(3):
        assert made.tried == set()
        walk(made, ("a", BUSY))
        pauses.append(made.pause("ai_studio"))
    assert pauses == [0.0, 0.5, 0.0]
    assert made.tried == {"a"}
    assert made.pause("vertex") == 0.0


def test_one_without_a_token_is_left_and_no_other_is_waited_for() -> None:
    made = pool_of("a", "b")
    walk(made, ("a", NO_TOKENS))
    assert (made.tried, made.grace) == ({"a"}, 0.0)
    told = made.outcome(NONE)
    assert (told.status, told.retry_after) == (503, 5.0)


@pytest.mark.parametrize(
    ("refusals", "choices"),
    [
        pytest.param([BUSY], [{"a"}], id="one that it has not met"),
        pytest.param([LOST], [{"a"}], id="one that it has not met, perhaps of the same upstream"),
        pytest.param([DARK], [{"a", "b", "x"}, {"a"}], id="one of another upstream, if this one cannot be reached"),
        pytest.param([BUSY] * 3, [{"a", "b"}, {"a"}], id="one of another pool, then any that it has not met"),
    ],
)
def test_a_credential_that_the_request_has_not_met_goes_first(refusals: list[Verdict], choices: list[set[str]]) -> None:
    made = pool_of("a", "b", kin={"a", "b", "x"})
    walk(made, *(("a", refusal) for refusal in refusals))
    assert [passed for passed, _ in made.choices()] == choices


def test_those_without_a_token_come_last_and_are_waited_for() -> None:
    made = retry()
    walk(made, ("a", SLOW))
    assert made.attempts == 0
    assert list(made.choices({"a", "b"})) == [({"a", "b"}, 0.0), (set(), math.inf)]


@pytest.mark.parametrize(
    ("attempts", "budget", "later", "more"),
    [(2, 30.0, 1.0, True), (1, 30.0, 1.0, False), (9, 30.0, 29.9, True), (9, 30.0, 30.0, False)],
)
def test_attempts_and_budget_bound_new_attempts(attempts: int, budget: float, later: float, more: bool) -> None:
    made = retry(attempts, budget)
    walk(made, ("a", QUOTA))
    assert made.may_begin(100.0 + later) is more


def test_slow_first_attempt_is_not_cut_by_the_budget() -> None:
    made = Retry(attempts=1, budget=1.0, started=0.0)
    assert made.may_begin(5.0)


@pytest.mark.parametrize(("earliest", "told"), [(40.0, 40.0), (0.0, 1.0), (None, 1.0)])
def test_used_up_attempts_on_quota_tell_when_to_come_back(earliest: float | None, told: float) -> None:
    made = retry(attempts=1)
    walk(made, ("a", QUOTA))
    failure = made.exhausted(earliest)
    assert (failure.status, failure.retry_after) == (429, told)
    assert "rotation.attempts = 1" in failure.message


def test_used_up_attempts_on_capacity_tell_of_it() -> None:
    made = retry(attempts=1)
    walk(made, ("a", BUSY))
    assert made.exhausted(0.0).code == "overloaded"


NONE = NoCredential("all rest", returns_in=40.0)


@pytest.mark.parametrize(
    ("refusals", "status"),
    [
        pytest.param([], 429, id="nobody was there from the start"),
        pytest.param([("a", QUOTA)], 429, id="the only one rests"),
        pytest.param([("a", MISSING)], 429, id="one lacks the model, the others rest and may have it"),
        pytest.param([("a", DENIED), ("b", MISSING)], 403, id="one lacks the model, the other is denied"),
        pytest.param([("a", GONE)], 404, id="what the request names is not there"),
        pytest.param([("a", DENIED)], 403, id="the only one is denied"),
        pytest.param([("a", QUOTA), ("b", MISSING)], 429, id="one rests: it may have the model"),
        pytest.param([("a", BUSY), ("a", BUSY), ("a", BUSY)], 503, id="no capacity anywhere"),
        pytest.param([("a", QUOTA), *[("b", BUSY)] * 3], 503, id="one rests, the upstream of the other is full"),
    ],
)
def test_nobody_left_tells_the_truest_reason(refusals: list[tuple[str, Verdict]], status: int) -> None:
    made = retry()
    walk(made, *refusals)
    assert made.outcome(NONE).status == status


def test_the_only_one_that_may_be_asked_lacks_the_model() -> None:
    made = retry()
    walk(made, ("a", MISSING))
    assert made.outcome(NoCredential("the others are passed over", returns_in=0.0)).status == 404


def test_parked_beside_one_that_lacks_the_model_is_the_operators_to_mend() -> None:
    made = retry()
    walk(made, ("a", MISSING))
    parked = NoCredential("all are out", returns_in=None)
    assert made.outcome(parked) is parked


@pytest.mark.parametrize(
    ("verdict", "status", "kind", "code"),
    [
        (BAD_REQUEST, 400, "invalid_request_error", None),
        (DENIED, 403, "permission_error", "forbidden"),
        (BUSY, 503, "server_error", "overloaded"),
        (Verdict(Action.RETRY, status=504, code="upstream_timeout"), 504, "timeout", "upstream_timeout"),
        (Verdict(Action.RETRY), 502, "server_error", "upstream_error"),
        (QUOTA, 429, "rate_limit_error", "rate_limit_exceeded"),
    ],
)
def test_verdict_becomes_the_clients_error(verdict: Verdict, status: int, kind: str, code: str | None) -> None:
    told = failure(verdict)
    assert (told.status, told.type, told.code) == (status, kind, code)
    assert told.message


def test_a_servers_wrong_location_is_not_worth_a_retry() -> None:
    told = failure(Verdict(Action.STOP, Scope.UPSTREAM, status=503, code="upstream_unavailable", message="location"))
    assert (told.retryable, told.retry_after) == (False, None)


def pool_of(*slots: str, kin: set[str] | None = None) -> Retry:
    peers = set(slots)
    return Retry(attempts=6, budget=30.0, started=100.0, peers=lambda slot, pooled: peers if pooled else kin or peers)


def test_a_request_above_the_quota_goes_to_another_pool_only() -> None:
    made = pool_of("a", "b", "c")
    assert walk(made, ("a", TOO_MUCH)) == [Step.MOVE]
    assert made.tried == {"a", "b", "c"}


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda made: made.outcome(NONE), id="no other pool"),
        pytest.param(lambda made: made.exhausted(1.0), id="no further attempt"),
    ],
)
def test_a_request_above_the_quota_is_its_callers_to_shorten(end: Callable[[Retry], Failure]) -> None:
    made = pool_of("a", "b")
    walk(made, ("a", TOO_MUCH))
    told = end(made)
    assert (told.status, told.type, told.param) == (429, "rate_limit_error", "messages")
    assert told.code == "rate_limit_exceeded"
    assert (told.message, told.retryable, told.retry_after) == ("too many tokens", False, None)


@pytest.mark.parametrize(
    ("refusals", "none"),
    [
        pytest.param([TOO_MUCH, QUOTA], NoCredential("all rest", returns_in=40.0), id="the other pool rests"),
        pytest.param([TOO_MUCH], NoCredential("busy", returns_in=1.0, full=True), id="the other pool is busy"),
        pytest.param(
            [NO_TOKENS, QUOTA], NoCredential("all rest", returns_in=5.0), id="no tokens in one, the other pool rests"
        ),
    ],
)
def test_another_pool_that_comes_back_is_told_of(refusals: list[Verdict], none: NoCredential) -> None:
    made = pool_of("a")
    walk(made, *zip("ab", refusals, strict=False))
    assert made.outcome(none) is none
