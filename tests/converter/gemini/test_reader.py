"""Frames -> events, and how an answer ends: one row a situation (docs/protocol.md 4.7, S.C, S.D)."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from gemproxy.converter.events import Event, Finish, Image, Logprobs, Meta, Refusal, Text, Thought, ToolCall
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.transcript import Usage
from gemproxy.errors import BadAnswer, UpstreamFault
from gemproxy.wire.gemini import Candidate, Content, FunctionCall, GenerateResponse, Part


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
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
DRAFT = PICTURE | {"thought": True, "thoughtSignature": "ZHJhZnQ="}
SIGNATURE = {"text": "", "thoughtSignature": "c2ln"}
LOGPROBS = {"chosenCandidates": [{"token": "a", "logProbability": -0.5}]}
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
        pytest.param(answer([{"text": "", "thoughtSignature": "c2ln"}], "STOP"), id="STOP on a signature"),
        pytest.param(answer([{"inlineData": {"mimeType": "image/png"}}], "STOP"), id="STOP on a picture of nothing"),
        pytest.param(answer([DRAFT], "STOP"), id="nothing but a draft"),
        pytest.param(answer([], "STOP", logprobsResult=LOGPROBS), id="nothing but probabilities"),
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


def test_deep_arguments_are_a_fault() -> None:
    made = reader()
    part = Part(function_call=FunctionCall("f", Raw(b"[" * 100_000 + b"]" * 100_000)))
    with pytest.raises(UpstreamFault, match="not JSON"):
        made.read(GenerateResponse([Candidate(Content([part]))]))


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(b'{"a":"\xff"}', id="no UTF-8"),
        pytest.param(b'{"a":"\xed\xa0\xbd"}', id="half a character in bytes"),
        pytest.param(b'{"\xc3":1}', id="a name that is cut"),
    ],
)
def test_arguments_that_are_no_text_are_a_fault(args: bytes) -> None:
    body = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":%s}}]}}]}' % args
    with pytest.raises(UpstreamFault, match="not JSON"):
        reader().read(msgspec.json.decode(body, type=GenerateResponse))


# ----------------------------------------------------------------------------------------------- what nobody sees


@pytest.mark.parametrize(
    ("part", "told"),
    [
        pytest.param(DRAFT, [], id="a draft of a picture"),
        pytest.param(DRAFT | {"inlineData": {"mimeType": "audio/L16", "data": "AAAA"}}, [], id="a draft of speech"),
        pytest.param(CALL | {"thought": True}, [], id="a call that was only thought of"),
        pytest.param(
            {"functionCall": {"name": "f", "willContinue": True}, "thought": True}, [], id="the beginning of one"
        ),
        pytest.param({"text": "Hm", "thought": True}, [Thought(0, "Hm")], id="a text"),
        pytest.param(
            {"executableCode": {"code": "1"}, "thought": True}, [Thought(0, "```python\n1\n```\n")], id="code"
        ),
        pytest.param(
            {"codeExecutionResult": {"output": "1"}, "thought": True}, [Thought(0, "```output\n1\n```\n")], id="output"
        ),
    ],
)
def test_what_is_marked_as_thought_is_no_part_of_the_answer(part: dict[str, Any], told: list[Event]) -> None:
    events = say(answer([part, PICTURE], "STOP"))
    assert events == [*told, Image(0, "image/png", "AAAA"), Finish(0, "stop"), Usage()]


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(TEXT, id="text"),
        pytest.param(TEXT | {"thoughtSignature": "b3RoZXI="}, id="signed text"),
        pytest.param(TEXT | {"thought": True}, id="a thought"),
        pytest.param(CALL, id="a call"),
        pytest.param(PICTURE, id="a picture"),
    ],
)
def test_what_nobody_sees_is_told_with_the_first_that_somebody_does(part: dict[str, Any]) -> None:
    made = reader()
    assert made.read(answer([SIGNATURE])) == []
    assert made.read(answer([], logprobsResult=LOGPROBS)) == []
    assert made.read(answer([{"text": "", "thought": True}])) == []
    signed, tokens, seen = made.read(answer([part]))
    assert signed == Text(0, "", "c2ln")
    assert isinstance(tokens, Logprobs)
    assert not isinstance(seen, Logprobs)
    assert made.read(answer([SIGNATURE])) == [signed], "from then on at once"


@pytest.mark.parametrize(("finish", "reason"), [("MAX_TOKENS", "length"), ("SAFETY", "content_filter")])
def test_an_answer_that_ends_well_without_a_word_keeps_its_signature(finish: str, reason: str) -> None:
    events = say(answer([SIGNATURE], finish))
    assert events[0] == Text(0, "", "c2ln")
    assert events[-2] == Finish(0, reason)


def test_each_choice_waits_for_its_own_words() -> None:
    made = reader()
    assert made.read(answer([SIGNATURE], index=1)) == []
    assert made.read(answer([TEXT], index=0)) == [Text(0, "Hi")]
    assert made.read(answer([TEXT], index=1)) == [Text(1, "", "c2ln"), Text(1, "Hi")]


# -------------------------------------------------------------------------------------------------- what is bounded


def test_more_candidates_than_can_be_asked_for_are_a_fault() -> None:
    made = reader()
    for index in (0, 5, 7, 1 << 40, -1, 9, 10, 11) * 2:
        made.read(answer([TEXT], index=index))
    with pytest.raises(UpstreamFault, match="8 candidates"):
        made.read(answer([TEXT], index=12))


@pytest.mark.parametrize("part", [CALL, PICTURE], ids=["calls", "pictures"])
def test_more_calls_or_pictures_than_a_model_makes_are_a_fault(part: dict[str, Any]) -> None:
    made = reader()
    for _ in range(10):
        made.read(answer([part] * 1_000))
    with pytest.raises(UpstreamFault, match="10000 calls and media"):
        made.read(answer([part]))


def test_more_parts_in_a_frame_than_a_model_writes_are_a_fault() -> None:
    with pytest.raises(UpstreamFault, match="larger than that of any model"):
        reader().read(answer([TEXT] * 70_000))


@pytest.mark.parametrize(
    "part",
    [
        pytest.param({"text": "x" * 1_000_000}, id="text for the places of sources"),
        pytest.param({"text": "", "thoughtSignature": "x" * 1_000_000}, id="signatures"),
        pytest.param(
            {
                "functionCall": {
                    "partialArgs": [{"jsonPath": "$.a", "stringValue": "x" * 1_000_000}],
                    "willContinue": True,
                }
            },
            id="pieces of arguments",
        ),
    ],
)
def test_what_has_to_be_kept_of_an_endless_answer_is_bounded(part: dict[str, Any]) -> None:
    made, frame = reader(), answer([part])
    with pytest.raises(UpstreamFault, match="larger than that of any model"):
        for _ in range(20):
            made.read(frame)


def test_nothing_is_kept_of_an_answer_without_sources() -> None:
    made, frame = AnswerReader(lambda: "", grounded=False), answer([{"text": "x" * 1_000_000}])
    for _ in range(20):
        assert made.read(frame)


def test_names_that_every_chunk_tells_are_cut() -> None:
    [meta] = reader().read(msgspec.convert({"modelVersion": "m" * 100_000}, GenerateResponse))
    assert isinstance(meta, Meta)
    assert len(meta.model_version) == 64
    [call] = reader().read(answer([{"functionCall": {"name": "f", "id": "i" * 100_000}}]))
    assert isinstance(call, ToolCall)
    assert call.id == "call_0"


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
