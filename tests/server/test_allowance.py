"""What one client may do: at once, per minute, and what it is told of it."""

from __future__ import annotations

import pytest

from gemproxy.errors import Overload
from gemproxy.server.allowance import Allowances
from gemproxy.server.keyring import Caller

FREE = Caller("free")
TWO = Caller("two", max_concurrent=2)
SIX = Caller("six", requests_per_minute=6)


def test_unlimited_caller_is_told_nothing() -> None:
    allowances = Allowances()
    assert [allowances.enter(FREE, 0.0) for _ in range(1000)] == [{}] * 1000
    allowances.leave(FREE)


def test_open_requests_are_limited_and_freed() -> None:
    allowances = Allowances()
    allowances.enter(TWO, 0.0)
    allowances.enter(TWO, 0.0)
    with pytest.raises(Overload, match="max_concurrent") as caught:
        allowances.enter(TWO, 0.0)
    assert (caught.value.status, caught.value.type, caught.value.code) == (
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
    )
    allowances.leave(TWO)
    allowances.enter(TWO, 0.0)


def test_a_minute_is_used_up_and_fills_evenly() -> None:
    allowances = Allowances()
    told = [allowances.enter(SIX, 0.0) for _ in range(6)]
    assert [row["x-ratelimit-remaining-requests"] for row in told] == ["5", "4", "3", "2", "1", "0"]
    assert told[0] == {
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "10s",
    }
    assert told[5]["x-ratelimit-reset-requests"] == "1m0s"
    with pytest.raises(Overload, match="requests_per_minute") as caught:
        allowances.enter(SIX, 4.0)
    assert caught.value.retry_after == pytest.approx(6.0)
    assert caught.value.headers["x-ratelimit-remaining-requests"] == "0"
    assert allowances.enter(SIX, 10.0)["x-ratelimit-remaining-requests"] == "0"
    assert allowances.enter(SIX, 1000.0)["x-ratelimit-remaining-requests"] == "5", "it never holds more than a minute's"


def test_clock_that_goes_back_gives_nothing() -> None:
    allowances = Allowances()
    for _ in range(6):
        allowances.enter(SIX, 100.0)
    with pytest.raises(Overload):
        allowances.enter(SIX, 50.0)


def test_short_waits_are_told_in_milliseconds() -> None:
    quick = Caller("quick", requests_per_minute=600)
    assert Allowances().enter(quick, 0.0)["x-ratelimit-reset-requests"] == "100ms"


# ------------------------------------------------------------------------------------------------------ over a reload


def test_requests_from_before_a_limit_take_its_places() -> None:
    allowances, free = Allowances(), Caller("two")
    for _ in range(2):
        allowances.enter(free, 0.0)
    with pytest.raises(Overload, match="has 2 requests open"):
        allowances.enter(TWO, 0.0)
    allowances.leave(free)
    allowances.enter(TWO, 0.0)
    with pytest.raises(Overload, match="max_concurrent"):
        allowances.enter(TWO, 0.0)
    allowances.leave(free)
    allowances.enter(TWO, 0.0)
    with pytest.raises(Overload, match="max_concurrent"):
        allowances.enter(TWO, 0.0)


@pytest.mark.parametrize(
    ("before", "asked", "after", "remaining"),
    [
        pytest.param(0, 9, 6, "5", id="none before: it begins with a full one"),
        pytest.param(6, 2, 6, "3", id="the same"),
        pytest.param(6, 6, 60, "53", id="a higher one: what was used stays used, and no more"),
        pytest.param(60, 50, 6, None, id="a lower one, used up"),
        pytest.param(60, 2, 6, "3", id="a lower one, not used up"),
    ],
)
def test_a_new_limit_counts_what_was_used_of_the_old(
    before: int, asked: int, after: int, remaining: str | None
) -> None:
    allowances = Allowances()
    for _ in range(asked):
        allowances.enter(Caller("one", requests_per_minute=before, max_concurrent=100), 0.0)
    limited = Caller("one", requests_per_minute=after)
    if remaining is not None:
        assert allowances.enter(limited, 0.0)["x-ratelimit-remaining-requests"] == remaining
    else:
        with pytest.raises(Overload) as caught:
            allowances.enter(limited, 0.0)
        assert caught.value.retry_after == 10.0, "not the whole of what was used of the old"
