"""Frames -> events, and how an answer ends: one row a situation (PROTOCOL 4.7, SURPRISES C and D)."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from gemproxy.converter.answer import AnswerReader
from gemproxy.converter.events import Event, Finish, Meta, Refusal, Text, ToolCall, Usage
from gemproxy.errors import BadAnswer, UpstreamFault
from gemproxy.wire.gemini import GenerateResponse


def reader(
    names: dict[str, str] | None = None, taken: frozenset[str] = frozenset(), declared: frozenset[str] = frozenset()
) -> AnswerReader:
    count = itertools.count()
    return AnswerReader(lambda: f"call_{next(count)}", names, taken, declared=declared)


def answer(parts: list[Any] | None = None, finish: str | None = None, **candidate: Any) -> GenerateResponse:
    if parts is not None:
        candidate["content"] = {"parts": parts}
    if finish is not None:
        candidate["finishReason"] = finish
    return msgspec.json.decode(msgspec.json.encode({"candidates": [candidate]}), type=GenerateResponse)


def say(*frames: GenerateResponse, whole: bool = False, **given: Any) -> list[Event]:
    made = reader(**given)
    events = [event for frame in frames for event in made.read(frame)]
    return events + made.finish(whole)


CALL = {"functionCall": {"name": "f", "args": {"a": 1}}}
TEXT = {"text": "Hi"}


@pytest.mark.parametrize(
    ("finish", "text_only", "with_call"),
    [
        ("STOP", "stop", "tool_calls"),
        ("FINISH_REASON_UNSPECIFIED", "stop", "tool_calls"),
        ("A_REASON_OF_TOMORROW", "stop", "tool_calls"),
        ("OTHER", "stop", "tool_calls"),
        ("MAX_TOKENS", "length", "length"),
        ("CONTINUATION", "length", "length"),
        *[
            (reason, "content_filter", "content_filter")
            for reason in (
                "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII ESCALATION MODEL_ARMOR IMAGE_SAFETY "
                "IMAGE_PROHIBITED_CONTENT IMAGE_OTHER NO_IMAGE IMAGE_RECITATION"
            ).split()
        ],
    ],
)
def test_finish_reason_is_told_in_openais_words(finish: str, text_only: str, with_call: str) -> None:
    assert say(answer([TEXT], finish))[-2:] == [Finish(0, text_only), Usage()]
    assert say(answer([CALL], finish))[-2:] == [Finish(0, with_call), Usage()]


@pytest.mark.parametrize(
    "finish",
    [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
    ],
)
@pytest.mark.parametrize("parts", [None, [], [TEXT]], ids=["no content", "no parts", "after text"])
def test_malformed_answer_is_a_bad_answer(finish: str, parts: list[Any] | None) -> None:
    with pytest.raises(BadAnswer, match=rf"{finish}: why"):
        say(answer(parts, finish, finishMessage="why"))


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(answer(None, "STOP"), id="STOP without content"),
        pytest.param(answer([], "STOP"), id="STOP without parts"),
        pytest.param(answer([{"text": ""}], "STOP"), id="STOP on an empty text"),
        pytest.param(answer([{}], "STOP"), id="STOP on an empty part"),
        pytest.param(answer([{"text": "", "thought": True}], "STOP"), id="STOP on an empty thought"),
        pytest.param(answer(None, "OTHER"), id="OTHER without content"),
        pytest.param(answer([{"toolCall": {"id": "1"}}], "STOP"), id="nothing but server traffic"),
        pytest.param(GenerateResponse(), id="no candidates and no reason"),
        pytest.param(GenerateResponse(candidates=[]), id="empty list of candidates"),
    ],
)
def test_empty_success_is_a_bad_answer(frame: GenerateResponse) -> None:
    with pytest.raises(BadAnswer):
        say(frame)


def test_a_call_to_an_undeclared_function_is_no_call() -> None:
    made = reader()
    assert made.read(answer([CALL], "UNEXPECTED_TOOL_CALL")) == []
    with pytest.raises(BadAnswer, match="UNEXPECTED_TOOL_CALL"):
        made.finish(whole=True)


def test_stream_without_finish_reason_was_cut() -> None:
    with pytest.raises(UpstreamFault, match="before the answer was complete"):
        say(answer([TEXT]))


def test_whole_body_without_finish_reason_is_complete() -> None:
    assert say(answer([TEXT]), whole=True) == [Text(0, "Hi"), Finish(0, "stop"), Usage()]


def test_a_call_that_never_got_its_last_piece_was_cut() -> None:
    pieces = {"functionCall": {"name": "f", "willContinue": True}}
    with pytest.raises(UpstreamFault, match="before the answer was complete"):
        say(answer([pieces], "STOP"))


def test_a_piece_that_fits_nowhere_is_a_fault() -> None:
    part = {"functionCall": {"name": "f", "partialArgs": [{"jsonPath": "$[3].x", "stringValue": "a"}]}}
    with pytest.raises(UpstreamFault, match="fits nowhere"):
        say(answer([part], "STOP"))


@pytest.mark.parametrize("path", ["$.a[99999999]", "$", "$.a.b"])
def test_a_hostile_path_is_a_fault(path: str) -> None:
    pieces = [{"jsonPath": "$.a", "numberValue": 1}, {"jsonPath": path, "stringValue": "a"}]
    with pytest.raises(UpstreamFault, match="fits nowhere"):
        say(answer([{"functionCall": {"name": "f", "partialArgs": pieces}}], "STOP"))


def test_finish_comes_once_however_often_stop_repeats() -> None:
    events = say(answer([CALL], "STOP"), answer([TEXT]), answer([{"text": ""}], "STOP"))
    assert [event for event in events if isinstance(event, Finish)] == [Finish(0, "tool_calls")]


@pytest.mark.parametrize(
    ("finish", "told"),
    [("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("A_REASON_OF_TOMORROW", "stop")],
)
def test_a_late_stop_does_not_hide_how_the_answer_ended(finish: str, told: str) -> None:
    assert say(answer([TEXT], finish), answer(None, "STOP"))[-2] == Finish(0, told)
    assert say(answer([TEXT], "STOP"), answer(None, finish))[-2] == Finish(0, told)


def test_blocked_answer_says_why() -> None:
    events = say(answer(None, "SAFETY", finishMessage="Too hot."))
    assert isinstance(events[0], Refusal)
    assert "Too hot." in events[0].text
    assert events[1] == Finish(0, "content_filter")


LONG = "words of the upstream " * 5_000


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(answer(None, "SAFETY", finishMessage=LONG), id="a message of a blocked answer"),
        pytest.param(
            msgspec.convert({"promptFeedback": {"blockReason": "X", "blockReasonMessage": LONG}}, GenerateResponse),
            id="a message of a blocked prompt",
        ),
        pytest.param(
            msgspec.convert({"promptFeedback": {"blockReason": LONG}}, GenerateResponse), id="an invented block reason"
        ),
        pytest.param(answer(None, "MALFORMED_RESPONSE", finishMessage=LONG), id="a message of a malformed answer"),
        pytest.param(answer(None, LONG), id="an invented finish reason"),
    ],
)
def test_an_upstreams_words_about_an_answer_are_only_so_many(frame: GenerateResponse) -> None:
    try:
        told = "".join(event.text for event in say(frame) if isinstance(event, Refusal))
    except BadAnswer as fault:
        told = fault.message
    assert "words of the upstream" in told
    assert len(told) < 1_100


def test_what_an_upstream_says_about_an_answer_is_redacted() -> None:
    key = "AIza" + "FakeKeyForTests_0123456789"
    events = say(answer(None, "SAFETY", finishMessage=f"Refused for\n{key}"))
    assert isinstance(events[0], Refusal)
    assert events[0].text == "The answer was blocked by the upstream's content filter: Refused for [key]."


def test_a_version_stands_in_every_chunk_and_is_short() -> None:
    made = reader()
    frame = msgspec.structs.replace(answer([TEXT]), model_version="v" * 1_000)
    assert made.read(frame)[0] == Meta("v" * 64)


def test_block_in_mid_stream_ends_in_content_filter() -> None:
    late = msgspec.convert({"promptFeedback": {"blockReason": "SAFETY"}}, GenerateResponse)
    assert say(answer([TEXT]), late) == [Text(0, "Hi"), Finish(0, "content_filter"), Usage()]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"names": {"get_x": "get x"}}, {"get_x": "get x"}),
        ({}, {"default_api:find": "find", "default_api.find": "find", "other:find": "other:find"}),
        ({"names": {"f_n": "f n"}}, {"default_api:f_n": "f n"}),
        ({"names": {"f_n": "f n"}, "declared": frozenset(["f n"])}, {"default_api:f_n": "f n", "f_n": "f n"}),
        ({"declared": frozenset(["default_api:x", "x"])}, {"default_api:x": "default_api:x", "default_api.x": "x"}),
        ({"declared": frozenset(["x"])}, {"default_api.x": "x", "default_api.y": "default_api.y"}),
        ({"names": {"default_api:_n": "default_api: n"}}, {"default_api:_n": "default_api: n"}),
    ],
)
def test_names_come_back_as_the_client_wrote_them(given: dict[str, Any], shown: dict[str, str]) -> None:
    for sent, name in shown.items():
        call = say(answer([{"functionCall": {"name": sent}}], "STOP"), **given)[0]
        assert isinstance(call, ToolCall)
        assert call.name == name


def test_call_ids_are_unique_over_the_conversation() -> None:
    part = {"functionCall": {"name": "f", "id": "a"}}
    none = {"functionCall": {"name": "f"}}
    events = say(answer([part, part, none], "STOP"), taken=frozenset({"call_0"}))
    assert [event.id for event in events if isinstance(event, ToolCall)] == ["a", "call_1", "call_2"]
    events = say(answer([part], "STOP"), taken=frozenset({"a"}))
    assert [event.id for event in events if isinstance(event, ToolCall)] == ["call_0"]


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        pytest.param(b'{"name":"f"}', "{}", id="args left out"),
        pytest.param(b'{"name":"f","args":null}', "{}", id="args null"),
        pytest.param(b'{"name":"f","args":{}}', "{}", id="args empty"),
        pytest.param(
            b'{"name":"f","args":{"b": 1.0,\n "a": [1, null]}}', '{"b":1.0,"a":[1,null]}', id="order and numbers kept"
        ),
        pytest.param(
            b'{"name":"f","args":{"n":123456789012345678901}}', '{"n":123456789012345678901}', id="big integer"
        ),
        pytest.param('{"name":"f","args":{"t":"\u00fc\\u003c"}}'.encode(), '{"t":"\u00fc\\u003c"}', id="escapes stay"),
    ],
)
def test_arguments_are_a_json_string(call: bytes, arguments: str) -> None:
    body = b'{"candidates":[{"content":{"parts":[{"functionCall":' + call + b'}]},"finishReason":"STOP"}]}'
    event = say(msgspec.json.decode(body, type=GenerateResponse))[0]
    assert isinstance(event, ToolCall)
    assert event.arguments == arguments


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        pytest.param(
            [{"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}], Usage(5, 2), id="plain"
        ),
        pytest.param([{"promptTokenCount": 5, "thoughtsTokenCount": 9}], Usage(5, 9, 9), id="thoughts are completion"),
        pytest.param(
            [{"promptTokenCount": 5, "candidatesTokenCount": 9, "thoughtsTokenCount": 4, "totalTokenCount": 14}],
            Usage(5, 9, 4),
            id="candidates that include the thoughts",
        ),
        pytest.param([{"promptTokenCount": 5, "toolUsePromptTokenCount": 30}], Usage(35), id="tool results are prompt"),
        pytest.param([{"promptTokenCount": 9}, {}], Usage(9), id="a later frame without counts erases nothing"),
        pytest.param(
            [{"thoughtsTokenCount": 9}, {"thoughtsTokenCount": 2}], Usage(0, 2, 2), id="the last value counts"
        ),
        pytest.param([{"cachedContentTokenCount": 3, "promptTokenCount": 4}], Usage(4, cached=3), id="cached"),
        pytest.param(
            [{"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}, {"modality": "TEXT"}]}],
            Usage(prompt_audio=7),
            id="audio in the prompt",
        ),
        pytest.param(
            [{"candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}]}],
            Usage(completion_audio=7),
            id="audio in the answer",
        ),
    ],
)
def test_usage_counts_the_last_value_of_each_field(counts: list[dict[str, Any]], usage: Usage) -> None:
    frames = [msgspec.convert({"usageMetadata": count}, GenerateResponse) for count in counts]
    assert say(answer([TEXT], "STOP"), *frames)[-1] == usage


def test_usage_is_known_before_the_end() -> None:
    made = reader()
    made.read(msgspec.convert({"usageMetadata": {"promptTokenCount": 4}}, GenerateResponse))
    assert made.usage() == Usage(4)
