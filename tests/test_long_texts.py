"""Long texts go on as the JSON they came as, and nobody can tell: not by what is said, not by what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from msgspec import Raw

from gemproxy.converter.api import Options
from gemproxy.converter.chat import reading
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import to_call
from gemproxy.errors import ClientFault
from gemproxy.models import Catalogue
from gemproxy.simulator import Simulator, text_answer, unary_answer
from gemproxy.upstream import request_body
from gemproxy.upstream.code_assist import unwrapped
from gemproxy.wire import UNREADABLE, text
from gemproxy.wire.gemini import GenerateResponse
from gemproxy.wire.long_answer import LongResponse
from gemproxy.wire.openai_chat import ChatRequest
from gemproxy.wire.text import LONG_TEXT, SLICE, joined, plain, quoted
from tests.examples import draws
from tests.folding import chunks, fold
from tests.golden import DATA, converted, frames, scenarios, sse, transcoder
from tests.random_requests import conversations
from tests.running import running

CATALOGUE = Catalogue()
MODEL = "gemini-2.5-flash"
WORDS = 'Grüße "an" alle\\n <\u2028> 🎈\t'
ESSAY = WORDS * (LONG_TEXT // len(WORDS) + 1)
FILLER = b"\xc3\xbc" * LONG_TEXT


@pytest.fixture
def all_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every text of one letter or more for a long one."""
    monkeypatch.setattr(text, "LONG_TEXT", 3)
    monkeypatch.setattr(request_body, "LONG_TEXT", 0)
    monkeypatch.setattr(reading, "LONG_TEXT", 0)


# ----------------------------------------------------------------------------------------------------------- answers


@pytest.mark.usefixtures("all_long")
@pytest.mark.parametrize("scenario", scenarios())
def test_an_answer_says_the_same(scenario: str) -> None:
    read = request_body.reader(GenerateResponse, LongResponse)
    body = [sse(frames(scenario))]
    stream = b"".join(converted(transcoder(stream=True, decode=read), body))
    unary = b"".join(converted(transcoder(stream=False, decode=read), body))
    assert chunks(stream) == chunks((DATA / f"{scenario}.stream.txt").read_bytes())
    assert msgspec.json.decode(unary) == msgspec.json.decode((DATA / f"{scenario}.unary.json").read_bytes())


def frame(text: bytes, envelope: bytes = b"%s") -> bytes:
    part = b'{"text":%s,"thoughtSignature":"s"},{"functionCall":{"name":"f"}}' % text
    return envelope % (b'{"candidates":[{"content":{"parts":[%s]}}],"modelVersion":"%s"}' % (part, b"m" * LONG_TEXT))


@pytest.mark.parametrize("envelope", [b"%s", b'{"response":%s,"traceId":"t"}'], ids=["bare", "enveloped"])
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b'"%s"' % FILLER, True),
        (b'"%s\\ud83c\\udf88"' % FILLER, True),
        (b'"short"', False),
        (b'""', False),
        (b"null", False),
    ],
)
def test_only_the_long_text_of_an_answer_is_kept(sent: bytes, kept: bool, envelope: bytes) -> None:
    answer = unwrapped(frame(sent, envelope))
    assert answer.candidates is not None
    content = answer.candidates[0].content
    assert content is not None
    assert content.parts is not None
    first, second = content.parts
    assert isinstance(first.text, Raw) == kept
    assert (plain(first.text) if isinstance(first.text, Raw) else first.text) == msgspec.json.decode(sent)
    assert (first.thought_signature, second.text, answer.model_version) == ("s", None, "m" * LONG_TEXT)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b'"%s\xff"' % FILLER, id="not UTF-8"),
        pytest.param(b'"%s\\q"' % FILLER, id="no escape"),
        pytest.param(b'"%s\n"' % FILLER, id="a line end"),
        pytest.param(b'["%s"]' % FILLER, id="a list"),
        pytest.param(b"5", id="a number"),
    ],
)
def test_what_is_no_text_is_no_answer(sent: bytes) -> None:
    with pytest.raises(UNREADABLE):
        unwrapped(frame(sent))


@pytest.mark.parametrize("texts", [("a",), ("a", "b"), (Raw(b'"\\u00fc\\n"'),), ("ä\n", Raw(b'"\\u003c"'), '"'), ()])
def test_joined_texts_say_what_each_says(texts: tuple[str | Raw, ...]) -> None:
    assert msgspec.json.decode(msgspec.json.encode(joined(texts))) == "".join(map(plain, texts))


@pytest.mark.parametrize("size", [1, LONG_TEXT, SLICE, 3 * SLICE])
def test_json_can_be_quoted_whatever_is_cut_in_two(size: int) -> None:
    for shift in range(4):
        sent = Raw(msgspec.json.encode(["x" * shift, '"\\😀\n' * (size // 5)]))
        assert plain(quoted(sent)).encode() == bytes(sent)


# --------------------------------------------------------------------------------------------------------- questions


def called(sent: dict[str, Any]) -> Any:
    read = decode(msgspec.json.encode(sent))
    call = to_call(read, CATALOGUE.lookup(read.model), {}, None, Options(), stream=False).call
    return msgspec.json.decode(msgspec.json.encode(call.body))


@draws(25)
@given(conversations())
def test_a_question_asks_the_same(sent: dict[str, Any]) -> None:
    sent = {**sent, "messages": [message for message in sent["messages"] if "image_url" not in str(message)]}
    expected = _outcome(sent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "LONG_TEXT", 3)
        patch.setattr(reading, "LONG_TEXT", 0)
        assert _outcome(sent) == expected


def _outcome(sent: dict[str, Any]) -> Any:
    try:
        return called(sent)
    except ClientFault as fault:
        return fault.message, fault.param, fault.code


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_a_long_question_is_kept_as_it_came(role: str) -> None:
    read = decode(b'{"model":"m","messages":[{"role":"%s","content":"%s","name":"n"}]}' % (role.encode(), FILLER))
    assert bytes(read.messages[0].content) == b'"%s"' % FILLER  # type: ignore[arg-type]
    assert read.messages[0].name == "n"


@pytest.mark.parametrize(
    "message",
    [
        b'{"role":"user","content":5,"x":"%s"}',
        b'{"role":"user","content":"\xff%s"}',
        b'{"role":"user","content":"\\ud800%s"}',
        b'{"role":"user","content":"\\q%s"}',
        b'{"role":"user","content":"a\n%s"}',
        b'{"role":"nobody","content":"%s"}',
        b'{"role":"user","content":[{"type":"video","text":"%s"}]}',
        b'{"role":"tool","content":{"a":"%s"}}',
        b'{"content":"%s"}',
        b'{"role":"user","content":"%s"',
    ],
)
def test_a_long_question_is_refused_as_a_short_one_is(message: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> tuple[str, str | None, str | None]:
        with pytest.raises(ClientFault) as caught:
            decode(b'{"model":"m","messages":[%s]}' % (message % FILLER))
        return caught.value.message, caught.value.param, caught.value.code

    long = refused()
    monkeypatch.setattr(reading, "_decode_long", msgspec.json.Decoder(ChatRequest).decode)
    assert refused() == long


# ------------------------------------------------------------------------------------------------------------- there


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_a_long_text_comes_through_both_ways(simulator: Simulator, stream: bool) -> None:
    answer = (
        text_answer(ESSAY)
        if stream
        else unary_answer({"candidates": [{"content": {"parts": [{"text": ESSAY}]}, "finishReason": "STOP"}]})
    )
    simulator.script(answer)
    question = [{"role": "system", "content": ESSAY}, {"role": "user", "content": ESSAY[::-1]}]
    async with running(simulator) as server:
        status, body = await server.post(
            "/v1/chat/completions", {"model": MODEL, "messages": question, "stream": stream}
        )
    assert status == 200
    told = fold(chunks(body)) if stream else msgspec.json.decode(body)
    assert told["choices"][0]["message"]["content"] == ESSAY
    asked = msgspec.json.decode(simulator.generations[0].body)
    assert asked["systemInstruction"]["parts"] == [{"text": ESSAY}]
    assert asked["contents"] == [{"role": "user", "parts": [{"text": ESSAY[::-1]}]}]
