"""What the simulated model says: echo, thoughts, limits, calls, JSON, media."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import jsonschema
import msgspec
import pytest

from gemproxy.simulator.model import PIXEL
from tests.simulator.asking import (
    FLASH,
    OLD_FLASH,
    PRO,
    call,
    declare,
    frames,
    google,
    model,
    parts,
    post,
    read,
    result,
    results,
    spoken,
    user,
)

LITE = "gemini-2.5-flash-lite"


def config(**fields: Any) -> dict[str, Any]:
    return {"generationConfig": fields}


def thoughts(answer: Any) -> int:
    count: int = read(answer)["usageMetadata"].get("thoughtsTokenCount", 0)
    return count


def test_text_is_echoed_with_what_else_was_seen() -> None:
    body = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Look"}, {"fileData": {"mimeType": "image/png", "fileUri": "gs://a"}}]}
        ],
    }
    assert spoken(post(google(), body)) == (
        "Hello from the simulated Gemini. You said: Look I see image/png. I keep to this: Be brief."
    )


def test_same_request_gets_the_same_words() -> None:
    assert spoken(post(google(), {"contents": [user()]})) == spoken(post(google(), {"contents": [user()]}))


# ------------------------------------------------------------------------------------------------ thinking

COST: list[tuple[str, dict[str, Any] | None, int]] = [
    (FLASH, None, 32),
    (FLASH, {"thinkingLevel": "LOW"}, 16),
    (FLASH, {"thinkingLevel": "HIGH"}, 64),
    ("gemini-3.5-flash", {"thinkingLevel": "MINIMAL"}, 2),
    ("gemini-3.5-flash", {"thinkingBudget": 0}, 0),
    (OLD_FLASH, None, 32),
    (OLD_FLASH, {"thinkingBudget": 0}, 0),
    (OLD_FLASH, {"thinkingBudget": 5}, 5),
    (OLD_FLASH, {"thinkingBudget": -1}, 32),
    (LITE, None, 0),
    (LITE, {"thinkingBudget": 512}, 32),
    ("gemini-2.5-flash-image", None, 0),
]


@pytest.mark.parametrize(("name", "thinking", "cost"), COST)
def test_thinking_costs_what_level_and_budget_say(name: str, thinking: dict[str, Any] | None, cost: int) -> None:
    extra = config(thinkingConfig=thinking) if thinking else {}
    assert thoughts(post(google(), {"contents": [user()], **extra}, name=name)) == cost


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
def test_thoughts_are_shown_only_when_asked_for(method: str) -> None:
    def shown(**thinking: Any) -> list[bool]:
        body = {"contents": [user()], **config(thinkingConfig=thinking)}
        answer = post(google(), body, method=method)
        found = frames(answer) if method != "generateContent" else [read(answer)]
        return [part.get("thought", False) for frame in found for part in parts(frame)]

    assert shown(includeThoughts=True)[0] is True
    assert True not in shown(thinkingLevel="HIGH")


def test_small_limit_is_eaten_by_thinking() -> None:
    frame = read(post(google(), {"contents": [user()], **config(maxOutputTokens=13)}))
    assert frame["candidates"] == [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}]
    assert frame["usageMetadata"]["thoughtsTokenCount"] == 13
    assert "candidatesTokenCount" not in frame["usageMetadata"]


def test_limit_cuts_the_text_after_the_thoughts() -> None:
    frame = read(post(google(), {"contents": [user()], **config(maxOutputTokens=35)}))
    assert parts(frame)[0]["text"] == "Hello from the"
    assert frame["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert frame["usageMetadata"]["candidatesTokenCount"] == 3


def test_stop_sequence_ends_the_text_before_it() -> None:
    frame = read(post(google(), {"contents": [user()], **config(stopSequences=["absent", " simulated"])}))
    assert parts(frame)[0]["text"] == "Hello from the"
    assert frame["candidates"][0]["finishReason"] == "STOP"


def test_several_candidates_are_told_apart() -> None:
    body = {"contents": [user()], **config(candidateCount=3)}
    unary = read(post(google(), body, name=PRO))
    assert [candidate["index"] for candidate in unary["candidates"]] == [0, 1, 2]
    assert unary["candidates"][2]["content"]["parts"][0]["text"].endswith("(take 3)")
    stream = frames(post(google(), body, name=PRO, method="streamGenerateContent"))
    assert {frame["candidates"][0]["index"] for frame in stream} == {0, 1, 2}
    assert sum(1 for frame in stream if "finishReason" in frame["candidates"][0]) == 3


# ------------------------------------------------------------------------------------------------ calls


def called(body: dict[str, Any], **how: Any) -> list[str]:
    return [part["functionCall"]["name"] for part in parts(read(post(google(), body, **how))) if "functionCall" in part]


PLANS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("please call f", {}, ["f"]),
    ("call f and g", {}, ["f", "g"]),
    ("call g, f and g", {}, ["g", "f", "g"]),
    ("call f then g", {}, ["f"]),
    ("use the tool", {}, ["f"]),
    ("use the tools, please", {}, ["f"]),
    ("call longer_f", {}, ["longer_f"]),
    ("call nobody", {}, []),
    ("f and g are letters", {}, []),
    ("recall f", {}, []),
    ("call f", {"mode": "NONE"}, []),
    ("Hi", {"mode": "ANY"}, ["f"]),
    ("Hi", {"mode": "ANY", "allowedFunctionNames": ["g"]}, ["g"]),
    ("call f", {"mode": "ANY", "allowedFunctionNames": ["g"]}, ["g"]),
    ("Hi", {"mode": "VALIDATED"}, []),
    ("Hi", {"mode": "AUTO"}, []),
]


@pytest.mark.parametrize(("text", "choice", "names"), PLANS)
def test_functions_are_called_when_the_text_or_the_mode_says_so(
    text: str, choice: dict[str, Any], names: list[str]
) -> None:
    body: dict[str, Any] = {"contents": [user(text)], "tools": declare("f", "g", "longer_f")}
    if choice:
        body["toolConfig"] = {"functionCallingConfig": choice}
    assert called(body) == names


@pytest.mark.parametrize("route", ["parameters", "parametersJsonSchema"])
def test_arguments_fit_the_declared_schema(route: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}, "required": ["n"]}
    body = {"contents": [user("call f")], "tools": declare("f", **{route: schema})}
    jsonschema.validate(parts(read(post(google(), body)))[0]["functionCall"]["args"], schema)


def test_ids_come_with_gemini_3_but_not_on_vertex_and_never_repeat() -> None:
    body = {"contents": [user("call f and f")], "tools": declare("f")}
    target = google()
    found = [parts(read(post(target, body)))[number]["functionCall"]["id"] for number in (0, 1)]
    assert len(set(found)) == 2
    assert "id" not in parts(read(post(target, body, name=OLD_FLASH)))[0]["functionCall"]
    assert "id" not in parts(read(post(target, body, upstream="vertex")))[0]["functionCall"]


@pytest.mark.parametrize(("text", "rows"), [("call f and g", [2]), ("call f and g, spread", [1, 1])])
def test_parallel_calls_come_in_one_frame_or_spread(text: str, rows: list[int]) -> None:
    body = {"contents": [user(text)], "tools": declare("f", "g")}
    stream = frames(post(google(), body, method="streamGenerateContent"))
    calls = [parts(frame) for frame in stream if any("functionCall" in part for part in parts(frame))]
    assert [len(row) for row in calls] == rows
    flat = [part for row in calls for part in row]
    assert "thoughtSignature" in flat[0]
    assert "thoughtSignature" not in flat[1]


def test_calls_of_older_models_finish_in_the_same_frame() -> None:
    body = {"contents": [user("call f")], "tools": declare("f")}
    (frame,) = frames(post(google(), body, name=OLD_FLASH, method="streamGenerateContent"))
    assert frame["candidates"][0]["finishReason"] == "STOP"
    assert frame["candidates"][0]["finishMessage"] == "Model generated function call(s)."


def test_results_are_quoted() -> None:
    body = {
        "contents": [user("call f"), model(call("f", "skip_thought_signature_validator")), results(result("f"))],
        "tools": declare("f"),
    }
    assert spoken(post(google(), body)) == 'The tools answered. f: {"output":1}'


def test_then_makes_a_second_step() -> None:
    first = [user("call f then g"), model(call("f", "skip_thought_signature_validator")), results(result("f"))]
    body: dict[str, Any] = {"contents": first, "tools": declare("f", "g")}
    assert called(body) == ["g"]
    body["contents"] = [*first, model(call("g", "skip_thought_signature_validator")), results(result("g"))]
    assert called(body) == []
    assert "g: " in spoken(post(google(), body))


# ------------------------------------------------------------------------------------------------ other kinds

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.parametrize("key", ["responseJsonSchema", "_responseJsonSchema", "responseSchema"])
def test_json_fits_its_schema(key: str) -> None:
    body = {"contents": [user()], **config(responseMimeType="application/json", **{key: SCHEMA})}
    jsonschema.validate(msgspec.json.decode(spoken(post(google(), body))), SCHEMA)


def test_json_without_a_schema_holds_the_question() -> None:
    body = {"contents": [user("Why?")], **config(responseMimeType="application/json")}
    assert msgspec.json.decode(spoken(post(google(), body))) == {"answer": "Why?"}


def test_enum_answer_is_one_of_its_words() -> None:
    schema = {"type": "STRING", "enum": ["yes", "no"]}
    body = {"contents": [user()], **config(responseMimeType="text/x.enum", responseSchema=schema)}
    assert spoken(post(google(), body)) == "yes"


def test_image_models_paint_when_asked_for_images() -> None:
    body = {"contents": [user()], **config(responseModalities=["TEXT", "IMAGE"])}
    found = parts(read(post(google(), body, name="gemini-2.5-flash-image")))
    assert found[1]["inlineData"]["mimeType"] == "image/png"
    assert "inlineData" not in parts(read(post(google(), {"contents": [user()]}, name="gemini-2.5-flash-image")))[0]


def test_the_picture_is_one_that_strict_readers_open() -> None:
    rest = base64.b64decode(PIXEL)[8:]
    while rest:
        size = int.from_bytes(rest[:4])
        chunk, check, rest = rest[4 : 8 + size], rest[8 + size : 12 + size], rest[12 + size :]
        assert zlib.crc32(chunk) == int.from_bytes(check), chunk[:4]


def test_search_gives_grounding_in_bytes() -> None:
    body = {"contents": [user("Où?")], "tools": [{"googleSearch": {}}]}
    candidate = read(post(google(), body))["candidates"][0]
    text = candidate["content"]["parts"][0]["text"].encode()
    segment = candidate["groundingMetadata"]["groundingSupports"][0]["segment"]
    assert text[segment["startIndex"] : segment["endIndex"]].decode() == segment["text"]
    assert segment["startIndex"] == len("Café guide: ") + 1


@pytest.mark.parametrize("top", [0, 2])
def test_logprobs_cover_the_text(top: int) -> None:
    body = {"contents": [user()], **config(responseLogprobs=True, logprobs=top)}
    candidate = read(post(google(), body, name=OLD_FLASH, upstream="vertex"))["candidates"][0]
    tokens = [each["token"] for each in candidate["logprobsResult"]["chosenCandidates"]]
    assert "".join(tokens) == candidate["content"]["parts"][0]["text"]
    assert ("topCandidates" in candidate["logprobsResult"]) == bool(top)
