"""Reading a request, and a row for each field of OpenAI's: mapped, ignored, refused (docs/protocol.md 4.1)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemproxy.converter.api import Options
from gemproxy.converter.bounds import Bounds
from gemproxy.converter.chat.reading import MAX_BIAS, decode
from gemproxy.converter.chat.request import to_call
from gemproxy.errors import ClientFault
from gemproxy.models import capabilities
from gemproxy.wire.gemini import Blob
from gemproxy.wire.openai_chat import ChatRequest, Unread
from tests.chat_bodies import USER, asks, body, call, function, gives, plan, refused
from tests.corpus import listed, path_of
from tests.gemini_schema import check_body

SECRET = "SECRET-WORDS"


def fault(data: bytes) -> ClientFault:
    with pytest.raises(ClientFault) as caught:
        decode(data)
    return caught.value


# ------------------------------------------------------------------------------------------------------------ reading


def test_decode_reads_the_least_request() -> None:
    found = decode(b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')
    assert (found.model, found.messages[0].content) == ("m", "Hi")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"model":', id="cut short"),
        pytest.param(b"model=a", id="a form"),
        pytest.param(b'{"model":"a","messages":[]} x', id="something after it"),
        pytest.param(b'{"model":"a","messages":[],"n":NaN}', id="NaN"),
        pytest.param(b'{"model":"a","messages":[{"role":"user","content":"\xff"}]}', id="not UTF-8"),
        pytest.param(b'{"model":"a","messages":[],"unknown":"\xff"}', id="not UTF-8 where nobody looks"),
        pytest.param(b'{"model":"a","messages":[{"role":"user","content":"\\ud800"}]}', id="a lone surrogate"),
        pytest.param(b'{"model":"a","messages":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="too deep"),
        pytest.param(b'{"model":"a","metadata":' + b'{"a":' * 50_000, id="too deep in a field that is read"),
    ],
)
def test_decode_of_what_is_no_json_is_invalid_json(data: bytes) -> None:
    found = fault(data)
    assert (found.status, found.code, found.param) == (400, "invalid_json", None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"model": 1}, "model", id="a number as model"),
        pytest.param({"model": None}, "model", id="no model said with null"),
        pytest.param({"messages": "Hi"}, "messages", id="a string as messages"),
        pytest.param({"messages": [None]}, "messages[0]", id="null as message"),
        pytest.param({"messages": [{"content": SECRET}]}, "messages[0].role", id="a message without role"),
        pytest.param({"messages": [{"role": SECRET}]}, "messages[0].role", id="an unknown role"),
        pytest.param({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", id="a number as content"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": SECRET}]}]},
            "messages[0].content[1].type",
            id="an unknown part",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].image_url.url",
            id="an image without address",
        ),
        pytest.param(
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [SECRET]}}]}]},
            "messages[0].tool_calls[0].function.arguments",
            id="a list as arguments",
        ),
        pytest.param({"max_tokens": "100"}, "max_tokens", id="a number as string"),
        pytest.param({"max_tokens": True}, "max_tokens", id="true is no number"),
        pytest.param({"stream": "false"}, "stream", id="a string as flag"),
        pytest.param({"stop": ["a", 1]}, "stop[1]", id="a number as stop sequence"),
        pytest.param({"temperature": [SECRET]}, "temperature", id="a list as number"),
        pytest.param({"tools": {}}, "tools", id="an object as tools"),
        pytest.param({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", id="no name"),
        pytest.param({"logit_bias": {SECRET: "1"}}, "logit_bias[...]", id="a key is not repeated either"),
        pytest.param({"logit_bias": [SECRET]}, "logit_bias", id="a list as logit_bias"),
        pytest.param({"logit_bias": {SECRET: {SECRET: 1}}}, "logit_bias[...]", id="an object as bias"),
        pytest.param({"metadata": SECRET}, "metadata", id="a string as metadata"),
        pytest.param({"metadata": [SECRET]}, "metadata", id="a list as metadata"),
        pytest.param({"audio": SECRET}, "audio", id="a string as voice"),
        pytest.param({"web_search_options": True}, "web_search_options", id="a flag as options of a search"),
    ],
)
def test_decode_of_a_wrong_type_names_the_field_and_nothing_else(fields: dict[str, Any], param: str) -> None:
    found = fault(msgspec.json.encode({"model": "m", "messages": USER, **fields}))
    assert (found.status, found.param, found.type) == (400, param, "invalid_request_error")
    assert SECRET not in found.message


@pytest.mark.parametrize(
    ("data", "param"),
    [
        pytest.param(b"[]", None, id="a list is no request"),
        pytest.param(b'{"messages":[]}', "model", id="model is required"),
        pytest.param(b'{"model":"a"}', "messages", id="messages are required"),
    ],
)
def test_decode_of_a_wrong_whole(data: bytes, param: str | None) -> None:
    found = fault(data)
    assert (found.status, found.param) == (400, param)


def test_decode_names_what_is_allowed() -> None:
    found = fault(b'{"model":"a","messages":[{"role":"bot"}]}')
    assert "system, developer, user, assistant, tool or function" in found.message
    assert found.code == "unsupported_value"


def test_every_field_may_be_null() -> None:
    optional = {field.name for field in msgspec.structs.fields(ChatRequest)} - {"model", "messages"}
    assert body(**dict.fromkeys(optional)) == body()


# ------------------------------------------------------------------------------------------------------- the call


def test_the_plainest_request_is_the_plainest_body() -> None:
    assert body("gemini-2.0-flash") == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


@pytest.mark.parametrize(("stream", "method"), [(True, "streamGenerateContent"), (False, "generateContent")])
def test_the_call_names_method_and_model(stream: bool, method: str) -> None:
    found = plan("gemini-3.8-flash", stream=stream).call
    assert (found.method, found.model) == (method, "gemini-3.8-flash")


def test_an_alias_is_sent_under_its_real_name() -> None:
    request = decode(b'{"model":"fast","messages":[{"role":"user","content":"Hi"}]}')
    found = to_call(request, capabilities("gemini-3.8-flash"), {}, None, Options(), False)
    assert found.call.model == "gemini-3.8-flash"


SAMPLE_A1 = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "reasoning_effort": "low",
    "max_tokens": 2000,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Paris and Rome?"},
        asks(
            call(
                "call_a1",
                "get_weather",
                '{"city":"Paris"}',
                extra_content={"google": {"thought_signature": "U0lHMQ=="}},
            ),
            call("call_a2", "get_weather", '{"city":"Rome"}'),
        ),
        gives("call_a2", '{"c":21}'),
        gives("call_a1", "rain"),
    ],
    "tools": [
        function(
            "get_weather",
            {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
            description="Weather by city",
        )
    ],
    "presence_penalty": 0.0,
    "seed": None,
}


def test_second_step_of_a_turn_reads_as_in_protocol_a1() -> None:
    assert body("gemini-3.8-flash", **SAMPLE_A1) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Weather in Paris and Rome?"}]},
            {
                "role": "model",
                "parts": [
                    {
                        "functionCall": {"id": "call_a1", "name": "get_weather", "args": {"city": "Paris"}},
                        "thoughtSignature": "U0lHMQ==",
                    },
                    {"functionCall": {"id": "call_a2", "name": "get_weather", "args": {"city": "Rome"}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "call_a1", "name": "get_weather", "response": {"output": "rain"}}},
                    {"functionResponse": {"id": "call_a2", "name": "get_weather", "response": {"c": 21}}},
                ],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "get_weather",
                        "description": "Weather by city",
                        "parametersJsonSchema": {
                            "type": "object",
                            "properties": {"city": {"type": "string"}},
                            "required": ["city"],
                            "additionalProperties": False,
                        },
                    }
                ]
            }
        ],
        "generationConfig": {
            "maxOutputTokens": 2000,
            "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
        },
    }


# ------------------------------------------------------------------------------- fields that are not generation's

OFF = "BLOCK_NONE"
SAFETY = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": OFF}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"service_tier": "flex"}, {"serviceTier": "flex"}, id="flex goes on"),
        pytest.param({"service_tier": "priority"}, {"serviceTier": "priority"}, id="priority goes on"),
        pytest.param({"service_tier": "auto"}, {}, id="auto says nothing"),
        pytest.param({"service_tier": "default"}, {}, id="default says nothing"),
        pytest.param({"service_tier": "scale"}, {}, id="another tier has no counterpart"),
        pytest.param(
            {"google": {"cached_content": "cachedContents/a"}},
            {"cachedContent": "cachedContents/a"},
            id="cached content",
        ),
        pytest.param(
            {"extra_body": {"google": {"cachedContent": "cachedContents/b"}}},
            {"cachedContent": "cachedContents/b"},
            id="cached content under extra_body, camel case",
        ),
        pytest.param(
            {"extra_body": {"extra_body": {"google": {"cached_content": "cachedContents/c"}}}},
            {"cachedContent": "cachedContents/c"},
            id="nested once too often",
        ),
        pytest.param({"extra_body": {}}, {}, id="an extra_body of other servers"),
        pytest.param({"google": {"safety_settings": SAFETY}}, {"safetySettings": SAFETY}, id="safety settings"),
        pytest.param({"google": {"safetySettings": SAFETY}}, {"safetySettings": SAFETY}, id="in camel case"),
        pytest.param({"google": {"safety_settings": []}}, {}, id="no safety settings"),
        pytest.param({"logit_bias": {"50256": -100}}, {}, id="logit_bias has no counterpart"),
        pytest.param({"parallel_tool_calls": False}, {}, id="parallel calls cannot be turned off"),
        pytest.param({"user": "u", "store": True, "metadata": {"a": "b"}}, {}, id="for OpenAI's own records"),
        pytest.param(
            {"verbosity": "low", "prediction": {"type": "content"}, "prompt_cache_key": "k", "whatever": 1},
            {},
            id="hints and unknown names",
        ),
        pytest.param({"stream": True, "stream_options": {"include_usage": True}}, {}, id="the answer's affair"),
    ],
)
def test_field(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    plain = body("gemini-2.0-flash")
    assert body("gemini-2.0-flash", **fields) == plain | expected


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        pytest.param({}, (), id="nothing"),
        pytest.param({"logit_bias": {"1": 1}}, ("logit_bias",), id="logit_bias"),
        pytest.param({"logit_bias": {}}, (), id="an empty one asks for nothing"),
        pytest.param({"logit_bias": None}, (), id="null asks for nothing"),
        pytest.param({"parallel_tool_calls": False}, ("parallel_tool_calls",), id="parallel_tool_calls"),
        pytest.param({"parallel_tool_calls": True}, (), id="which is the default"),
        pytest.param({"service_tier": "scale"}, ("service_tier",), id="service_tier"),
        pytest.param(
            {"presence_penalty": 1, "frequency_penalty": 0}, ("presence_penalty",), id="a penalty that is one"
        ),
        pytest.param({"temperature": 1, "top_p": 1}, ("temperature", "top_p"), id="sampling that 3.8 does not know"),
    ],
)
def test_what_is_left_out_is_named(fields: dict[str, Any], ignored: tuple[str, ...]) -> None:
    assert plan("gemini-3.8-flash", **fields).ignored == ignored


SEARCHING = {"tools": [{"type": "web_search"}]}
CACHED = {"google": {"cached_content": "cachedContents/a"}}


@pytest.mark.parametrize(
    ("fields", "taken", "grounded"),
    [
        pytest.param({}, set(), False, id="no tools: no calls to come"),
        pytest.param({"tools": [function("f")]}, {"c1", "c2"}, False, id="functions"),
        pytest.param(SEARCHING, set(), True, id="a search"),
        pytest.param(CACHED, {"c1", "c2"}, True, id="cached content may hold either"),
    ],
)
def test_plan_tells_what_the_answer_may_hold(fields: dict[str, Any], taken: set[str], grounded: bool) -> None:
    found = plan(messages=[*USER, asks(call("c1"), call("c2"), call(None)), gives("c1"), gives("c2")], **fields)
    assert (found.taken, found.grounded) == (taken, grounded)


def test_plan_tells_how_to_read_the_answer() -> None:
    custom = {"type": "custom", "custom": {"name": "patch it"}}
    found = plan("gemini-2.5-flash", tools=[function("get"), custom])
    assert found.names == {"patch_it": "patch it"}
    assert found.declared == {"get", "patch it"}
    assert found.custom == {"patch it"}
    assert not found.legacy_functions
    assert plan(functions=[{"name": "old"}]).legacy_functions


def test_the_operator_can_turn_thoughts_off() -> None:
    silent = Options(include_thoughts=False)
    assert "generationConfig" not in body("gemini-3.8-flash", options=silent)
    assert body("gemini-3.8-flash")["generationConfig"] == {"thinkingConfig": {"includeThoughts": True}}


# --------------------------------------------------------------------------------------------------- how much of it


@pytest.mark.parametrize("field", ["metadata", "audio", "web_search_options"])
def test_what_an_object_holds_that_nobody_reads_is_passed_over(field: str) -> None:
    found = decode(msgspec.json.encode({"model": "m", "messages": USER, field: {"a": [{}] * 10}}))
    assert getattr(found, field) == Unread()


def test_a_logit_bias_is_bounded_before_it_is_looked_into() -> None:
    found = fault(msgspec.json.encode({"model": "m", "messages": USER, "logit_bias": {"1" * MAX_BIAS: SECRET}}))
    assert (found.status, found.param, found.code) == (400, "logit_bias", "unsupported_value")
    thousand = {str(token): -100 for token in range(100_000, 103_000)}
    assert plan(logit_bias=thousand).ignored == ("logit_bias",)


TEXTS = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
DRAWN = {"role": "assistant", "content": "c", "images": [{"image_url": "data:image/png;base64,iVBORw0KGgo="}]}
OLD_CALL = {"role": "assistant", "function_call": {"name": "f"}}
TALK = [TEXTS, DRAWN, asks(call("a"), call("b")), OLD_CALL]  # 4 messages, 3 parts, 3 calls


@pytest.mark.parametrize(
    ("bounds", "setting"),
    [
        pytest.param(Bounds(messages=3, parts=3, calls=3), "server.max_messages", id="messages"),
        pytest.param(Bounds(messages=4, parts=2, calls=3), "server.max_parts", id="parts, pictures among them"),
        pytest.param(Bounds(messages=4, parts=3, calls=2), "server.max_calls", id="calls"),
        pytest.param(Bounds(messages=4, parts=3, calls=3), None, id="none of them"),
    ],
)
def test_a_conversation_beyond_a_limit_is_refused_by_its_setting(bounds: Bounds, setting: str | None) -> None:
    talk = msgspec.json.encode({"model": "m", "messages": TALK})
    if setting is None:
        assert decode(talk, bounds)
        return
    with pytest.raises(ClientFault) as caught:
        decode(talk, bounds)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "messages", "unsupported_value")
    assert f"({setting})" in caught.value.message


def test_a_request_is_not_changed_by_its_conversion() -> None:
    request = decode(msgspec.json.encode({"model": "m", **SAMPLE_A1}))
    first = to_call(request, capabilities("gemini-3.8-flash"), {}, None, Options(), True)
    second = to_call(request, capabilities("gemini-3.8-flash"), {}, None, Options(), True)
    assert msgspec.json.encode(first.call.body) == msgspec.json.encode(second.call.body)


# ---------------------------------------------------------------------------------------------- recorded requests

RECORDED = listed("openai-recorded/*chat*.request.json") + listed("openai-recorded/google-openai*.request.json")
REFUSED = {  # what OpenAI refuses or what no Gemini model offers
    "chat-bad-request": "messages",
    "chat-no-messages": "messages",
    "chat-text-to-audio": "modalities",
}


@pytest.mark.parametrize("model", ["gemini-2.0-flash", "gemini-2.5-flash", "gemini-3.8-flash", "gemma-3-27b-it"])
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name.partition(".")[0])
def test_recorded_requests_convert_to_what_google_describes(path: Any, model: str) -> None:
    request = decode(path.read_bytes())
    wikimedia = {
        part.image_url.url: Blob("image/jpeg", "/9j/4AAQ")
        for message in request.messages
        if isinstance(message.content, list)
        for part in message.content
        if getattr(part, "image_url", None) is not None and part.image_url.url.startswith("http")
    }
    refusal = REFUSED.get(path.name.partition(".")[0])
    if refusal is not None:
        with pytest.raises(ClientFault) as caught:
            to_call(request, capabilities(model), wikimedia, None, Options(), False)
        assert caught.value.param == refusal
        return
    found = to_call(request, capabilities(model), wikimedia, None, Options(), bool(request.stream))
    assert check_body(msgspec.json.decode(msgspec.json.encode(found.call.body))) == []


FULL = {
    "temperature": 1.0,
    "top_p": 0.9,
    "top_k": 40.0,
    "max_tokens": 100.0,
    "stop": ["a"],
    "seed": 2**40,
    "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}},
    "web_search_options": {},
    "tool_choice": "required",
    "service_tier": "flex",
    "google": {"safety_settings": SAFETY, "cached_content": "cachedContents/a"},
    **{key: SAMPLE_A1[key] for key in ("messages", "tools", "reasoning_effort")},
}


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "gemini-3.1-pro-preview", "gemini-2.5-pro"])
def test_a_request_with_everything_converts_to_what_google_describes(model: str) -> None:
    found = body(model, **FULL)
    assert check_body(found) == []
    assert {"contents", "tools", "generationConfig", "safetySettings", "cachedContent", "serviceTier"} <= set(found)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param({"user": "u"}, "$.user is not known", id="an unknown name"),
        pytest.param({"contents": {}}, "$.contents is no list", id="no list"),
        pytest.param({"contents": [{"parts": [{"text": 1}]}]}, "$.contents[0].parts[0].text is no string", id="a type"),
        pytest.param({"generationConfig": {"topK": 1.5}}, "$.generationConfig.topK is no int32", id="a fraction"),
        pytest.param({"generationConfig": {"seed": 2**31}}, "$.generationConfig.seed is no int32", id="a range"),
        pytest.param({"contents": [None]}, "$.contents[0] is null", id="a null"),
        pytest.param({"systemInstruction": "x"}, "$.systemInstruction is no object", id="no object"),
        pytest.param(
            {"contents": [{"parts": [{"thoughtSignature": "*"}]}]}, "thoughtSignature is no byte", id="base64"
        ),
    ],
)
def test_the_checker_finds(wrong: dict[str, Any], said: str) -> None:
    problems = check_body(wrong)
    assert len(problems) == 1
    assert said in problems[0]


def test_every_field_of_openais_schema_is_read_or_knowingly_ignored() -> None:
    described = msgspec.json.decode(path_of("openapi.chat-models.json").read_bytes())["components"]["schemas"]
    fields: set[str] = set()
    for name in ("CreateChatCompletionRequest", "CreateModelResponseProperties", "ModelResponseProperties"):
        for branch in described[name].get("allOf", [described[name]]):
            fields |= set(branch.get("properties", {}))
    ignored = {"verbosity", "prediction", "moderation", "safety_identifier"}
    ignored |= {"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"}
    assert len(fields) > 30
    assert fields - {field.name for field in msgspec.structs.fields(ChatRequest)} == ignored


def test_no_messages_are_refused() -> None:
    fault = refused(messages=[])
    assert (fault.status, fault.param, fault.type) == (400, "messages", "invalid_request_error")
