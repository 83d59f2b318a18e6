"""Half characters become whole ones and nothing else changes; what is too much to decode is seen by counting."""

from __future__ import annotations

import msgspec
import pytest

from gemproxy.wire.incoming import MOST_ESCAPES, MOST_NESTED, MOST_VALUES, bearable, whole


@pytest.mark.parametrize(
    ("sent", "mended"),
    [
        pytest.param(rb'"cut \ud83d"', rb'"cut \ufffd"', id="a first half at the end"),
        pytest.param(rb'"\ude00 end"', rb'"\ufffd end"', id="a second half at the beginning"),
        pytest.param(rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"', id="a half before a whole one"),
        pytest.param(rb'"\ud83d\ude00\ude00"', rb'"\ud83d\ude00\ufffd"', id="a half behind a whole one"),
        pytest.param(rb'"\ude00\ud83d"', rb'"\ufffd\ufffd"', id="both, the wrong way round"),
        pytest.param(rb'"\ud83d-\ude00"', rb'"\ufffd-\ufffd"', id="both, with something between"),
        pytest.param(rb'"\uD83D\uDE00\uD800"', rb'"\uD83D\uDE00\ufffd"', id="capital letters"),
        pytest.param(rb'"\\ud83d"', rb'"\\ud83d"', id="a backslash and a word are no half"),
        pytest.param(rb'"\\\ud83d"', rb'"\\\ufffd"', id="a half behind a backslash"),
        pytest.param(rb'"\\ud83d\ude00"', rb'"\\ud83d\ufffd"', id="a half behind what only looks like one"),
        pytest.param(rb'"\ud83d\\ude00"', rb'"\ufffd\\ude00"', id="a half before what only looks like one"),
        pytest.param(rb'{"\ud83d":"\n,,\ud83d"}', rb'{"\ufffd":"\n,,\ufffd"}', id="a key, and commas stay"),
        pytest.param(rb'"\u00e9 \"\/\ud83d\ude00"', rb'"\u00e9 \"\/\ud83d\ude00"', id="nothing is broken"),
        pytest.param(rb'"\ud83"', rb'"\ud83"', id="an escape that is cut"),
        pytest.param(b"<html>", b"<html>", id="no JSON"),
    ],
)
def test_a_half_becomes_the_sign_for_an_unknown_character(sent: bytes, mended: bytes) -> None:
    assert whole(sent) == mended


def test_more_escapes_than_a_model_writes_are_left_as_they_are() -> None:
    body = b'"' + rb"\ud83d" * (MOST_ESCAPES + 1) + b'"'
    assert whole(body) == body


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        pytest.param(b"[" + b"{}," * (MOST_NESTED - 1) + b"{}]", False, id="an object too many"),
        pytest.param(b"[" + b"{}," * (MOST_NESTED - 2) + b"{}]", True, id="as many objects as may be"),
        pytest.param(b"[" * (MOST_NESTED + 1), False, id="a list too many"),
        pytest.param(b"[1" + b",1" * (MOST_VALUES + 1) + b"]", False, id="a number too many"),
        pytest.param(msgspec.json.encode("Grüße, " * 100_000), True, id="a long text"),
    ],
)
def test_what_is_made_of_too_many_pieces_is_not_bearable(body: bytes, fits: bool) -> None:
    assert bearable(body) == fits
