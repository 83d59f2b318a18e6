import datetime
import math
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.upstream.refusals import quota
from tests.upstream.refusals.refusal_bodies import NOW


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("56.185908122s", 56.185908122, id="RetryInfo with a fraction"),
        pytest.param("900ms", 0.9, id="RetryInfo in milliseconds"),
        pytest.param("976.066617ms", 0.976066617, id="quotaResetDelay in milliseconds with a fraction"),
        pytest.param("0s", 0.0, id="nothing to wait for"),
        pytest.param("34s", 34.0, id="whole seconds"),
        pytest.param("161h39m41.300432511s", 581_981.300432511, id="Go's hours, minutes and seconds"),
        pytest.param("2h10m5s", 7_805.0, id="hours, minutes, whole seconds"),
        pytest.param("4m", 240.0, id="minutes are not milliseconds"),
        pytest.param("1d2h", 93_600.0, id="days"),
        pytest.param("350µs", 0.00035, id="Go's microseconds"),
        pytest.param(" 5s ", 5.0, id="spaces around it"),
        pytest.param("9" * 400 + "s", quota.LONGEST_DELAY, id="a number too large is bounded, not infinite"),
        pytest.param("", None, id="nothing"),
        pytest.param("5", None, id="no unit"),
        pytest.param("-5s", None, id="a negative duration"),
        pytest.param("5s later", None, id="a sentence"),
        pytest.param("soon", None, id="a word"),
    ],
)
def test_durations_are_read_in_every_format_seen(text, expected):
    assert quota.seconds(text) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param("You exceeded your current quota.\nPlease retry in 38.90923309s.", 38.90923309, id="AI Studio"),
        pytest.param("Please retry in 900ms.", 0.9, id="AI Studio, below a second"),
        pytest.param("Your quota will reset after 4h28m20s.", 16_100.0, id="Code Assist"),
        pytest.param("Individual quota reached. Resets in 9h22m20s.", 33_740.0, id="Code Assist, individual"),
        pytest.param("try again in 1.5s", 1.5, id="the wording OpenAI's clients know"),
        pytest.param("Please retry after 30 seconds.", 30.0, id="a unit in full"),
        pytest.param("Your quota will reset after 0s.", None, id="zero says nothing"),
        pytest.param("Resource has been exhausted (e.g. check quota).", None, id="no delay at all"),
        pytest.param("retry in a while", None, id="no number"),
    ],
)
def test_delays_are_found_in_sentences(message, expected):
    assert quota.prose(message) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2026-11-22T20:00:30Z", NOW + 30, id="Zulu"),
        pytest.param("2026-11-22T12:00:30-08:00", NOW + 30, id="an offset"),
        pytest.param("2026-11-22T20:00:30.250Z", NOW + 30.25, id="a fraction"),
        pytest.param("2026-11-22T20:00:30", NOW + 30, id="no zone is taken for UTC"),
        pytest.param("tomorrow", None, id="no time"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_reset_times_are_read(text, expected):
    assert quota.timestamp(text) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("30", 30.0, id="seconds"),
        pytest.param("0.5", 0.5, id="a fraction, which proxies send"),
        pytest.param("Sun, 22 Nov 2026 20:01:00 GMT", 60.0, id="an HTTP date"),
        pytest.param("Sun, 22 Nov 2026 19:59:00 GMT", -60.0, id="an HTTP date that has passed"),
        pytest.param("-1", None, id="negative"),
        pytest.param("soon", None, id="a word"),
        pytest.param("", None, id="nothing"),
        pytest.param("9" * 30, None, id="too many digits"),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(header, expected):
    assert quota.retry_after(header, NOW) == expected


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        pytest.param((None, 5.0, 9.0), 5.0, id="the first that is there"),
        pytest.param((0.0, 0.54), 1.0, id="zero counts as none, and a second is the least"),
        pytest.param((0.0, None), None, id="nothing but zero is no hint"),
        pytest.param((-3.0,), None, id="the past is no hint"),
        pytest.param((1e12,), quota.LONGEST_DELAY, id="bounded above"),
        pytest.param((), None, id="no source"),
    ],
)
def test_first_delay_takes_the_first_that_says_something(candidates, expected):
    assert quota.first_delay(candidates) == expected


@pytest.mark.parametrize(
    ("utc", "hours"),
    [
        pytest.param("2026-11-22T20:00", 12, id="a winter day"),
        pytest.param("2026-07-01T19:00", 12, id="a summer day"),
        pytest.param("2026-11-23T07:59", 1 / 60, id="a minute before midnight"),
        pytest.param("2026-11-23T08:00", 24, id="midnight itself belongs to the new day"),
        pytest.param("2026-03-08T08:00", 23, id="the day that daylight saving begins is short"),
        pytest.param("2026-11-01T07:00", 25, id="the day that it ends is long"),
    ],
)
def test_midnight_pacific_follows_daylight_saving(utc, hours):
    now = datetime.datetime.fromisoformat(utc).replace(tzinfo=datetime.UTC).timestamp()
    assert quota.midnight_pacific(now) - now == pytest.approx(hours * 3600)


@given(st.floats(min_value=0, max_value=4e9))
def test_midnight_pacific_is_the_next_midnight_there(now):
    end = quota.midnight_pacific(now)
    there = datetime.datetime.fromtimestamp(end, ZoneInfo("America/Los_Angeles"))
    assert (there.hour, there.minute, there.second) == (0, 0, 0)
    assert 0 < end - now <= 25 * 3600


@given(st.text())
def test_any_text_gives_a_bounded_delay_or_none(text):
    for delay in (quota.seconds(text), quota.prose(text), quota.retry_after(text, NOW), quota.timestamp(text)):
        assert delay is None or math.isfinite(delay)
