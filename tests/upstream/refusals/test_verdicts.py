import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.redaction import LONGEST_MESSAGE
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Action, Scope, Verdict
from gemproxy.upstream.refusals.error_body import Refusal, read
from gemproxy.upstream.refusals.verdicts import Length, Row, deadline, judge, when
from gemproxy.upstream.vertex import Vertex
from tests.upstream.refusals.refusal_bodies import NOW, TO_MIDNIGHT, error, info, retry

HINTED = read(429, {}, error("x", retry("46s")))
RESET = read(429, {}, error("x", info("R", quotaResetTimeStamp="2026-11-22T20:10:00Z"), retry("46s")))
PLAIN = Refusal(429)


@pytest.mark.parametrize(
    ("cooldown", "refused", "expected"),
    [
        pytest.param(Length.NOT, HINTED, None, id="no cooldown, whatever the hint"),
        pytest.param(Length.HINT, HINTED, 46.0, id="the hint"),
        pytest.param(Length.HINT, PLAIN, None, id="no hint: the rotator's own ladder"),
        pytest.param(Length.MINUTE, HINTED, 46.0, id="a minute quota's hint"),
        pytest.param(Length.MINUTE, PLAIN, 60.0, id="a minute quota without one"),
        pytest.param(Length.DAY, HINTED, TO_MIDNIGHT, id="a day's quota does not heed RetryInfo"),
        pytest.param(Length.DAY, RESET, 600.0, id="but a named reset time"),
        pytest.param(Length.RESET, HINTED, 46.0, id="a long quota's hint"),
        pytest.param(Length.RESET, PLAIN, TO_MIDNIGHT, id="a long quota without one"),
        pytest.param(Length.HOUR, HINTED, 3_600.0, id="an hour"),
        pytest.param(Length.LONG, HINTED, 86_400.0, id="a day"),
        pytest.param(Length.FOREVER, HINTED, math.inf, id="until an operator acts"),
    ],
)
def test_each_kind_of_cooldown_has_its_deadline(cooldown, refused, expected):
    end = deadline(cooldown, refused, NOW)
    assert end == (None if expected is None else NOW + expected)


def never(_: Refusal) -> bool:
    """Never."""
    return False


@pytest.mark.parametrize(
    ("condition", "refused", "expected"),
    [
        pytest.param(when(), Refusal(418), True, id="nothing asked"),
        pytest.param(when(429), Refusal(429), True, id="the status"),
        pytest.param(when(429, 503), Refusal(400), False, id="another status"),
        pytest.param(when(reasons=("A", "B")), Refusal(400, reasons=frozenset("B")), True, id="one of the reasons"),
        pytest.param(when(reasons=("A",)), Refusal(400, reasons=frozenset("C")), False, id="another reason"),
        pytest.param(when(begins="penalty"), Refusal(400, text="penalty is not"), True, id="the beginning"),
        pytest.param(when(begins="penalty"), Refusal(400, text="no penalty"), False, id="not further on"),
        pytest.param(when(says="penalty"), Refusal(400, text="no penalty"), True, id="anywhere"),
        pytest.param(when(reasons=("A",), says="x"), Refusal(400, text="x"), True, id="words instead of the reason"),
        pytest.param(when(429, says="x"), Refusal(400, text="x"), False, id="the words with another status"),
        pytest.param(when(says="x", test=never), Refusal(400, text="x"), False, id="a test that does not hold"),
    ],
)
def test_a_condition_holds_when_all_kinds_and_one_of_each_fit(condition, refused, expected):
    assert condition.holds(refused) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param(when(), "any", id="nothing asked"),
        pytest.param(when(503, 429), "429 503", id="statuses"),
        pytest.param(when(403, reasons=("B", "A")), "403: A or B", id="reasons"),
        pytest.param(when(400, begins="^a", says="b", test=never), "400: “^a” or “b” or Never", id="words and a test"),
    ],
)
def test_a_condition_shows_itself_as_tables_do(condition, expected):
    assert str(condition) == expected


TABLE = (
    Row("first", when(400, says="x"), Action.STOP, status=400),
    Row("second", when(400), Action.NEXT, Scope.MODEL, words="Our words."),
    Row("last", when(), Action.RETRY, Scope.UPSTREAM, status=400),
)


def test_the_first_row_that_fits_decides():
    assert judge(TABLE, 400, {}, error("x"), NOW).reason == "first"
    assert judge(TABLE, 400, {}, error("y"), NOW).reason == "second"
    assert judge(TABLE, 500, {}, b"", NOW).reason == "last"


def test_googles_words_are_redacted_bounded_and_replaced_where_the_row_says_so():
    told = judge(TABLE, 400, {}, error("x for ann@mail.example.org " + "word " * 500), NOW).message
    assert told.startswith("x for [e-mail] word")
    assert len(told) == LONGEST_MESSAGE
    assert judge(TABLE, 400, {}, error("API key of ann@mail.org"), NOW).message == "Our words."
    assert judge(TABLE, 503, {}, b"<html>", NOW).message == "Google answered 503 without a reason."
    assert judge(TABLE, 503, {}, b"<html>", NOW).answered == 503


def test_a_bad_request_names_the_parameter_and_others_do_not():
    body = error("Invalid value at 'generation_config.temperature'")
    assert judge(TABLE[:1] + TABLE[2:], 400, {}, body, NOW).field == "temperature"
    assert judge(TABLE[1:2], 400, {}, body, NOW).field is None


DIALECTS = [cls("http://upstream.test", "gemproxy/test") for cls in (AiStudio, CodeAssist, Vertex)]
FRAGMENT = st.sampled_from(
    [
        b'{"error":',
        b"[",
        b"]",
        b"{",
        b"}",
        b'"message":',
        b'"limit: 0"',
        b'"details":',
        b'"reason":"API_KEY_INVALID"',
        b'"@type":"type.googleapis.com/google.rpc.ErrorInfo"',
        b'"retryDelay":"9s"',
        b",",
        b",,",
        b'"',
        b"\xff",
        b"\\u0000",
    ]
)


@given(
    st.integers(-1, 1000),
    st.dictionaries(st.sampled_from(["retry-after", "content-type"]), st.text(max_size=20)),
    st.binary(max_size=60) | st.lists(FRAGMENT, max_size=12).map(b"".join),
    st.floats(min_value=0, max_value=4e9),
)
def test_judging_never_raises(status, headers, body, now):
    for dialect in DIALECTS:
        verdict = dialect.judge(status, headers, body, now)
        assert isinstance(verdict, Verdict)
        assert verdict.until is None or verdict.until > now
        assert verdict.action is not Action.OK
