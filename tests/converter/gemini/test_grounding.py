"""Sources of stretches: offsets in characters, and no more of them than an answer bears."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from gemproxy.converter.events import Annotation
from gemproxy.converter.gemini.grounding import MOST_ANNOTATIONS, MOST_CHARACTERS, annotate

TEXT = "Café: 日本 🎈 end. Café."
WEB = {"web": {"uri": "https://source.test", "title": "S"}}


def found(text: str, supports: list[dict[str, Any]], chunks: list[Any] | None = None) -> list[Annotation]:
    metadata = {"groundingChunks": [WEB] if chunks is None else chunks, "groundingSupports": supports}
    return annotate(0, Raw(msgspec.json.encode(metadata)), text)


def support(first: int | None, last: int | None, text: str | None = None, sources: Any = (0,)) -> dict[str, Any]:
    segment = {"startIndex": first, "endIndex": last, "text": text}
    return {"segment": segment, "groundingChunkIndices": list(sources)}


def at(text: str) -> tuple[int, int]:
    """Return where Google counts a stretch: in bytes."""
    first = TEXT.encode().index(text.encode())
    return first, first + len(text.encode())


@pytest.mark.parametrize("text", ["Café", "日本", "🎈 end", TEXT])
@pytest.mark.parametrize("named", [True, False], ids=["with its text", "without it"])
def test_bytes_become_characters(text: str, named: bool) -> None:
    [annotation] = found(TEXT, [support(*at(text), text if named else None)])
    assert TEXT[annotation.start : annotation.end] == text


@pytest.mark.parametrize(
    ("first", "last", "text", "shown"),
    [
        pytest.param(0, 3, "日本", "日本", id="elsewhere"),
        pytest.param(500, 900, "end", "end", id="behind the text"),
        pytest.param(None, 5, "Café", "Café", id="from the beginning"),
        pytest.param(3, 3, "end", "end", id="nothing at its offset"),
        pytest.param(-4, 3, "end", "end", id="before the beginning"),
        pytest.param(1, 4, "Café", None, id="elsewhere, but twice"),
        pytest.param(0, 3, "nowhere", None, id="nowhere"),
        pytest.param(3, 2, None, None, id="the wrong way round"),
        pytest.param(0, None, "end", None, id="no end"),
    ],
)
def test_a_stretch_is_looked_for_where_it_is_not(first: int, last: int, text: str | None, shown: str | None) -> None:
    places = [TEXT[one.start : one.end] for one in found(TEXT, [support(first, last, text)])]
    assert places == ([] if shown is None else [shown])


def test_sources_keep_googles_order_and_those_without_an_address_are_left_out() -> None:
    chunks = [{"web": {"uri": "https://a.test"}}, {"web": {"title": "no address"}}, {"retrievedContext": {"uri": "b"}}]
    told = found("Hi", [support(0, 2, None, [2, 1, 0, 7, -1])], chunks)
    assert [(one.url, one.title) for one in told] == [("b", ""), ("https://a.test", "")]


def test_one_source_of_many_places_does_not_fill_memory() -> None:
    told = found("Hi", [support(0, 2, None, [0] * 2_000)] * 150)
    assert len(told) == MOST_ANNOTATIONS


def test_a_long_address_of_many_places_does_not_fill_memory() -> None:
    address = "https://source.test/" + "a" * 300_000
    told = found("Hi", [support(0, 2, None, [0] * 2_000)], [{"web": {"uri": address}}])
    assert len(told) == MOST_CHARACTERS // len(address)


@pytest.mark.parametrize("metadata", [b"5", b'{"groundingChunks":[{"web":"\xff"}]}', b'{"groundingSupports":{}}'])
def test_sources_that_cannot_be_read_cost_no_answer(metadata: bytes) -> None:
    assert annotate(0, Raw(metadata), "Hi") == []
