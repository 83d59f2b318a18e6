"""Limits, sampling, format, number of answers: a row a field (docs/protocol.md 1.5, 4.1, 4.6; architecture.md 14.7)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemproxy.models import Model, capabilities
from tests.chat_bodies import USER, body, config, function, refused

OLD, NEW = "gemini-2.5-flash", "gemini-3.8-flash"
FLAGGED = msgspec.structs.replace(capabilities("gemini-2.5-flash"), logprobs=True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, {}, id="nothing said, nothing sent"),
        pytest.param({"max_tokens": 100}, {"maxOutputTokens": 100}, id="max_tokens"),
        pytest.param({"max_tokens": 100.0}, {"maxOutputTokens": 100}, id="a whole number written as a fraction"),
        pytest.param(
            {"max_tokens": 100, "max_completion_tokens": 50}, {"maxOutputTokens": 50}, id="the newer name wins"
        ),
        pytest.param({"max_tokens": 10**9}, {"maxOutputTokens": 65_536}, id="clamped to what the model can"),
        pytest.param({"temperature": 0}, {"temperature": 0}, id="temperature 0 is said"),
        pytest.param({"temperature": 2, "top_p": 0.5}, {"temperature": 2, "topP": 0.5}, id="sampling"),
        pytest.param({"top_k": 40}, {"topK": 40}, id="top_k"),
        pytest.param({"top_k": 40.0}, {"topK": 40}, id="top_k as a fraction"),
        pytest.param({"top_k": 1 << 40}, {"topK": 0x7FFFFFFF}, id="top_k beyond 32 bits"),
        pytest.param({"top_k": -1}, {}, id="no top_k, in other servers' words"),
        pytest.param({"top_k": 0}, {}, id="no top_k, in others' words"),
        pytest.param({"stop": "END"}, {"stopSequences": ["END"]}, id="one stop sequence"),
        pytest.param({"stop": ["a", "", "b"]}, {"stopSequences": ["a", "b"]}, id="empty ones are dropped"),
        pytest.param({"stop": ""}, {}, id="an empty one is none"),
        pytest.param({"stop": []}, {}, id="no stop sequences"),
        pytest.param({"stop": list("abcde")}, {"stopSequences": list("abcde")}, id="five are Gemini's most"),
        pytest.param({"seed": 42}, {"seed": 42}, id="seed"),
        pytest.param({"seed": -1}, {"seed": -1}, id="a negative seed"),
        pytest.param({"seed": 2**31 - 1}, {"seed": 2**31 - 1}, id="the largest seed"),
        pytest.param({"seed": -(2**31)}, {"seed": -(2**31)}, id="the least seed"),
        pytest.param({"seed": 2**31}, {"seed": 0}, id="one more is masked"),
        pytest.param({"seed": 2**40 + 7}, {"seed": 7}, id="a large seed is masked"),
        pytest.param({"seed": 7.0}, {"seed": 7}, id="a seed as a fraction"),
        pytest.param({"presence_penalty": 0.0, "frequency_penalty": 0}, {}, id="zero penalties"),
        pytest.param({"presence_penalty": 1, "frequency_penalty": -2}, {}, id="penalties that no model takes"),
        pytest.param({"n": 1}, {}, id="one answer"),
        pytest.param({"n": 3}, {"candidateCount": 3}, id="three answers"),
        pytest.param({"n": 2.0}, {"candidateCount": 2}, id="two answers as a fraction"),
        pytest.param({"logprobs": False}, {}, id="no logprobs"),
        pytest.param({"logprobs": False, "top_logprobs": 0}, {}, id="none of none"),
        pytest.param({"modalities": ["text"]}, {}, id="text is what there is"),
        pytest.param({"modalities": []}, {}, id="no modality said"),
        pytest.param({"response_format": {"type": "text"}}, {}, id="free text"),
        pytest.param(
            {"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}, id="any JSON"
        ),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": True}}},
            {"responseMimeType": "application/json"},
            id="a schema that allows anything",
        ),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "array", "items": {}}}}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "array", "items": {}}},
            id="a schema, which need not be an object",
        ),
    ],
)
def test_field(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert config(OLD, **fields) == expected


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        pytest.param(FLAGGED, {"logprobs": True}, {"responseLogprobs": True}, id="a model with logprobs"),
        pytest.param(
            FLAGGED,
            {"logprobs": True, "top_logprobs": 5.0},
            {"responseLogprobs": True, "logprobs": 5},
            id="and with alternatives",
        ),
        pytest.param(NEW, {"temperature": 1, "top_p": 0.5, "top_k": 3}, {}, id="a model that ignores sampling"),
        pytest.param("gemini-1.5-pro", {"max_tokens": 9_000}, {"maxOutputTokens": 8_192}, id="an old limit"),
        pytest.param(
            "gemini-3-pro-image",
            {"modalities": ["text", "image"]},
            {"responseModalities": ["TEXT", "IMAGE"]},
            id="both",
        ),
        pytest.param(
            "gemini-3-pro-image", {"modalities": ["image"]}, {"responseModalities": ["TEXT", "IMAGE"]}, id="image"
        ),
    ],
)
def test_field_by_model(model: str | Model, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert config(model, **fields) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"max_tokens": 0}, "max_tokens", id="no tokens"),
        pytest.param({"max_tokens": -5}, "max_tokens", id="fewer than none"),
        pytest.param({"max_completion_tokens": 0}, "max_completion_tokens", id="none under the newer name"),
        pytest.param({"max_tokens": 100.5}, "max_tokens", id="half a token"),
        pytest.param({"temperature": -0.5}, "temperature", id="too cold"),
        pytest.param({"temperature": 2.1}, "temperature", id="too hot"),
        pytest.param({"top_p": 1.5}, "top_p", id="more than all"),
        pytest.param({"top_k": 1.5}, "top_k", id="half a candidate"),
        pytest.param({"stop": list("abcdef")}, "stop", id="six stop sequences"),
        pytest.param({"seed": 1.5}, "seed", id="half a seed"),
        pytest.param({"presence_penalty": 2.5}, "presence_penalty", id="a penalty out of range"),
        pytest.param({"frequency_penalty": -3}, "frequency_penalty", id="the other one"),
        pytest.param({"n": 0}, "n", id="no answer"),
        pytest.param({"n": 1.5}, "n", id="half an answer"),
        pytest.param({"n": 9}, "n", id="more answers than Gemini gives"),
        pytest.param({"logprobs": True}, "logprobs", id="a model without logprobs"),
        pytest.param({"top_logprobs": 3}, "top_logprobs", id="alternatives without logprobs"),
        pytest.param({"top_logprobs": 21}, "top_logprobs", id="too many alternatives"),
        pytest.param({"top_logprobs": 1.5}, "top_logprobs", id="half an alternative"),
        pytest.param({"modalities": ["audio", "text"]}, "modalities", id="audio output"),
        pytest.param({"audio": {"voice": "alloy", "format": "wav"}}, "audio", id="a voice"),
        pytest.param({"modalities": ["smell"]}, "modalities", id="another sense"),
        pytest.param({"modalities": ["image"]}, "modalities", id="images of a model that makes none"),
        pytest.param({"response_format": {"type": "yaml"}}, "response_format.type", id="another format"),
        pytest.param({"response_format": {"type": "json_schema"}}, "response_format.json_schema", id="no json_schema"),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
            id="no schema in it",
        ),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"schema": None}}},
            "response_format.json_schema.schema",
            id="null as schema",
        ),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
            "response_format.json_schema.schema",
            id="a number as schema",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    fault = refused(OLD, **fields)
    assert (fault.status, fault.param) == (400, param)


def test_several_answers_of_a_model_that_gives_one_are_refused() -> None:
    fault = refused(NEW, n=2)
    assert (fault.param, fault.code) == ("n", "unsupported_value")
    assert "at most 1 answer " in fault.message


# ------------------------------------------------------------------------------------------ formats beside tools

SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {"a": {"type": "null"}}}}}


@pytest.mark.parametrize(
    ("model", "tools", "in_config"),
    [
        pytest.param(NEW, {"tools": [function()]}, True, id="3.x takes both"),
        pytest.param(OLD, {}, True, id="2.x without tools"),
        pytest.param(OLD, {"tools": []}, True, id="2.x with an empty list of tools"),
        pytest.param(OLD, {"tools": [function()]}, False, id="2.x with a function"),
        pytest.param(OLD, {"functions": [{"name": "f"}]}, False, id="2.x with a function of old"),
        pytest.param(OLD, {"web_search_options": {}}, False, id="2.x with a search"),
        pytest.param("gemma-4-31b-it", {"tools": [function()]}, False, id="gemma with a function"),
    ],
)
@pytest.mark.parametrize("wanted", [SCHEMA, {"type": "json_object"}], ids=["schema", "any object"])
def test_json_beside_tools(model: str, tools: dict[str, Any], in_config: bool, wanted: dict[str, Any]) -> None:
    found = body(model, response_format=wanted, messages=[{"role": "system", "content": "S"}, *USER], **tools)
    config = found.get("generationConfig", {})
    told = found["systemInstruction"]["parts"]
    assert ("responseMimeType" in config) is in_config
    assert ("responseJsonSchema" in config) is (in_config and wanted is SCHEMA)
    assert len(told) == (1 if in_config else 2)
    assert told[0] == {"text": "S"}
    assert in_config or "JSON" in told[1]["text"]


def test_the_schema_is_told_word_for_word() -> None:
    told = body(OLD, response_format=SCHEMA, tools=[function()])["systemInstruction"]["parts"][0]["text"]
    assert msgspec.json.decode(told.partition("\n")[2]) == SCHEMA["json_schema"]["schema"]
