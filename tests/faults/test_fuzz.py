"""Random bytes, frames, refusals and requests: nothing but the error tree comes out, and no HTTP answer is a 500.

The same in every run. ``EXAMPLES=5000 pytest tests/faults/test_fuzz.py`` looks for something new.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.converter.api import Options
from gemproxy.converter.chat.reading import decode
from gemproxy.converter.chat.request import to_call
from gemproxy.converter.transcript import ErrorFrame
from gemproxy.errors import ClientFault, UpstreamFault
from gemproxy.models import Catalogue
from gemproxy.simulator import Answer, Simulator, text_answer
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Action, Dialect, Token, Verdict
from gemproxy.upstream.vertex import Vertex
from tests import golden
from tests.examples import draws
from tests.faults.client import CHAT, Bare, bare, error_code
from tests.folding import chunks, events, fold
from tests.running import Running, running

fuzz = draws(30)

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", "\u2028", "\x00", "]}", "\n\n", "data: [DONE]", "STOP", "-1", "\U0010ffff"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
NAMES = ["ai_studio", "code_assist", "vertex"]
DIALECTS: dict[str, Dialect] = {
    "ai_studio": AiStudio("http://127.0.0.1:9/v1beta", "fuzz"),
    "code_assist": CodeAssist("http://127.0.0.1:9/v1internal", "fuzz"),
    "vertex": Vertex("http://127.0.0.1:9/v1", "fuzz"),
}


# ---------------------------------------------------------------------------------------------------------- mutation


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside a JSON value."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


@st.composite
def mutated(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Any:
    """Draw a JSON value with up to four places of it replaced, removed, doubled or wrapped."""
    value = deepcopy(draw(values))
    for _ in range(draw(st.integers(0, 4))):
        known = list(places(value))
        if not known:
            break
        *way, key = draw(st.sampled_from(known))
        holder = value
        for step in way:
            holder = holder[step]
        _mutate(draw, holder, key)
    return value


def _mutate(draw: st.DrawFn, holder: Any, key: Any) -> None:
    match draw(st.sampled_from(["replace", "remove", "wrap", "double"])):
        case "replace":
            holder[key] = draw(JUNK)
        case "remove":
            del holder[key]
        case "wrap":
            holder[key] = [holder[key]]
        case "double" if isinstance(holder, list):
            holder.insert(key, deepcopy(holder[key]))
        case _:
            holder[key] = {"x": holder[key]}


# ------------------------------------------------------------------------------------------------------ the answer side

FRAMES = {
    scenario: [msgspec.json.decode(frame) for frame in golden.frames(scenario)] for scenario in golden.scenarios()
}
ANSWERS = mutated(st.sampled_from(list(FRAMES.values())))


# halves, bytes that are no UTF-8, escapes that are none, and what looks like the end of the string
STRANGE = [
    *(rb"\ud83d", rb"\ude00", rb"\\ud83d", rb"\ud83d\ud83d\ude00", b"\xff", b"\xed\xa0\xbd", b"\x00", b"\n", rb"\q"),
    *(rb"\u12", b'"', b'",,"', b"[" * 2_000, b"\xe2\x80\xa8", rb"\u0000"),
]


def told(
    body: bytes, cuts: list[int], *, stream: bool, decode: golden.Decode = golden.decode
) -> tuple[bytes, Exception | None]:
    """Return what the client gets of an upstream body cut into pieces, and how it ended."""
    places = [0, *sorted({cut % (len(body) + 1) for cut in cuts}), len(body)]
    pieces = (body[start:end] for start, end in itertools.pairwise(places))
    out = b""
    try:
        for data in golden.converted(golden.transcoder(stream=stream, decode=decode), pieces):
            out += data
    except (UpstreamFault, ErrorFrame) as fault:
        return out, fault
    return out, None


def honest(out: bytes, fault: Exception | None) -> None:
    """Check that a stream tells the truth about how it ended."""
    if fault is None:
        fold(chunks(out))
        return
    told = events(out)
    assert "[DONE]" not in told
    assert not [choice for event in told for choice in event["choices"] if choice["finish_reason"]], "a made-up finish"


@fuzz
@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"data: ", b"\r\n\r\n", b"\n", b"{}", b"[", b"]", b",", b'{"error":'])
    )
)
def test_random_bytes_from_upstream_end_in_a_fault_or_an_answer(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    out, fault = told(body, list(range(0, len(body), 7)), stream=True)
    honest(out, fault)
    assert fault is not None, "random bytes say nothing, so there is nothing to end well"
    assert told(body, [], stream=False)[1] is not None


@fuzz
@given(
    st.sampled_from(sorted(FRAMES)),
    st.lists(st.tuples(st.integers(0), st.binary(max_size=3)), max_size=4),
    st.lists(st.integers(0)),
)
def test_broken_bytes_of_a_real_answer_end_in_a_fault_or_an_answer(
    scenario: str, breaks: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    body = bytearray(golden.sse(golden.frames(scenario)))
    for place, junk in breaks:
        start = place % len(body)
        body[start : start + 2] = junk
    for step in (cuts, [], list(range(len(body)))):
        out, fault = told(bytes(body), step, stream=True)
        honest(out, fault)


@fuzz
@given(ANSWERS, st.lists(st.integers(0), max_size=8))
def test_odd_frames_give_the_same_however_they_are_cut_and_folded(frames: Any, cuts: list[int]) -> None:
    written = [msgspec.json.encode(frame) for frame in frames] if isinstance(frames, list) else []
    body = golden.sse(written)
    whole, fault = told(body, [], stream=True)
    honest(whole, fault)
    again, same = told(body, cuts, stream=True)
    assert type(same) is type(fault)
    assert b"".join(again.split(b"\n\n")) == b"".join(whole.split(b"\n\n"))
    unary, other = told(body, cuts, stream=False)
    assert (other is None) == (fault is None)
    if fault is None:
        assert msgspec.json.decode(unary) == fold(chunks(whole)), "unary is the folded stream"


@pytest.mark.parametrize("name", NAMES)
@fuzz
@given(
    scenario=st.sampled_from(sorted(FRAMES)),
    breaks=st.lists(st.tuples(st.integers(0), st.sampled_from(STRANGE)), min_size=1, max_size=4),
    long=st.booleans(),
)
def test_strange_bytes_inside_a_text_end_in_a_fault_or_an_answer(
    name: str, scenario: str, breaks: list[tuple[int, bytes]], long: bool
) -> None:
    body = golden.sse(golden.frames(scenario))
    if long:
        body = body.replace(b'"text":"', b'"text":"' + b"x" * (1 << 15))
    for place, junk in breaks:
        openings = [found.end() for found in re.finditer(rb'":"', body)]
        if openings:
            start = openings[place % len(openings)]
            body = body[:start] + junk + body[start:]
    for stream in (True, False):
        out, fault = told(body, [], stream=stream, decode=DIALECTS[name].decode)
        if stream:
            honest(out, fault)
        elif fault is None:
            msgspec.json.decode(out)


@pytest.mark.parametrize("name", NAMES)
@fuzz
@given(
    frame=mutated(st.sampled_from([frame for frames in FRAMES.values() for frame in frames])),
    raw=st.binary(max_size=40),
)
def test_dialect_reads_any_frame_or_refuses_it(name: str, frame: Any, raw: bytes) -> None:
    for data in (
        msgspec.json.encode(frame),
        msgspec.json.encode({"response": frame}),
        msgspec.json.encode([frame]),
        raw,
    ):
        try:
            DIALECTS[name].decode(data)
        except msgspec.DecodeError:
            continue


REFUSALS = [
    {
        "error": {
            "code": 429,
            "message": "Quota exceeded",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [{"quotaId": "PerDay", "quotaValue": "0"}],
                },
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38.9s"},
            ],
        }
    },
    {
        "error": {
            "code": 403,
            "message": "x",
            "status": "PERMISSION_DENIED",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "SERVICE_DISABLED",
                    "metadata": {"consumer": "p"},
                },
            ],
        }
    },
    [{"error": {"code": 400, "message": "* GenerateContentRequest.contents: bad\n", "errors": [{"reason": "x"}]}}],
]


@pytest.mark.parametrize("name", NAMES)
@fuzz
@given(
    status=st.integers(100, 599),
    headers=st.dictionaries(st.sampled_from(["retry-after", "content-type", "x-y"]), TEXTS),
    body=mutated(st.sampled_from(REFUSALS)).map(msgspec.json.encode) | st.binary(max_size=60),
    now=st.floats(1e9, 3e9),
)
def test_every_refusal_gets_a_verdict(name: str, status: int, headers: dict[str, str], body: bytes, now: float) -> None:
    verdict = DIALECTS[name].judge(status, headers, body, now)
    assert isinstance(verdict, Verdict)
    if status != 200:
        assert verdict.action is not Action.OK, "only a 200 is an answer"
    if verdict.action is Action.STOP:
        assert 400 <= verdict.status <= 599


# ----------------------------------------------------------------------------------------------------- the request side

CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"word":"a"}'}}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks up.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": ["string", "null"], "enum": ["a", None]}, "deep": {"$ref": "#/$defs/d"}},
            "required": ["word"],
            "additionalProperties": False,
            "$defs": {"d": {"anyOf": [{"type": "integer", "minimum": 1}, {"$ref": "#/$defs/d"}]}},
        },
    },
}
REQUEST: dict[str, Any] = {
    "model": "gemini-3.8-flash",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        ]},
        {"role": "assistant", "content": "A word.", "tool_calls": [
            CALL | {"extra_content": {"google": {"thought_signature": "c2ln"}}}
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "found"}]},
        {"role": "user", "content": "And now?", "name": "x"},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "look_up"}},
    "stream": False,
    "stream_options": {"include_usage": True},
    "max_tokens": 100.0,
    "temperature": 0.5,
    "top_p": 1,
    "stop": ["a", "b"],
    "seed": 7,
    "n": 1,
    "logit_bias": {"1": 1},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "reasoning_effort": "low",
    "extra_body": {"google": {"thinking_config": {"thinking_budget": 100, "include_thoughts": True}}},
}  # fmt: skip
REQUESTS = mutated(st.just(REQUEST))
MODELS = ["gemini-3.8-flash", "gemini-2.5-pro", "gemini-2.0-flash-exp", "gemini-unheard-of"]


@pytest.mark.parametrize("model", MODELS)
@fuzz
@given(request=REQUESTS, stream=st.booleans())
def test_odd_request_is_converted_or_the_clients_fault(model: str, request: Any, stream: bool) -> None:
    record = Catalogue().lookup(model)
    try:
        plan = to_call(decode(msgspec.json.encode(request)), record, {}, None, Options(), stream)
    except ClientFault:
        return
    for dialect in DIALECTS.values():
        asked = dialect.ask(plan.call, Token("fake-key", "fake-project"), 0.0)
        assert asked.url.isascii()
        assert msgspec.json.decode(asked.body)


@fuzz
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_random_body_is_the_clients_fault(body: bytes) -> None:
    with pytest.raises(ClientFault):
        decode(body)


# --------------------------------------------------------------------------------------------------------- over HTTP


class House:
    """A server in front of the simulator, on a loop that runs only while a test asks something."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._stop: Callable[[], Any]
        self.simulator, self.server = runner.run(self._open())

    async def _open(self) -> tuple[Simulator, Running]:
        simulator = Simulator(keep=100)
        await simulator.start()
        context = running(simulator)
        server = await context.__aenter__()

        async def stop() -> None:
            await context.__aexit__(None, None, None)
            await simulator.close()

        self._stop = stop
        return simulator, server

    def close(self) -> None:
        self._runner.run(self._stop())

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Post a chat body and return what came."""
        return self._runner.run(self.server.post(CHAT, body))

    def say(self, data: bytes) -> bytes:
        """Say bytes on a connection of their own and return all that comes back within a moment."""
        return self._runner.run(self._say(data))

    async def _say(self, data: bytes) -> bytes:
        async with bare(int(self.server.url.rpartition(":")[2])) as client:
            return await _heard(client, data)


async def _heard(client: Bare, data: bytes) -> bytes:
    try:
        await client.say(data)
        async with asyncio.timeout(0.05):
            return await client.reader.read(1 << 16)
    except (TimeoutError, ConnectionError):
        return b""


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with asyncio.Runner() as runner:
        made = House(runner)
        yield made
        made.close()


@fuzz
@given(body=REQUESTS.map(msgspec.json.encode) | st.binary(max_size=100))
def test_no_body_is_a_500(house: House, body: bytes) -> None:
    status, answer = house.post(body)
    if status == 200 and not answer.startswith(b"{"):
        events(answer)
        return
    told = msgspec.json.decode(answer)
    assert status == 200 or (400 <= status < 500 and error_code(told)), answer


STATUSES = st.sampled_from([200, 200, 200, 201, 204, 206, 301, 400, 429, 503])


@fuzz
@given(frames=ANSWERS, stream=st.booleans(), raw=st.binary(max_size=50), status=STATUSES, number=st.integers(0, 10**9))
def test_no_upstream_answer_is_a_500(
    house: House, frames: Any, stream: bool, raw: bytes, status: int, number: int
) -> None:
    written = [msgspec.json.encode(frame) for frame in frames] if isinstance(frames, list) else []
    house.simulator.clear()
    house.simulator.script(Answer((golden.sse(written), raw), status=status))
    house.simulator.script(text_answer("healed"), times=None)
    # a model of its own, so that no rest of the last example is in the way
    asked = {"model": f"gemini-fuzz-{number}", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    found, answer = house.post(msgspec.json.encode(asked))
    if found == 200 and stream:
        last = events(answer)[-1]
        assert last == "[DONE]" or "error" in last
    elif found == 200:
        assert msgspec.json.decode(answer)["choices"]
    else:
        assert 400 <= found != 500
        assert error_code(msgspec.json.decode(answer))


HEAD_BITS = [
    b"POST /v1/chat/completions HTTP/1.1\r\n",
    b"GET /v1/models HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"Host: 127.0.0.1\r\n",
    b"Authorization: Bearer x\r\n",
    b"Content-Length: 2\r\n",
    b"Content-Length: 99999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Accept: text/event-stream\r\n",
    b"Content-Type: application/json\r\n",
    b"x-request-id: a b\r\n",
    b"Range: bytes=0-1\r\n",
    b"\r\n",
    b"{}",
    b"2\r\n{}\r\n0\r\n\r\n",
]


@fuzz
@given(bits=st.lists(st.sampled_from(HEAD_BITS) | st.binary(max_size=10), max_size=8))
def test_no_head_is_a_500(house: House, bits: list[bytes]) -> None:
    answer = house.say(b"".join(bits))
    assert b"HTTP/1.1 500" not in answer
    assert b"HTTP/1.0 500" not in answer
    assert b"Traceback" not in answer


def test_server_serves_after_all_that(house: House) -> None:
    house.simulator.clear()
    asked = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "x"}], "stream": False}
    status, _ = house.post(msgspec.json.encode(asked))
    assert status == 200
