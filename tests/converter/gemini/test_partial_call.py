"""Calls in pieces: where a value belongs, and what a few bytes may not ask for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemproxy.converter.gemini.partial_call import PartialCall
from gemproxy.errors import UpstreamFault
from gemproxy.wire.gemini import PartialArg


def put(*pieces: dict[str, Any]) -> str:
    call = PartialCall("f", None, None)
    call.add(msgspec.convert(list(pieces), list[PartialArg]))
    return call.arguments()


def text(path: str, value: str = "x") -> dict[str, Any]:
    return {"jsonPath": path, "stringValue": value}


def number(path: str, value: float = 1) -> dict[str, Any]:
    return {"jsonPath": path, "numberValue": value}


@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [
        pytest.param([], "{}", id="nothing"),
        pytest.param([text("$.a", "Hel"), text("$.a", "lo")], '{"a":"Hello"}', id="a text goes on"),
        pytest.param([text("$.a", "")], '{"a":""}', id="an empty text"),
        pytest.param(
            [text("$.a", "1"), text("$.b", "2"), text("$.a", "3")], '{"a":"13","b":"2"}', id="two texts take turns"
        ),
        pytest.param([text("$.l[1].n", "x")], '{"l":[null,{"n":"x"}]}', id="a list with a hole"),
        pytest.param([text("$['a b'][0]", "x")], '{"a b":["x"]}', id="a quoted name"),
        pytest.param([number("$.a", 3.0), number("$.b", 0.5)], '{"a":3,"b":0.5}', id="numbers"),
        pytest.param([number("$.a", 1e300)], '{"a":1e300}', id="a number that is no exact integer"),
        pytest.param([{"jsonPath": "$.a", "boolValue": True}, {"jsonPath": "$.b"}], '{"a":true,"b":null}', id="others"),
    ],
)
def test_pieces_find_their_places(pieces: list[dict[str, Any]], arguments: str) -> None:
    assert put(*pieces) == arguments


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([text("$" + ".a" * 101)], id="too deep"),
        pytest.param([text("$" + "[0]" * 2_000)], id="much too deep"),
        pytest.param([text("$.a[100000]")], id="a place too far"),
        pytest.param([text(f"$.a[{'9' * 5000}]")], id="a place of more digits than Python reads"),
        pytest.param([text(f"$.l[{place}][9999]") for place in range(10)] + [text("$.z")], id="many lists of holes"),
        pytest.param([text(f"$.a{place}.b") for place in range(50_001)], id="many objects"),
        pytest.param([text("$.a.b"), text("$.a[0]")], id="an object is no list"),
        pytest.param([text("$.a.b"), number("$.a[0]")], id="an object has no places"),
        pytest.param([text("$.a[0]"), text("$.a.b")], id="a list is no object"),
        pytest.param([text("$.a[0]"), text("$.a")], id="a list is no text"),
        pytest.param([text("$.a.b"), text("$.a")], id="an object is no text"),
        pytest.param([text("$.a"), text("$.a.b")], id="a text is no object"),
        pytest.param([number("$.a"), text("$.a")], id="a number is no text"),
        pytest.param([text("$")], id="no place at all"),
    ],
)
def test_a_piece_that_fits_nowhere_is_a_fault(pieces: list[dict[str, Any]]) -> None:
    with pytest.raises(UpstreamFault, match="fits nowhere"):
        put(*pieces)
