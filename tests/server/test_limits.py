"""What one client may do: at once, per minute, and what it is told of it."""

from __future__ import annotations

import pytest

from gemproxy.errors import Overload
from gemproxy.server.auth import Caller
from gemproxy.server.limits import ClientLimits

FREE = Caller("free")
TWO = Caller("two", max_concurrent=2)
SIX = Caller("six", requests_per_minute=6)


def test_unlimited_caller_is_not_told() -> None:
    client_limits = ClientLimits()
    assert [client_limits.enter(FREE, 0.0) for _ in range(1000)] == [{}] * 1000
    client_limits.leave(FREE)


# what a reload does to one client, by its old and its new limits


def test_what_was_open_before_a_limit_counts_under_it() -> None:
    client_limits = ClientLimits()
    client_limits.enter(Caller("ci"), 0.0)
    client_limits.enter(Caller("ci", max_concurrent=2), 0.0)
    with pytest.raises(Overload, match="2 requests open"):
        client_limits.enter(Caller("ci", max_concurrent=2), 0.0)
    client_limits.leave(Caller("ci"))
    client_limits.enter(Caller("ci", max_concurrent=2), 0.0)
    with pytest.raises(Overload):
        client_limits.enter(Caller("ci", max_concurrent=2), 0.0)


def test_what_was_open_under_a_limit_frees_no_place_of_others_without_it() -> None:
    client_limits = ClientLimits()
    client_limits.enter(TWO, 0.0)
    client_limits.enter(Caller("two"), 0.0)
    client_limits.leave(TWO)
    client_limits.enter(TWO, 0.0)
    with pytest.raises(Overload):
        client_limits.enter(TWO, 0.0)


@pytest.mark.parametrize(
    ("before", "asked", "after", "left"),
    [
        pytest.param(Caller("ci", max_concurrent=9), 3, 60, 59, id="a first limit begins with a full minute"),
        pytest.param(Caller("ci"), 3, 60, 59, id="so it does for one that had no limit at all"),
        pytest.param(Caller("ci", requests_per_minute=6), 6, 60, 53, id="a higher one gives what it adds at once"),
        pytest.param(Caller("ci", requests_per_minute=60), 50, 55, 4, id="a lower one takes what it takes"),
    ],
)
def test_a_new_limit_begins_with_what_was_not_used_of_the_old(
    before: Caller, asked: int, after: int, left: int
) -> None:
    client_limits = ClientLimits()
    for _ in range(asked):
        client_limits.enter(before, 100.0)
        client_limits.leave(before)
    told = client_limits.enter(Caller("ci", requests_per_minute=after), 100.0)
    assert told["x-ratelimit-remaining-requests"] == str(left)


def test_of_a_much_lower_limit_no_more_than_one_minute_is_used_up() -> None:
    client_limits = ClientLimits()
    for _ in range(600):
        client_limits.enter(Caller("ci", requests_per_minute=600), 0.0)
    with pytest.raises(Overload) as caught:
        client_limits.enter(Caller("ci", requests_per_minute=6), 0.0)
    assert caught.value.retry_after == pytest.approx(10.0)


def test_open_requests_are_limited_and_freed() -> None:
    client_limits = ClientLimits()
    client_limits.enter(TWO, 0.0)
    client_limits.enter(TWO, 0.0)
    with pytest.raises(Overload, match="max_concurrent") as caught:
        client_limits.enter(TWO, 0.0)
    assert (caught.value.status, caught.value.type, caught.value.code) == (
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
    )
    client_limits.leave(TWO)
    client_limits.enter(TWO, 0.0)


def test_a_minute_is_used_up_and_fills_evenly() -> None:
    client_limits = ClientLimits()
    told = [client_limits.enter(SIX, 0.0) for _ in range(6)]
    assert [row["x-ratelimit-remaining-requests"] for row in told] == ["5", "4", "3", "2", "1", "0"]
    assert told[0] == {
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "10s",
    }
    assert told[5]["x-ratelimit-reset-requests"] == "1m0s"
    with pytest.raises(Overload, match="requests_per_minute") as caught:
        client_limits.enter(SIX, 4.0)
    assert caught.value.retry_after == pytest.approx(6.0)
    assert caught.value.headers["x-ratelimit-remaining-requests"] == "0"
    assert client_limits.enter(SIX, 10.0)["x-ratelimit-remaining-requests"] == "0"
    assert client_limits.enter(SIX, 1000.0)["x-ratelimit-remaining-requests"] == "5", (
        "it never holds more than a minute's"
    )


def test_clock_that_goes_back_gives_nothing() -> None:
    client_limits = ClientLimits()
    for _ in range(6):
        client_limits.enter(SIX, 100.0)
    with pytest.raises(Overload):
        client_limits.enter(SIX, 50.0)


def test_short_waits_are_told_in_milliseconds() -> None:
    quick = Caller("quick", requests_per_minute=600)
    assert ClientLimits().enter(quick, 0.0)["x-ratelimit-reset-requests"] == "100ms"
