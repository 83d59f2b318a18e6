"""A short input of texts alone is read in one go: to what it is beside an item of another kind, faults and all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemproxy.converter.bounds import BOUNDS, Bounds
from gemproxy.converter.responses.items import Said
from gemproxy.converter.responses.reading import decode
from gemproxy.errors import ClientFault

OTHER = {"type": "reasoning", "summary": []}  # nothing comes of it, and an input that holds it is read item by item


def read(items: list[Any], bounds: Bounds = BOUNDS) -> Any:
    try:
        return decode(msgspec.json.encode({"model": "m", "input": items}), bounds).items
    except ClientFault as fault:
        return fault.message, fault.param, fault.code


@pytest.mark.parametrize(
    "items",
    [
        [{"role": "user", "content": "Hello"}],
        [{"type": "message", "role": "developer", "content": ""}, {"role": "assistant", "content": "é\n", "id": "x"}],
        [{"type": None, "role": "system", "content": "Hello"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 5}],
        [{"role": "tool", "content": "Hello"}],
        [{"role": "user", "content": "Hello"}, {"role": 5, "content": "Hello"}],
        [{"type": "bogus", "role": "user", "content": "Hello"}],
        [{"content": "Hello"}],
        ["Hello"],
        [],
    ],
)
def test_texts_are_read_alike_alone_and_beside_others(items: list[Any]) -> None:
    assert read(items) == read([*items, OTHER])


def test_texts_keep_their_place() -> None:
    items = read([{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}])
    assert items == [Said(0, "user", "one"), Said(1, "assistant", "two")]


def test_texts_are_counted() -> None:
    many = [{"role": "user", "content": "a"}] * 6
    assert read(many, Bounds(messages=5))[1] == "input"
    assert len(read(many, Bounds(messages=6))) == 6
