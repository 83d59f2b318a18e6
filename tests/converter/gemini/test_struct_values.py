"""Objects on their way into a Struct: whatever they hold, a number is kept, or its digits are; names stand once."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gemproxy.converter.gemini.struct_values import kept, spelt

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(2**53 - 3, 2**53 + 3),
    st.floats(allow_nan=False, allow_infinity=False),
)
TEXTS = st.text(st.sampled_from('a":,{}[]\\\n0123456789.e-é'), max_size=40)
VALUES = st.recursive(
    NUMBERS | TEXTS | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)


def read(found: Raw | None) -> Any:
    return None if found is None else msgspec.json.decode(found)


def told(value: Any) -> Any:
    """Return a value as a Struct may hold it: an integer that a double gives back with other digits is a string."""
    if isinstance(value, dict):
        return {name: told(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [told(inner) for inner in value]
    if type(value) is int and Decimal(repr(float(value))) != value:
        return str(value)
    return value


@given(OBJECTS, st.sampled_from([-1, 0, 2]))
def test_an_object_is_kept_or_spelt(value: dict[str, Any], indent: int) -> None:
    text = msgspec.json.format(msgspec.json.encode(value), indent=indent).decode()
    wanted = told(value)
    assert read(spelt(text)) == wanted
    assert read(kept(text)) == (value if wanted == value else None)


@pytest.mark.parametrize("steps", [999, 1000, 1001, 2500])
def test_a_long_number_is_found_however_much_stands_before_it(steps: int) -> None:
    text = '{"a":[' + "1," * steps + '"\\"12345678901234567890",12345678901234567890]}'
    assert read(spelt(text))["a"][steps:] == ['"12345678901234567890', "12345678901234567890"]
    assert kept(text) is None


@pytest.mark.parametrize("start", range((1 << 20) - 30, (1 << 20) + 1, 5))
def test_a_long_number_is_found_wherever_it_stands(start: int) -> None:
    assert kept('{"a":"' + "x" * (start - 8) + '","":12345678901234567}') is None


@pytest.mark.parametrize("number", [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1 + 0.7, -0.0, math.pi])
@pytest.mark.parametrize("form", ["{!r}", "{:.17g}"])
def test_what_a_double_holds_is_kept(number: float, form: str) -> None:
    text = f'{{"a":{form.format(number)}}}'
    assert kept(text) == spelt(text) == Raw(text.encode())


@pytest.mark.parametrize("text", ["[1]", "1", "", "{", "null", '{"a":1}x'])
def test_what_is_no_object_is_none(text: str) -> None:
    assert kept(text) is None
    assert spelt(text) is None
