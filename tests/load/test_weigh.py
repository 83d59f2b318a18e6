"""How many delimiters a JSON text holds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.load import weigh

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='{[,:"\\aé\n', max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('{,"\\', max_size=4), inner, max_size=4),
    max_leaves=20,
)


def escapes(text: bytes) -> int:
    return text.count(b"\\") // weigh.ESCAPES_PER_DELIMITER


def count(value: object) -> int:
    """Return the delimiters of a value by its form."""
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(map(count, value))
    if isinstance(value, dict):
        return 1 + max(0, len(value) - 1) + len(value) + sum(map(count, value.values()))
    return 0


@given(JSON, st.integers(1, 9))
def test_strings_do_not_count_where_every_delimiter_does(value: object, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weigh, "PIECE", piece)  # cut anywhere, in the middle of an escape too
        text = msgspec.json.encode(value)
        most = count(value) + escapes(text)
        assert weigh.delimiters(text, most - 1) == most


def test_a_text_full_of_delimiters_is_one_value() -> None:
    text = msgspec.json.encode(["{[,:" * 100_000, 'he said "{,}"\\' * 10_000])
    assert weigh.delimiters(text, 10_010) - escapes(text) == 2


def test_escapes_count_as_what_they_cost() -> None:
    assert weigh.delimiters(b'{"a":"%s"}' % (rb"\n" * 1_000), 10) == 2 + 1_000 // weigh.ESCAPES_PER_DELIMITER


def test_within_the_limit_the_quick_count_is_enough() -> None:
    assert weigh.delimiters(b'["{,"]', 10) == 3


def test_the_exact_count_ends_soon_after_the_limit() -> None:
    found = weigh.delimiters(b"[" + b"{}," * 1_000_000 + b"1]", 1_000)
    assert 1_000 < found < 1_000 + 2 * weigh.PIECE
