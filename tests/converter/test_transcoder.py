"""Bytes to bytes where something goes wrong: nothing usable is swallowed, nothing is made up."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from gemproxy.converter.chat.chunks import ChatChunkWriter
from gemproxy.converter.chat.objects import Heading
from gemproxy.converter.events import Event, Image, Text, Thought, ToolCall
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.transcoder import Transcoder
from gemproxy.converter.transcript import ErrorFrame, Usage
from gemproxy.errors import BadAnswer, UpstreamFault
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.wire.text import plain
from tests.folding import chunks, events, fold
from tests.golden import decode, run, sse, transcoder

TEXT = b'{"candidates":[{"content":{"parts":[{"text":"Hi"}]}}]}'
STOP = b'{"candidates":[{"content":{"parts":[{"text":"!"}]},"finishReason":"STOP"}]}'
META = b'{"modelVersion":"m","usageMetadata":{"promptTokenCount":1}}'
ERROR = b'{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}'
CALLS = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"input":"x"}}},{"functionCall":{"name":"g"}}]},"finishReason":"STOP"}]}'  # noqa: E501


def test_error_frame_before_content_raises_at_once() -> None:
    made = transcoder(stream=True)
    assert made.feed(sse([META])) == b""
    with pytest.raises(ErrorFrame) as caught:
        made.feed(sse([ERROR]))
    assert b"overloaded" in caught.value.body


def test_content_before_an_error_frame_of_the_same_piece_is_kept() -> None:
    made = transcoder(stream=True)
    written = made.feed(sse([TEXT, ERROR]))
    assert [chunk["choices"][0]["delta"] for chunk in events(written)] == [
        {"role": "assistant", "content": ""},
        {"content": "Hi"},
    ]
    with pytest.raises(ErrorFrame):
        made.check()


def test_bare_error_at_the_end_is_not_a_finish() -> None:
    made = transcoder(stream=True)
    made.feed(sse([TEXT]) + b'{\n"error": {"code": 499}\n}')
    made.check()
    with pytest.raises(ErrorFrame):
        made.finish()


@pytest.mark.parametrize(
    "frame", [b'{"candidates":3}', b"null", b'"x"', b"{", b'{"candidates":[{"content":"\xff"}]}', b"[" * 3000]
)
def test_frame_that_is_no_answer_is_a_fault(frame: bytes) -> None:
    with pytest.raises(UpstreamFault, match="not a Gemini answer"):
        transcoder(stream=True).feed(sse([frame]))


def test_cut_stream_has_no_finish_and_no_done() -> None:
    made = transcoder(stream=True)
    assert made.feed(sse([TEXT]))
    with pytest.raises(UpstreamFault):
        made.finish()


def test_unary_answer_gives_nothing_before_its_end() -> None:
    made = transcoder(stream=False)
    assert made.feed(sse([TEXT, STOP])) == b""
    assert b'"content":"Hi!"' in made.finish()


def test_empty_body_is_a_bad_answer() -> None:
    with pytest.raises(BadAnswer):
        transcoder(stream=False).finish()


def test_usage_and_reasons_are_known_after_the_end() -> None:
    made = transcoder(stream=True)
    made.feed(sse([META, STOP]))
    made.finish()
    assert (made.usage, made.reasons) == (Usage(1), ["stop"])


def test_usage_is_known_of_an_answer_that_broke() -> None:
    made = transcoder(stream=True)
    made.feed(sse([META, TEXT, ERROR]))
    assert made.usage == Usage(1)


def test_calls_and_images_are_heard() -> None:
    signed = {"functionCall": {"name": "f"}, "thoughtSignature": "QQ=="}
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBO"}, "thoughtSignature": "Qg=="}
    frame = {"candidates": [{"content": {"parts": [signed, {"functionCall": {"name": "g"}}, image]}}]}
    heard: list[ToolCall | Image] = []
    count = itertools.count()
    reader = AnswerReader(lambda: f"call_{next(count)}")
    made = Transcoder(decode, reader, ChatChunkWriter(Heading("i", 1, "m")), heard.append)
    made.feed(sse([msgspec.json.encode(frame)]))
    assert [event.signature for event in heard] == ["QQ==", None, "Qg=="]


def test_every_chunk_says_who_answered() -> None:
    written = chunks(run(sse([META, TEXT, STOP]), stream=True))
    assert len(written) == 5
    assert {chunk["system_fingerprint"] for chunk in written} == {"m"}
    late = chunks(run(sse([TEXT, META, STOP]), stream=True))
    assert ["system_fingerprint" in chunk for chunk in late] == [False, False, True, True, True]


def test_without_include_usage_no_chunk_has_the_key() -> None:
    written = chunks(run(sse([META, STOP]), stream=True, envelope=Heading("i", 1, "m")))
    assert all("usage" not in chunk for chunk in written)
    assert all(chunk["choices"] for chunk in written)


@pytest.mark.parametrize("stream", [True, False])
def test_legacy_functions_get_one_function_call(stream: bool) -> None:
    envelope = Heading("i", 1, "m", legacy_functions=True, include_usage=True)
    body = run(sse([CALLS]), stream=stream, envelope=envelope)
    answer = fold(chunks(body)) if stream else msgspec.json.decode(body)
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"input":"x"}'}
    assert "tool_calls" not in choice["message"]


@pytest.mark.parametrize("stream", [True, False])
def test_custom_tools_get_arguments_that_nothing_can_be_made_of_as_they_are(stream: bool) -> None:
    envelope, arguments = Heading("i", 1, "m", custom=frozenset({"f"})), '{"input":%s}' % ("9" * 5_000)
    call = b'{"functionCall":{"name":"f","args":%s}}' % arguments.encode()
    frame = b'{"candidates":[{"content":{"parts":[%s]},"finishReason":"STOP"}]}' % call
    body = run(sse([frame]), stream=stream, envelope=envelope)
    answer = fold(chunks(body)) if stream else msgspec.json.decode(body)
    [told] = answer["choices"][0]["message"]["tool_calls"]
    assert told["custom"] == {"name": "f", "input": arguments}


@pytest.mark.parametrize("stream", [True, False])
def test_custom_tools_get_their_text_back(stream: bool) -> None:
    envelope = Heading("i", 1, "m", custom=frozenset({"f", "g"}), include_usage=True)
    body = run(sse([CALLS]), stream=stream, envelope=envelope)
    answer = fold(chunks(body)) if stream else msgspec.json.decode(body)
    assert answer["choices"][0]["message"]["tool_calls"] == [
        {"id": "call_0", "type": "custom", "custom": {"name": "f", "input": "x"}},
        {"id": "call_1", "type": "custom", "custom": {"name": "g", "input": "{}"}},
    ]


class Listener:
    """Keeps what it is told."""

    kept = 0

    def __init__(self, raw: bool | None) -> None:
        self.told: list[Event] = []
        if raw is not None:
            self.raw = raw

    def write(self, event: Event) -> bytes:
        self.told.append(event)
        return b"."

    def finish(self) -> bytes:
        return b""


@pytest.mark.parametrize(("raw", "kind"), [(None, str), (False, str), (True, msgspec.Raw)])
@pytest.mark.parametrize("thought", [False, True])
@pytest.mark.parametrize("signature", [None, "c2ln"])
def test_only_a_writer_that_is_raw_gets_long_texts_as_they_came(
    raw: bool | None, kind: type, thought: bool, signature: str | None
) -> None:
    text = 'say "ä" \n' * (1 << 15)
    part = {"text": text, "thought": thought, "thoughtSignature": signature}
    frame = msgspec.json.encode({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]})
    listener = Listener(raw)
    made = Transcoder(AiStudio.decode, AnswerReader(str), listener)
    if not made.feed(sse([frame])):
        made.work()
    (told,) = [event for event in listener.told if isinstance(event, Text | Thought)]
    assert type(told.text) is kind
    assert plain(told.text) == text
