"""A stream of Anthropic's adds up to the whole message, keeps to its grammar, and ends as it should."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from gemproxy.converter.anthropic.heading import Heading
from gemproxy.converter.anthropic.stream import Opening, Stream
from gemproxy.converter.anthropic.whole import Whole
from gemproxy.converter.events import Annotation, Finish, Image, Meta, Refusal, Text, Thought, ToolCall
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.sealed import SIGNATURE, opened
from gemproxy.converter.transcoder import Transcoder
from gemproxy.converter.transcript import ErrorFrame, Usage
from gemproxy.errors import Failure
from tests.converter.anthropic.message_events import events_of, folded
from tests.corpus import listed
from tests.golden import converted, decode, frames, scenarios, sse
from tests.recorded import Recorded, answers

HEADING = Heading("m1", "gemini-test", lambda: "x", "ai_studio/g", thinks=True)
GROUNDED = msgspec.structs.replace(HEADING, grounded=True)
USAGE = Usage(prompt=30, completion=5, reasoning=2, cached=10)
SIGNED = ToolCall(0, "toolu_1", "f", '{"a": 1}', "c2ln")
RECORDED = listed("surfaces/anthropic/*.sse")


def transcoder(*, stream: bool) -> Transcoder:
    count = itertools.count()
    writer = Stream(GROUNDED, Opening()) if stream else Whole(GROUNDED)
    reader = AnswerReader(lambda: f"toolu_{next(count)}", alone=True)
    writer.count_by(reader.usage)
    return Transcoder(decode, reader, writer, at_once=not stream)


def told(events: Sequence[Any], heading: Heading = HEADING) -> list[dict[str, Any]]:
    """Return the events of a stream that says this, and ends well; the whole of it must be the same."""
    stream, whole = Stream(heading, Opening()), Whole(heading)
    for writer in (stream, whole):
        writer.count_by(lambda: USAGE)
    found = events_of(b"".join([*map(stream.write, events), stream.finish()]))
    assert b"".join(map(whole.write, events)) == b""
    copy = msgspec.json.decode(msgspec.json.encode(found))
    assert folded(copy) == msgspec.json.decode(whole.finish())
    return found


def content(events: Sequence[Any], heading: Heading = HEADING) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = folded(told([*events, Finish(0, "stop")], heading))["content"]
    return found


def kinds(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event.get("delta", {}).get("type") or event["type"] for event in events]


def check(body: bytes) -> int:
    """Hold an upstream's answer against all that must be true of it; returns the number of events."""
    try:
        whole = msgspec.json.decode(b"".join(converted(transcoder(stream=False), [body])))
    except (Failure, ErrorFrame):
        whole = None
    written: list[bytes] = []
    try:
        written += converted(transcoder(stream=True), [body])
    except (Failure, ErrorFrame):
        assert whole is None
    events = events_of(b"".join(written))
    if whole is not None:
        blocks = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
        assert "thinking" not in blocks[1:], "a thought behind anything else makes clients lose what was said"
        assert folded(events) == whole
    return len(events)


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_the_grammar_is_that_of_recorded_streams(file: Any) -> None:
    body = file.read_bytes().rstrip() + b"\n\n"
    assert folded(events_of(body))["stop_reason"]


def test_there_are_recorded_streams() -> None:
    assert len(RECORDED) > 10


@pytest.mark.parametrize("scenario", list(scenarios()))
def test_the_events_add_up_to_the_whole(scenario: str) -> None:
    assert check(sse(frames(scenario))) > 2


@pytest.mark.parametrize("recorded", answers("aistudio", "vertex"), ids=lambda recorded: recorded.file)
def test_the_events_of_a_recorded_answer_add_up_to_the_whole(recorded: Recorded) -> None:
    check(recorded.path.read_bytes())


def test_a_message_is_told_step_by_step() -> None:
    events = told([Meta("g"), Text(0, "Hel"), Text(0, "lo"), Finish(0, "stop")])
    assert kinds(events) == [
        *("message_start", "content_block_start", "text_delta", "text_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert events[0]["message"]["usage"]["input_tokens"] == 20
    assert folded(events) == {
        "type": "message",
        "id": "msg_m1",
        "model": "gemini-test",
        "role": "assistant",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 20,
            "cache_read_input_tokens": 10,
            "cache_creation_input_tokens": 0,
            "output_tokens": 5,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    }


def test_what_nobody_sees_begins_no_stream() -> None:
    stream = Stream(HEADING, Opening())
    assert stream.write(Meta("g")) + stream.write(Text(0, "", "c2ln")) == b"", "the attempt may still be repeated"


def test_a_stream_that_was_begun_early_is_not_begun_again() -> None:
    opening = Opening()
    assert opening.take()
    assert not opening.take()
    stream = Stream(HEADING, opening)
    assert b"message_start" not in stream.write(Text(0, "Hi")) + stream.finish()


def test_a_signed_call_hangs_on_the_thought_before_it() -> None:
    thought, call, other = content([Thought(0, "h"), Thought(0, "m"), SIGNED, ToolCall(0, "toolu_2", "g", "{}")])
    assert thought["thinking"] == "hm"
    held = opened(SIGNATURE, thought["signature"], 4)
    assert held is not None
    assert list(held[:3]) == ["ai_studio/g", "toolu_1", "c2ln"]
    assert call == {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
    assert other["input"] == {}


def test_without_a_shown_thought_an_empty_one_carries_the_signature() -> None:
    thought, _ = content([SIGNED])
    assert thought["thinking"] == ""
    assert opened(SIGNATURE, thought["signature"], 4) is not None


def test_behind_a_text_nothing_carries_it() -> None:
    assert [block["type"] for block in content([Thought(0, "hm"), Text(0, "So:"), SIGNED])] == [
        *("thinking", "text", "tool_use"),
    ]
    assert [block["type"] for block in content([Text(0, "So:"), SIGNED])] == ["text", "tool_use"]


def test_behind_a_call_nothing_carries_it_either() -> None:
    unsigned = ToolCall(0, "toolu_0", "f", "{}")
    assert [block["type"] for block in content([unsigned, SIGNED])] == ["tool_use", "tool_use"]


def test_a_thought_that_signs_no_call_has_a_signature_of_ours() -> None:
    thought, _ = content([Thought(0, "hm"), Text(0, "So:")])
    assert thought["signature"]
    assert opened(SIGNATURE, thought["signature"], 4) is None


def test_a_thought_behind_a_text_is_not_told() -> None:
    assert content([Text(0, "a"), Thought(0, "hm"), Text(0, "b")]) == [{"type": "text", "text": "ab"}]


def test_who_did_not_ask_for_thoughts_gets_none() -> None:
    heading = msgspec.structs.replace(HEADING, thinks=False)
    assert [block["type"] for block in content([Thought(0, "hm"), SIGNED], heading)] == ["tool_use"]


@pytest.mark.parametrize(
    ("reason", "told_as"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("content_filter", "refusal")],
)
def test_why_it_stopped(reason: str, told_as: str) -> None:
    message = folded(told([Text(0, "a"), Finish(0, reason)]))
    assert message["stop_reason"] == told_as
    assert (message["stop_details"] is not None) is (told_as == "refusal")


def test_a_refusal_says_why() -> None:
    message = folded(told([Refusal(0, "Blocked."), Finish(0, "content_filter")]))
    assert message["content"] == []
    assert message["stop_details"] == {"type": "refusal", "category": None, "explanation": "Blocked."}


def test_an_image_is_written_into_the_text() -> None:
    [text] = content([Text(0, "Here: "), Image(0, "image/png", "iVBORw0KGgo=")])
    assert text["text"] == "Here: ![image](data:image/png;base64,iVBORw0KGgo=)"


def test_sources_are_cited_and_the_search_is_told() -> None:
    events = told(
        [
            *(Text(0, "It is "), Text(0, "warm.")),
            *(Annotation(0, 6, 11, "https://a.example/", "A"), Annotation(0, 0, 5, "https://b.example/", "B")),
            *(Annotation(0, 0, 2, "https://a.example/", "A"), Finish(0, "stop")),
        ],
        GROUNDED,
    )
    message = folded(events)
    text, use, found = message["content"]
    assert [(each["cited_text"], each["url"]) for each in text["citations"]] == [
        *(("warm.", "https://a.example/"), ("It is", "https://b.example/"), ("It", "https://a.example/")),
    ]
    assert (use["type"], use["name"]) == ("server_tool_use", "web_search")
    assert found["tool_use_id"] == use["id"]
    assert [each["title"] for each in found["content"]] == ["A", "B"]
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 1


def test_a_citation_is_no_longer_than_anthropics() -> None:
    text, *_ = content([Text(0, "a" * 1000), Annotation(0, 0, 1000, "https://a.example/", "A")], GROUNDED)
    assert len(text["citations"][0]["cited_text"]) == 150
