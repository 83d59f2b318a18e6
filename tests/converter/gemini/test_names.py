"""Names on the wire: fit for Gemini, never two the same, told back as the client wrote them (docs/protocol.md 1.4)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.converter.gemini.names import Distinct, Names


def reserved(*wanted: str) -> Names:
    names = Names()
    names.reserve(list(wanted))
    return names


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        pytest.param("get_weather", "get_weather", id="fit"),
        pytest.param("a.b:c-d_1", "a.b:c-d_1", id="all that Gemini allows"),
        pytest.param("get weather", "get_weather", id="a space"),
        pytest.param("wetter/größe", "wetter_gr__e", id="a slash and letters of other alphabets"),
        pytest.param("1st", "_1st", id="a digit first"),
        pytest.param("-x", "_-x", id="a dash first"),
        pytest.param("x" * 80, "x" * 64, id="too long"),
        pytest.param("1" * 64, "_" + "1" * 63, id="too long with what has to stand before it"),
        pytest.param("é", "_", id="nothing left of it"),
        pytest.param("", "_", id="nothing"),
    ],
)
def test_name(name: str, wire: str) -> None:
    names = reserved(name)
    assert names.wire(name) == wire
    assert names.changed() == ({wire: name} if wire != name else {})


def test_names_that_are_fit_stay_untouched_whoever_comes_first() -> None:
    names = reserved("get weather", "get/weather", "get_weather")
    assert names.changed() == {"get_weather_2": "get weather", "get_weather_3": "get/weather"}
    assert names.wire("get_weather") == "get_weather"


def test_a_name_that_was_not_reserved_is_made_fit_when_it_comes() -> None:
    names = reserved("get_it")
    assert [names.wire(name) for name in ("get it", "get it", "get_it")] == ["get_it_2", "get_it_2", "get_it"]
    assert names.changed() == {"get_it_2": "get it"}


def test_long_names_that_begin_alike_have_room_for_their_numbers() -> None:
    names = reserved(*("x" * (80 + number) for number in range(3)))
    assert list(names.changed()) == ["x" * 64, "x" * 56 + "_2", "x" * 56 + "_3"]


@given(st.lists(st.text(min_size=1, max_size=90), unique=True, max_size=20))
def test_names_are_fit_and_never_two_the_same(given_names: list[str]) -> None:
    names = Names()
    names.reserve(given_names)
    wires = [names.wire(name) for name in given_names]
    assert len(set(wires)) == len(wires)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}", wire) for wire in wires)
    back = names.changed()
    assert [back.get(wire, wire) for wire in wires] == given_names


def test_distinct_names_are_numbered_and_pass_over_what_is_taken() -> None:
    distinct = Distinct()
    assert [distinct.take(name) for name in ("a", "a_2", "a", "a", "a_3")] == ["a", "a_2", "a_3", "a_4", "a_3_2"]


def test_a_number_stands_behind_what_there_is_room_for() -> None:
    distinct = Distinct()
    assert [distinct.take("abcdef", 3) for _ in range(3)] == ["abcdef", "abc_2", "abc_3"]
