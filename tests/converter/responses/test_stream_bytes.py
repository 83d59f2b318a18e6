"""What a stream of Responses puts together of bytes is what it would be if it were encoded whole, and costs no more."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from gemproxy.converter.events import Event, Finish, Text, Thought, ToolCall
from gemproxy.converter.responses import output
from gemproxy.converter.responses.heading import Heading
from gemproxy.converter.responses.output import Output
from gemproxy.converter.responses.stream import Stream
from gemproxy.converter.transcript import Usage
from gemproxy.errors import UpstreamFault
from gemproxy.wire.openai_responses import Echo
from tests.converter.responses.response_events import events_of, folded
from tests.growth import Task, check_linear

HEADING = Heading("r1", 1_800_000_000, lambda: 1_800_000_001.5, "gemini-test", msgspec.json.encode(Echo()))
END = [Finish(0, "stop"), Usage(prompt=3, completion=5)]
SEAMS = ['"', "\\", '\\"', "a", '"a', 'a"', "\n"]


def written(said: Sequence[Event], writer: Output) -> bytes:
    return b"".join([*map(writer.write, [*said, *END]), writer.finish()])


def events(said: Sequence[Event]) -> list[dict[str, Any]]:
    return events_of(written(said, Stream(HEADING)))


def text_of(whole: Any) -> str:
    text: str = whole["output"][0]["content"][0]["text"]
    return text


def test_a_quote_at_a_seam_stays_and_no_other_comes() -> None:
    for pieces in itertools.product(SEAMS, repeat=4):
        whole = folded(events([Text(0, piece) for piece in pieces]))
        assert text_of(whole) == "".join(pieces)


def test_long_texts_keep_their_place_among_short_ones() -> None:
    raw = msgspec.Raw(msgspec.json.encode('a "long" one '))
    pieces = ["one ", "two ", raw, "three ", raw, raw, 'four"', '"five']
    said = [Text(0, piece) for piece in pieces]  # type: ignore[arg-type]  # ``Raw`` stands for long texts
    whole = folded(events(said))
    assert text_of(whole) == "".join(
        piece if isinstance(piece, str) else msgspec.json.decode(piece, type=str) for piece in pieces
    )
    assert whole == msgspec.json.decode(written(said, Output(HEADING)))


def test_events_are_numbered_without_a_gap_however_many_they_are() -> None:
    said: list[Event] = [Text(0, "word ") for _ in range(4_321)]
    said[1_500:1_500] = [Thought(0, "hm")]  # events of other kinds stand where a thousand ends
    said += [ToolCall(0, f"call_{number}", "f", "{}") for number in range(700)]
    told = events(said)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert len(told) > 7_000


def test_a_text_that_waits_for_the_end_is_counted_as_large_as_it_is() -> None:
    stream = Stream(HEADING)
    for _ in range(5_000):
        stream.write(Text(0, "word"))
    assert 5_000 * len("word") < stream.kept < 5_000 * len('"word"') + 1_000
    stream.write(ToolCall(0, "call_1", "f", "{}"))
    assert stream.kept > 5_000 * len("word"), "the message is closed, and waits for the end as before"


def test_an_answer_that_is_too_large_is_a_fault_also_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MOST_KEPT", 100_000)
    stream = Stream(HEADING)
    with pytest.raises(UpstreamFault, match="larger than 100000 bytes"):
        for _ in range(30_000):
            stream.write(Text(0, "words"))
    assert stream.kept < 120_000


def test_of_long_pieces_each_is_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MOST_KEPT", 100_000)
    stream = Stream(HEADING)
    for piece in ("a", "d" * 40_000, msgspec.Raw(b'"%b"' % (b"b" * 50_000)), "c", "e"):
        stream.write(Text(0, piece))  # type: ignore[arg-type]  # ``Raw`` stands for long texts
    assert stream.kept > 90_000
    with pytest.raises(UpstreamFault):
        stream.write(Text(0, msgspec.Raw(b'"%b"' % (b"b" * 20_000))))  # type: ignore[arg-type]


def test_deltas_cost_what_is_linear_in_them() -> None:
    def deltas(count: int) -> Task:
        said = [Text(0, "some words")] * count
        return lambda: written(said, Stream(HEADING))

    check_linear(deltas, 32_000)


def test_calls_cost_what_is_linear_in_them() -> None:
    def calls(count: int) -> Task:
        said = [ToolCall(0, f"call_{number}", "f", '{"a":1}') for number in range(count)]
        return lambda: written(said, Stream(HEADING))

    check_linear(calls, 16_000)
