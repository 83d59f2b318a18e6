"""The JSON reader: what it takes, and what it says of what it does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemproxy.simulator import proto
from gemproxy.simulator.google_errors import Refusal
from tests.simulator.asking import google, post, read, refused, user

PART = "contents[0].parts[0]"
UNKNOWN = 'Invalid JSON payload received. Unknown name "{}"{}: Cannot find field.'

BAD = {
    "an OpenAI field on top": ({"messages": []}, UNKNOWN.format("messages", "")),
    "an unknown name in a content": (
        {"contents": [{"parts": [], "name": "x"}]},
        UNKNOWN.format("name", " at 'contents[0]'"),
    ),
    "an unknown name deep in a schema": (
        {
            "tools": [
                {
                    "functionDeclarations": [
                        {
                            "name": "f",
                            "parameters": {
                                "properties": {"a": {}, "b": {"anyOf": [{"const": 1}]}},
                            },
                        }
                    ]
                }
            ]
        },
        UNKNOWN.format("const", " at 'tools[0].function_declarations[0].parameters.properties[1].value.any_of[0]'"),
    ),
    "a text for a number": (
        {"generationConfig": {"temperature": "hot"}},
        "Invalid value at 'generation_config.temperature' (TYPE_FLOAT), \"hot\"",
    ),
    "a seed outside int32": (
        {"generationConfig": {"seed": 2**31}},
        "Invalid value at 'generation_config.seed' (TYPE_INT32), 2147483648",
    ),
    "a fraction for a whole number": (
        {"generationConfig": {"topK": 1.5}},
        "Invalid value at 'generation_config.top_k' (TYPE_INT32), 1.5",
    ),
    "a text for a truth value": (
        {"contents": [{"parts": [{"text": "a", "thought": "true"}]}]},
        f"Invalid value at '{PART}.thought' (TYPE_BOOL), \"true\"",
    ),
    "a number for a text": (
        {"contents": [{"parts": [{"text": 1}]}]},
        f"Invalid value at '{PART}.text' (TYPE_STRING), 1",
    ),
    "a text for a message": (
        {"contents": ["Hi"]},
        "Invalid value at 'contents[0]' (type.googleapis.com/google.ai.generativelanguage.v1beta.Content), \"Hi\"",
    ),
    "a list for a single message": (
        {"generationConfig": []},
        (
            'Invalid JSON payload received. Unknown name "generation_config": Proto field is not repeating, '
            "cannot start list."
        ),
    ),
    "a word that is not in the enum": (
        {"toolConfig": {"functionCallingConfig": {"mode": "REQUIRED"}}},
        (
            "Invalid value at 'tool_config.function_calling_config.mode' "
            '(type.googleapis.com/google.ai.generativelanguage.v1beta.Mode), "REQUIRED"'
        ),
    ),
    "arguments that are no object": (
        {"contents": [{"parts": [{"functionCall": {"name": "f", "args": "{}"}}]}]},
        f"Invalid value at '{PART}.function_call.args' (type.googleapis.com/google.protobuf.Struct), \"{{}}\"",
    ),
    "properties that are no map": (
        {"generationConfig": {"responseSchema": {"properties": 1}}},
        "Invalid value at 'generation_config.response_schema.properties' (Map), 1",
    ),
    "two kinds of data in one part": (
        {"contents": [{"parts": [{"text": "a", "fileData": {}}]}]},
        f"Invalid value at '{PART}' (oneof), oneof field 'data' is already set. Cannot set 'fileData'",
    ),
    "base64 that is none": (
        {"contents": [{"parts": [{"inlineData": {"data": "no base64!"}}]}]},
        f"Invalid value at '{PART}.inline_data.data' (TYPE_BYTES), Base64 decoding failed for \"no base64!\"",
    ),
    "a signature that is no base64": (
        {"contents": [{"parts": [{"text": "a", "thoughtSignature": "%"}]}]},
        f"Invalid value at '{PART}.thought_signature' (TYPE_BYTES), Base64 decoding failed for \"%\"",
    ),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD.keys())
def test_unreadable_field_is_refused_with_its_path(body: dict[str, Any], message: str) -> None:
    answer = post(google(), {"contents": [user()], **body})
    assert refused(answer) == (400, message)


def test_every_unreadable_field_is_listed() -> None:
    error = read(post(google(), {"a": 1, "contents": [{"b": 2, "parts": [{"text": 3}]}]}))["error"]
    assert error["message"].count("\n") == 2
    assert error["status"] == "INVALID_ARGUMENT"
    detail = error["details"][0]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert [violation.get("field") for violation in detail["fieldViolations"]] == [None, "contents[0]", f"{PART}.text"]


def test_paths_of_code_assist_begin_with_request() -> None:
    answer = post(google(), {"contents": [user()], "model": "x"}, upstream="code_assist")
    assert refused(answer) == (400, UNKNOWN.format("model", " at 'request'"))


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"x"', b"\xff", b'{"a":' * 2000], ids=lambda body: repr(body[:5]))
def test_body_that_is_no_object_is_refused(body: bytes) -> None:
    status, message = refused(post(google(), body))
    assert status == 400
    assert message.startswith("Invalid JSON payload received.")


def test_schema_deeper_than_the_reader_goes_is_refused() -> None:
    schema: dict[str, Any] = {"type": "STRING"}
    for _ in range(120):
        schema = {"type": "ARRAY", "items": schema}
    with pytest.raises(Refusal, match="Max recursion depth"):
        proto.read(_encoded({"generationConfig": {"responseSchema": schema}}), "GenerateContentRequest", "ai_studio")


READ = {
    "snake case": ({"generation_config": {"max_output_tokens": 5}}, {"generationConfig": {"maxOutputTokens": 5}}),
    "one thing where a list belongs": (
        {"systemInstruction": {"parts": {"text": "a"}}},
        {"systemInstruction": {"parts": [{"text": "a"}]}},
    ),
    "null is absence": ({"tools": None, "contents": []}, {"contents": []}),
    "a whole number written as a fraction": ({"generationConfig": {"topK": 40.0}}, {"generationConfig": {"topK": 40}}),
    "a number written as a text": ({"generationConfig": {"topK": "40"}}, {"generationConfig": {"topK": 40}}),
    "a fraction written as a text": ({"generationConfig": {"topP": "0.5"}}, {"generationConfig": {"topP": 0.5}}),
    "an enum in lower case": (
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "low"}}},
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}},
    ),
    "arguments keep their own names": (
        {"contents": [{"parts": [{"function_call": {"name": "f", "args": {"snake_case": {"x": None}}}}]}]},
        {"contents": [{"parts": [{"functionCall": {"name": "f", "args": {"snake_case": {"x": None}}}}]}]},
    ),
    "properties keep their own names": (
        {"generationConfig": {"responseSchema": {"type": "object", "properties": {"any_of": {"type": "string"}}}}},
        {"generationConfig": {"responseSchema": {"type": "OBJECT", "properties": {"any_of": {"type": "STRING"}}}}},
    ),
    "a JSON Schema goes through as it is": (
        {"generationConfig": {"responseJsonSchema": {"type": ["string", "null"], "const": [1]}}},
        {"generationConfig": {"responseJsonSchema": {"type": ["string", "null"], "const": [1]}}},
    ),
}


def _encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)


@pytest.mark.parametrize(("body", "expected"), READ.values(), ids=READ.keys())
def test_readable_body_comes_out_in_camel_case(body: Any, expected: Any) -> None:
    assert proto.read(_encoded(body), "GenerateContentRequest", "ai_studio") == expected


ONLY_THERE = [
    ("ai_studio", {"serviceTier": "flex"}, {"labels": {"a": "b"}}),
    ("vertex", {"labels": {"a": "b"}}, {"serviceTier": "flex"}),
    ("vertex", {"modelArmorConfig": {}}, {"store": True}),
    ("code_assist", {"session_id": "s", "labels": {}}, {"generationConfig": {"imageConfig": {}}}),
    ("code_assist", {"generationConfig": {"audioTimestamp": True}}, {"modelArmorConfig": {}}),
    (
        "ai_studio",
        {"generationConfig": {"enableEnhancedCivicAnswers": True}},
        {"generationConfig": {"audioTimestamp": True}},
    ),
    ("vertex", {"generationConfig": {"imageConfig": {}}}, {"generationConfig": {"enableEnhancedCivicAnswers": True}}),
]


@pytest.mark.parametrize(("upstream", "known", "unknown"), ONLY_THERE)
def test_each_upstream_knows_its_own_names(upstream: str, known: Any, unknown: Any) -> None:
    assert post(google(), {"contents": [user()], **known}, upstream=upstream).status == 200
    status, message = refused(post(google(), {"contents": [user()], **unknown}, upstream=upstream))
    assert status == 400
    assert "Cannot find field." in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [("QUJD", b"ABC"), ("QUI", b"AB"), ("-_-_", b"\xfb\xff\xbf"), ("+/+/", b"\xfb\xff\xbf"), ("Q", None), ("é", None)],
)
def test_base64_is_read_in_both_alphabets(text: str, expected: bytes | None) -> None:
    assert proto.decoded(text) == expected
