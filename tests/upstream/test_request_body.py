"""What the three dialects have in common: addresses, learnt repairs, untouched calls, frames."""

from functools import partial

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from gemproxy.errors import UpstreamFault
from gemproxy.models import SHIPPED
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Call, Repair, Token
from gemproxy.upstream.repairs import REPAIR_TTL
from gemproxy.upstream.request_body import fitted
from gemproxy.upstream.signing import DUMMY
from gemproxy.upstream.vertex import Vertex
from gemproxy.wire import UNREADABLE
from gemproxy.wire.gemini import (
    Content,
    FunctionCall,
    FunctionDeclaration,
    FunctionResponse,
    GenerateRequest,
    GenerationConfig,
    Part,
    ThinkingConfig,
    ToolSpec,
)
from tests.all_hold import all_hold
from tests.corpus import listed

TOKEN = Token("fake-secret", "fake-project", "us-central1")
THREE = "gemini-3.8-flash"
MODEL = "gemini-3-flash-preview"


def dialects():
    return [
        AiStudio("http://studio.test/v1beta", "gemproxy/test"),
        CodeAssist("http://assist.test/v1internal", "gemproxy/test"),
        Vertex("http://vertex.test/v1", "gemproxy/test"),
    ]


@pytest.fixture(params=range(3), ids=["ai_studio", "code_assist", "vertex"])
def dialect(request):
    """Each of them, new in every test: they learn."""
    return dialects()[request.param]


def chat(model=THREE, method="generateContent", **fields):
    return Call(method, model, GenerateRequest([Content([Part(text="Hi")], "user")], **fields))


def body_of(request):
    """Return Gemini's body, out of the envelope if there is one."""
    body = msgspec.json.decode(request.body)
    return body.get("request", body)


# --------------------------------------------------------------------------------------------------- addresses

HOSTILE = [
    pytest.param("x/../../v1/files", id="a path upwards"),
    pytest.param("..", id="two dots"),
    pytest.param("x:deleteModel?key=stolen", id="another method and a query"),
    pytest.param("x#fragment", id="a fragment"),
    pytest.param("x\r\nx-goog-api-key: other", id="a header"),
    pytest.param("x%2F..%2Fy", id="escapes of its own"),
    pytest.param("http://evil.test/x", id="another host"),
    pytest.param("x y\tz\x00", id="white space and control characters"),
    pytest.param("gemini-日本", id="other scripts"),
    pytest.param("", id="nothing"),
]


@pytest.mark.parametrize("model", HOSTILE)
def test_a_model_name_stays_a_name(dialect, model):
    all_hold(partial(check_name, dialect, model), [("generateContent",), ("streamGenerateContent",)])


def check_name(dialect, model, method):
    harmless = URL(dialect.ask(chat("m", method), TOKEN, 0.0).url)
    request = dialect.ask(chat(model, method), TOKEN, 0.0)
    url = URL(request.url)
    assert (url.scheme, url.host, url.query_string, url.fragment) == ("http", harmless.host, harmless.query_string, "")
    assert len(url.raw_parts) == len(harmless.raw_parts)
    assert url.raw_parts[:-1] == harmless.raw_parts[:-1]
    assert url.raw_path.endswith(f":{method}")
    assert all(value.isprintable() for pair in request.headers.items() for value in pair)


def test_half_a_character_in_a_name_makes_no_broken_address():
    assert dialects()[0].ask(chat("x\ud800"), TOKEN, 0.0).url.endswith("/models/x%3F:generateContent")


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_model_name_reaches_the_upstream_as_it_was_written(model):
    studio = dialects()[0]
    url = URL(studio.ask(chat(model), TOKEN, 0.0).url)
    assert url.host == "studio.test"
    assert url.raw_parts[:3] == ("/", "v1beta", "models")
    assert url.parts[3] == f"{model}:generateContent"


def test_streams_are_asked_for_as_events_and_unary_answers_are_not(dialect):
    assert dialect.ask(chat(method="streamGenerateContent"), TOKEN, 0.0).url.endswith(":streamGenerateContent?alt=sse")
    assert dialect.ask(chat(), TOKEN, 0.0).url.endswith(":generateContent")


def test_requests_name_us_and_hide_the_secret(dialect):
    request = dialect.ask(chat(), TOKEN, 0.0)
    assert request.method == "POST"
    assert request.headers["user-agent"] == "gemproxy/test"
    assert request.headers["content-type"] == "application/json"
    assert "fake-secret" in "".join(request.headers.values())
    assert "fake-secret" not in repr(request) + request.url + request.body.decode()
    assert repr(TOKEN) == "Token(...)"


def test_one_requests_headers_are_not_the_nexts(dialect):
    dialect.ask(chat(), TOKEN, 0.0).headers["x-other"] = "1"
    assert "x-other" not in dialect.ask(chat(), TOKEN, 0.0).headers


# ----------------------------------------------------------------------------------------------------- bodies


def history(origin):
    return GenerateRequest(
        [
            Content([Part(text="Go")], "user"),
            Content([Part(function_call=FunctionCall("f", id="c1"), thought_signature="SIG", origin=origin)], "model"),
            Content([Part(function_response=FunctionResponse("f", {"output": 1}, "c1"))], "user"),
        ],
        system_instruction=Content([Part(text="Rule.")]),
        tools=[ToolSpec([FunctionDeclaration("f")])],
        generation_config=GenerationConfig(
            temperature=0.5,
            presence_penalty=0.1,
            response_mime_type="application/json",
            thinking_config=ThinkingConfig(thinking_level="MINIMAL"),
        ),
        service_tier="flex",
    )


def test_asking_changes_nothing_of_the_call(dialect):
    all_hold(partial(check_unchanged, dialect), ((model.id,) for model in SHIPPED))


def check_unchanged(dialect, model):
    call = Call("generateContent", model, history("ai_studio/" + model))
    before = msgspec.json.encode(call)
    for repair in Repair:
        dialect.learn(model, repair, 0.0)
    dialect.ask(call, TOKEN, 1.0)
    assert msgspec.json.encode(call) == before


def test_a_plain_call_is_sent_as_it_is(dialect):
    call = chat()
    assert fitted(call, dialect.name, frozenset()) is call.body
    assert body_of(dialect.ask(call, TOKEN, 0.0)) == {"contents": [{"parts": [{"text": "Hi"}], "role": "user"}]}


@pytest.mark.parametrize("origin", ["ai_studio", "code_assist", "vertex"])
def test_a_signature_reaches_only_the_upstream_that_made_it(dialect, origin):
    call = Call("generateContent", THREE, history(f"{origin}/{THREE}"))
    sent = body_of(dialect.ask(call, TOKEN, 0.0))["contents"][1]["parts"][0]
    assert sent["thoughtSignature"] == ("SIG" if origin == dialect.name else DUMMY)
    assert sent["functionCall"]["id"] == "c1"
    assert "x-gemproxy-origin" not in sent


REPAIRS = [
    (Repair.DROP_PENALTIES, "generationConfig.presencePenalty", None),
    (Repair.DROP_SAMPLING, "generationConfig.temperature", None),
    (Repair.RAISE_LEVEL, "generationConfig.thinkingConfig.thinkingLevel", "LOW"),
    (Repair.DROP_LEVEL, "generationConfig.thinkingConfig.thinkingLevel", None),
    (Repair.DROP_THINKING, "generationConfig.thinkingConfig", None),
    (Repair.SCHEMA_AS_TEXT, "generationConfig.responseMimeType", None),
    (Repair.SYSTEM_AS_USER, "systemInstruction", None),
    (Repair.STRIP_CALL_IDS, "contents.1.parts.0.functionCall.id", None),
    (Repair.STRIP_CALL_IDS, "contents.2.parts.0.functionResponse.id", None),
    (Repair.DUMMY_SIGNATURES, "contents.1.parts.0.thoughtSignature", DUMMY),
]


def found(body, path):
    for name in path.split("."):
        body = body[int(name)] if isinstance(body, list) else body.get(name)
        if body is None:
            return None
    return body


@pytest.mark.parametrize(
    ("repair", "path", "expected"), [pytest.param(*row, id=f"{row[0].value}, {row[1]}") for row in REPAIRS]
)
def test_a_repair_is_applied_to_the_call_that_needs_it(dialect, repair, path, expected):
    call = Call("generateContent", MODEL, history(f"{dialect.name}/{MODEL}"))
    before = found(body_of(dialect.ask(call, TOKEN, 0.0)), path)
    assert before not in (None, expected)
    assert found(body_of(dialect.ask(call, TOKEN, 0.0, {repair})), path) == expected
    assert found(body_of(dialect.ask(call, TOKEN, 0.0)), path) == before


@pytest.mark.parametrize(
    ("repair", "path", "expected"), [pytest.param(*row, id=f"{row[0].value}, {row[1]}") for row in REPAIRS[:-1]]
)
def test_a_learnt_repair_is_applied_to_this_models_next_calls(dialect, repair, path, expected):
    call = Call("generateContent", MODEL, history(f"{dialect.name}/{MODEL}"))
    other = Call("generateContent", "gemini-3.1-pro-preview", history(f"{dialect.name}/gemini-3.1-pro-preview"))
    before = found(body_of(dialect.ask(call, TOKEN, 0.0)), path)
    dialect.learn(MODEL, repair, 0.0)
    assert found(body_of(dialect.ask(call, TOKEN, 1.0)), path) == expected
    assert found(body_of(dialect.ask(call, TOKEN, 1.0, {Repair.DROP_LOGPROBS})), path) == expected
    assert found(body_of(dialect.ask(call, TOKEN, REPAIR_TTL)), path) == before
    assert found(body_of(dialect.ask(other, TOKEN, 1.0)), path) == before


# ----------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b'{"error":{"code":503,"message":"x"}}', id="an object"),
        pytest.param(b'[{"error":{"code":503,"message":"x"}}]', id="in an array"),
        pytest.param(b' [{"error":{"code":503,\n,\n"message":"x"}}\n]', id="in an array, with a stray comma"),
        pytest.param(b'{"error":{"code":503,\n,"message":"x",}}', id="with stray commas"),
    ],
)
def test_an_error_frame_is_decoded_as_one(dialect, frame):
    answer = dialect.decode(frame)
    assert answer.error["code"] == 503
    assert not answer.candidates
    assert dialect.judge(500, {}, frame, 0.0).reason == "overloaded"


HALF = rb"cut \ud83d"
PARTS = [
    pytest.param(rb'{"text":"%s,, \n"}', "text", id="a text"),
    pytest.param(rb'{"text":"%s,, \n","thought":true}', "text", id="a thought"),
    pytest.param(rb'{"functionCall":{"name":"f","args":{"a":"%s,, \n"}}}', "function_call.args", id="arguments"),
    pytest.param(rb'{"functionCall":{"name":"%s,, \n"}}', "function_call.name", id="a name"),
    pytest.param(
        rb'{"functionCall":{"partialArgs":[{"jsonPath":"$.a","stringValue":"%s,, \n"}]}}',
        "function_call.partial_args",
        id="a piece of arguments",
    ),
    pytest.param(rb'{"inlineData":{"mimeType":"%s,, \n","data":"AA=="}}', "inline_data.mime_type", id="a medium"),
    pytest.param(rb'{"executableCode":{"code":"%s,, \n"}}', "executable_code.code", id="code"),
    pytest.param(rb'{"codeExecutionResult":{"output":"%s,, \n"}}', "code_execution_result.output", id="its output"),
]


@pytest.mark.parametrize("size", [0, 1 << 15], ids=["short", "long"])
@pytest.mark.parametrize("envelope", [b"%s", b'{"response":%s}'], ids=["bare", "enveloped"])
@pytest.mark.parametrize(("part", "path"), PARTS)
def test_half_a_character_costs_no_answer(part, path, envelope, size):
    frame = envelope % (b'{"candidates":[{"content":{"parts":[%s]}}]}' % (part % (b"x" * size + HALF)))
    answer = dialects()[1].decode(frame)
    value = answer.candidates[0].content.parts[0]
    for name in path.split("."):
        value = getattr(value, name)
    said = msgspec.json.encode(value).decode()
    assert "x" * size + "cut \ufffd,, " in said.replace(r"\ufffd", "\ufffd")


def test_half_a_character_in_the_sources_costs_no_answer():
    frame = rb'{"candidates":[{"groundingMetadata":{"groundingChunks":[{"web":{"title":"%s"}}]}}]}' % HALF
    assert rb"cut \ufffd" in bytes(dialects()[0].decode(frame).candidates[0].grounding_metadata)


def test_half_a_character_in_an_error_leaves_it_an_error(dialect):
    frame = rb'{"error":{"code":503,"message":"The model is overloaded. %s,,","status":"UNAVAILABLE"}}' % HALF
    assert dialect.decode(frame).error["message"].endswith("cut \ufffd,,")
    assert dialect.judge(500, {}, frame, 0.0).reason == "overloaded"
    assert dialect.judge(503, {}, frame, 0.0).reason == "overloaded"


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b'{"candidates":[{"content":{"parts":[%s{}]}}]}' % (b"{}," * 300_000), id="empty parts"),
        pytest.param(b'{"error":[%s{}]}' % (b"{}," * 300_000), id="an error of empty objects"),
        pytest.param(b'{"error":[%s1]}' % (b"," * 2_000_000), id="an error of commas"),
    ],
)
def test_a_frame_of_more_pieces_than_a_model_writes_is_not_decoded(dialect, frame):
    with pytest.raises(UpstreamFault, match="more pieces"):
        dialect.decode(frame)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="HTML"),
        pytest.param(b'{"candidates":[', id="cut"),
        pytest.param(b'{"candidates":3}', id="a wrong type"),
        pytest.param(b'[{"candidates":[]}]', id="an array of answers"),
        pytest.param(b'[{"candidates":[],"x":"error"}]', id="an array with the word error in it"),
        pytest.param(b'{"error":', id="an error that was cut"),
        pytest.param(b'{"modelVersion":"\xff"}', id="no UTF-8"),
        pytest.param(b'{"x":' + b"[" * 100_000, id="nested too deeply"),
        pytest.param(b'[{"error":"\xff"}]', id="an error that is no UTF-8"),
        pytest.param(b'[{"error":' + b"[" * 100_000, id="an error nested too deeply"),
    ],
)
def test_a_frame_that_is_no_answer_is_a_decode_error(dialect, frame):
    with pytest.raises(UNREADABLE):
        dialect.decode(frame)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(b'{"candidates":null,"usageMetadata":null,"error":null}', id="nulls"),
        pytest.param(b'{"response":{"candidates":[],"error":null},"error":null}', id="nulls in an envelope"),
        pytest.param(b'{"candidates":[{}]}', id="an empty candidate"),
        pytest.param(b'{"candidates":[{"content":{}}]}', id="an empty content"),
        pytest.param(b'{"candidates":[{"content":{"parts":[{}]}}]}', id="an empty part"),
        pytest.param(b'{"candidates":[{"finishReason":"NEW_ONE","index":0,"turnToken":"x"}]}', id="words of tomorrow"),
        pytest.param(b'{"usageMetadata":{"trafficType":"ON_DEMAND"}}', id="usage without counts"),
        pytest.param(b'{"promptFeedback":{"blockReason":"SAFETY"}}', id="a blocked prompt"),
    ],
)
def test_a_sparse_frame_is_an_answer(dialect, frame):
    assert dialect.decode(frame).error is None


RECORDED = [
    pytest.param(dialect, path, id=f"{backend}/{path.name}")
    for backend, dialect in zip(("aistudio", "codeassist", "vertex"), dialects(), strict=True)
    for pattern in ("stream/*.sse", "unary/*.json")
    for path in listed(f"corpus/{backend}/{pattern}")
    if not path.name.startswith("loadCodeAssist")
]


@pytest.mark.parametrize(("dialect", "path"), RECORDED)
def test_every_recorded_frame_is_decoded(dialect, path):
    data = path.read_bytes()
    frames = [data]
    if path.suffix == ".sse":
        frames = [line[5:] for line in data.split(b"\n") if line.startswith(b"data:")]
    answers = [dialect.decode(frame) for frame in frames if frame.strip()[:1] != b"["]
    assert answers or frames[0].strip()[:1] == b"["
    assert all(
        answer.candidates or answer.prompt_feedback or answer.usage_metadata or answer.error for answer in answers
    )
