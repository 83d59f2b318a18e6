"""The own clock against Google's: what counts as wrong, how it is told, and that it is seen to be right again."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from gemproxy.upstream.skew import TOLERANCE, Skew
from tests.clock import Clock

DAY = 86400.0


class Clocks:
    """A wall clock and a steady one, and Google's time beside them."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.wall, self.steady = Clock(), Clock(1000.0)
        self.google = self.wall.now - ahead
        self.changes: list[str] = []
        self.skew = Skew(self.wall, self.steady)
        self.skew.on_change = lambda: self.changes.append(self.skew.words)

    def pass_time(self, seconds: float) -> None:
        for clock in (self.wall, self.steady):
            clock.advance(seconds)
        self.google += seconds

    def hear(self) -> None:
        self.skew.note({"Date": formatdate(self.google, usegmt=True)})


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        pytest.param(0.0, "", id="right"),
        pytest.param(-TOLERANCE, "", id="five minutes are borne"),
        pytest.param(-TOLERANCE - 1, "5 minutes behind", id="more are not"),
        pytest.param(TOLERANCE + 1, "5 minutes ahead of", id="nor in the other direction"),
        pytest.param(-5 * 3600.0, "5 hours behind", id="hours"),
        pytest.param(-2 * DAY, "2 days behind", id="days"),
        pytest.param(-20_000 * DAY, "20000 days behind", id="a clock that begins in 1970"),
    ],
)
def test_a_clock_is(ahead: float, words: str) -> None:
    clocks = Clocks(ahead)
    assert not clocks.skew.wrong, "nobody knows yet"
    clocks.hear()
    assert clocks.skew.wrong is bool(words)
    assert clocks.skew.words == (f"this machine's clock is {words} Google's" if words else "")
    assert clocks.changes == [clocks.skew.words] * bool(words)


def test_it_is_told_once_until_it_is_right_again() -> None:
    clocks = Clocks(-2 * DAY)
    for _ in range(3):
        clocks.pass_time(60)
        clocks.hear()
    clocks.wall.advance(2 * DAY)
    assert not clocks.skew.wrong, "a clock that was set is seen at once"
    clocks.hear()
    clocks.hear()
    assert clocks.changes == ["this machine's clock is 2 days behind Google's", ""]


def test_a_clock_that_jumps_later_is_seen_without_asking() -> None:
    clocks = Clocks()
    clocks.hear()
    clocks.pass_time(DAY)
    assert not clocks.skew.wrong
    clocks.wall.advance(-3600)
    assert clocks.skew.ahead == pytest.approx(-3600, abs=1)
    assert clocks.skew.wrong


@pytest.mark.parametrize(
    "headers",
    [{}, {"Date": ""}, {"Date": "yesterday"}, {"Date": "Mon, 99 Foo 20260 25:00:00 GMT"}, {"Date": "9" * 400}],
    ids=["none", "empty", "a word", "no such day", "digits"],
)
def test_a_date_that_nobody_can_read_changes_nothing(headers: dict[str, Any]) -> None:
    clocks = Clocks(-2 * DAY)
    clocks.skew.note(headers)
    assert clocks.skew.ahead == 0
    clocks.hear()
    clocks.skew.note(headers)
    assert clocks.skew.wrong


@pytest.mark.parametrize("zone", ["GMT", "-0000", ""], ids=["as it must be", "no zone known", "none given"])
def test_a_date_without_a_zone_is_not_taken_for_local_time(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX5")
    time.tzset()
    try:
        clocks = Clocks()
        clocks.skew.note({"Date": formatdate(clocks.google, usegmt=True).replace("GMT", zone).rstrip()})
    finally:
        monkeypatch.undo()
        time.tzset()
    assert clocks.skew.ahead == pytest.approx(0, abs=1)
