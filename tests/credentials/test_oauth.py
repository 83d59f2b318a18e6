"""The words of the token endpoint: told when they are words, and never what stands for one."""

import pytest

from gemproxy.credentials.oauth import Refused, read_refusal, word


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            b'{"error":"invalid_grant","error_description":"Bad Request"}',
            Refused("invalid_grant", "Bad Request"),
            id="a refusal",
        ),
        pytest.param(b'{"error":"ya29.fake token"}', Refused("unknown_error"), id="a secret for a word"),
        pytest.param(b"{}", Refused("unknown_error"), id="no word"),
        pytest.param(b'{"error":{"code":503}}', Refused(), id="Google's usual object"),
        pytest.param(b"<html>", Refused(), id="a page"),
        pytest.param(b'{"error":"\xff"}', Refused(), id="no UTF-8"),
        pytest.param(b'{"x":' + b"[" * 100_000, Refused(), id="nested too deeply"),
    ],
)
def test_a_refusal_is_read_whatever_it_is(body, expected):
    assert read_refusal(body) == expected


@pytest.mark.parametrize("text", ["", "a" * 61, "é", "a b", "a\n"])
def test_what_is_no_word_is_not_told(text):
    assert word(text) == "unknown_error"


def test_the_repr_shows_no_description():
    assert repr(Refused("invalid_grant", "of ann@example.invalid")) == "Refused('invalid_grant')"
