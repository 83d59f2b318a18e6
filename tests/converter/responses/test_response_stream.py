"""A stream of Responses adds up to the whole answer, keeps OpenAI's grammar and schema, and ends as it should."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from gemproxy.converter.events import Finish, Image, Logprobs, Refusal, Text, Thought, TokenLogprob, ToolCall
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.responses.heading import Heading
from gemproxy.converter.responses.output import Output
from gemproxy.converter.responses.stream import Stream
from gemproxy.converter.sealed import SIGNATURE, opened
from gemproxy.converter.transcoder import Transcoder
from gemproxy.converter.transcript import ErrorFrame, Usage
from gemproxy.errors import ClientFault, Failure, NoCredential, UpstreamFault
from gemproxy.wire.openai_responses import Echo
from tests.converter.responses.response_events import events_of, folded
from tests.faults.figures import note
from tests.golden import converted, decode, frames, scenarios, sse
from tests.recorded import Recorded, answers
from tests.responses_schema import Checked, response_problems

HEADING = Heading(
    "r1", 1_800_000_000, lambda: 1_800_000_001.5, "gemini-test", msgspec.json.encode(Echo()), "ai_studio/g", sealed=True
)
CHECKED = Checked()
USAGE = Usage(prompt=3, completion=5, reasoning=2, cached=1)


@pytest.fixture(scope="module", autouse=True)
def _counted() -> Iterator[None]:
    yield
    note(f"/v1/responses, golden, recorded and made up: {CHECKED}")


def transcoder(*, stream: bool) -> Transcoder:
    count = itertools.count()
    writer = Stream(HEADING) if stream else Output(HEADING)
    return Transcoder(decode, AnswerReader(lambda: f"call_{next(count)}", alone=True), writer, at_once=not stream)


def told(events: Sequence[Any], heading: Heading = HEADING) -> list[dict[str, Any]]:
    """Return the events of a stream that says this, and ends well."""
    stream = Stream(heading)
    found = events_of(b"".join([*(stream.write(event) for event in events), stream.finish()]))
    CHECKED.add(found)
    return found


def kinds(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


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
    CHECKED.add(events)
    if whole is not None:
        assert folded(events) == whole
        assert response_problems(whole) == []
    return len(events)


@pytest.mark.parametrize("scenario", scenarios())
def test_the_events_add_up_to_the_whole(scenario: str) -> None:
    assert check(sse(frames(scenario))) > 2


@pytest.mark.parametrize("recorded", answers("aistudio", "vertex"), ids=lambda recorded: recorded.file)
def test_the_events_of_a_recorded_answer_add_up_to_the_whole(recorded: Recorded) -> None:
    check(recorded.path.read_bytes())


def test_a_message_is_told_step_by_step() -> None:
    events = told([Text(0, "Hel"), Text(0, "lo"), Finish(0, "stop"), USAGE])
    assert kinds(events) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    whole = folded(events)
    assert whole["output"][0]["content"][0]["text"] == "Hello"
    assert whole["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 8,
    }


def test_a_signed_call_hangs_on_the_thought_before_it() -> None:
    signed = ToolCall(0, "call_1", "f", '{"a": 1}', "c2ln")
    events = told([Thought(0, "hm"), signed, ToolCall(0, "call_2", "g", "{}"), Finish(0, "tool_calls"), USAGE])
    thought, first, second = folded(events)["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert opened(SIGNATURE, thought["encrypted_content"], 4) is not None
    assert (first["call_id"], first["arguments"], second["call_id"]) == ("call_1", '{"a": 1}', "call_2")
    assert first["id"].startswith("fc_")


def test_without_a_shown_thought_an_empty_one_carries_the_signature() -> None:
    events = told([ToolCall(0, "call_1", "f", "{}", "c2ln"), Finish(0, "tool_calls"), USAGE])
    thought, _ = folded(events)["output"]
    assert thought["summary"] == []
    assert thought["encrypted_content"]


def test_who_did_not_ask_for_it_carries_nothing() -> None:
    plain = msgspec.structs.replace(HEADING, sealed=False)
    events = told([Thought(0, "hm"), ToolCall(0, "call_1", "f", "{}", "c2ln"), Finish(0, "tool_calls"), USAGE], plain)
    assert "encrypted_content" not in folded(events)["output"][0]


def test_a_custom_tool_and_a_namespace_come_back_as_they_were_offered() -> None:
    heading = msgspec.structs.replace(HEADING, custom={"ns.patch"}, spaces={"ns.patch": ("patch", "ns")})
    events = told([ToolCall(0, "call_1", "ns.patch", '{"input": "x"}'), Finish(0, "tool_calls"), USAGE], heading)
    [item] = folded(events)["output"]
    assert (item["type"], item["name"], item["namespace"], item["input"]) == ("custom_tool_call", "patch", "ns", "x")
    assert item["id"].startswith("ctc_")


def test_probabilities_stand_in_the_whole_part() -> None:
    events = told([Text(0, "a"), Logprobs(0, (TokenLogprob("a", -0.5),)), Finish(0, "stop"), USAGE])
    [item] = folded(events)["output"]
    assert item["content"][0]["logprobs"][0]["logprob"] == -0.5


def test_an_image_is_an_item_of_its_own() -> None:
    events = told([Image(0, "image/png", "iVBORw0KGgo="), Finish(0, "stop"), USAGE])
    assert folded(events)["output"][0]["result"] == "iVBORw0KGgo="


@pytest.mark.parametrize(("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_stopped_is_incomplete(reason: str, why: str) -> None:
    events = told([Text(0, "Hel"), Finish(0, reason), USAGE])
    assert kinds(events)[-1] == "incomplete"
    whole = folded(events)
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": why})
    assert whole["output"][0]["status"] == "incomplete"
    assert whole["completed_at"] is None


def test_a_refusal_is_a_part_of_its_own() -> None:
    events = told([Refusal(0, "No."), Finish(0, "content_filter"), USAGE])
    assert folded(events)["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        pytest.param(UpstreamFault("It broke."), "server_error", id="the upstream"),
        pytest.param(NoCredential("Resting.", returns_in=7.2), "rate_limit_exceeded", id="a moment's quota"),
        pytest.param(NoCredential("Resting.", returns_in=9_000), "insufficient_quota", id="a day's quota"),
        pytest.param(NoCredential("Parked.", returns_in=None), "server_error", id="no credential"),
        pytest.param(ClientFault("Long.", code="context_length_exceeded"), "context_length_exceeded", id="too long"),
        pytest.param(ClientFault("Bad image."), "invalid_prompt", id="the caller"),
    ],
)
def test_a_stream_that_fails_ends_in_a_failed_response(failure: Failure, code: str) -> None:
    stream = Stream(HEADING)
    whole = stream.write(ToolCall(0, "call_1", "f", "{}")) + stream.write(Text(0, "Hel"))
    events = events_of(whole + stream.failure_event(failure))
    CHECKED.add(events)
    last = folded(events)
    assert (last["status"], last["error"]["code"]) == ("failed", code)
    assert [item["type"] for item in last["output"]] == ["function_call"], "what was cut off is not in it"
    assert ("try again in 8s" in last["error"]["message"]) is (code == "rate_limit_exceeded")


def test_a_stream_that_fails_before_it_began_is_one_of_a_response_too() -> None:
    events = events_of(Stream(HEADING).failure_event(UpstreamFault("It broke.")))
    assert kinds(events) == ["created", "in_progress", "failed"]
    folded(events)
