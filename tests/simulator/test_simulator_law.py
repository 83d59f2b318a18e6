"""What Google refuses in contents: a row per rule, with status and words."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.simulator.asking import FLASH, call, google, model, post, read, refused, result, user

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n....").decode()


def media(kind: str, data: str = PNG) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": kind, "data": data}}]}]}


BAD = {
    "no contents": ({}, "* GenerateContentRequest.contents: contents is not specified\n"),
    "empty contents": ({"contents": []}, "* GenerateContentRequest.contents: contents is not specified\n"),
    "a content without parts": (
        {"contents": [{"role": "user"}]},
        "* GenerateContentRequest.contents[0].parts: contents.parts must not be empty.\n",
    ),
    "an OpenAI role": (
        {"contents": [{"role": "assistant", "parts": [{"text": "a"}]}]},
        "Please use a valid role: user, model.",
    ),
    "the system role": (
        {"contents": [{"role": "system", "parts": [{"text": "a"}]}]},
        "Please use a valid role: user, model.",
    ),
    "a part without data": (
        {"contents": [{"role": "user", "parts": [{"thought": True}]}]},
        (
            "* GenerateContentRequest.contents[0].parts[0].data: required oneof field 'data' must have one initialized "
            "field\n"
        ),
    ),
    "a system part without data": (
        {"contents": [user()], "systemInstruction": {"parts": [{}]}},
        (
            "* GenerateContentRequest.system_instruction.parts[0].data: required oneof field 'data' must have one "
            "initialized field\n"
        ),
    ),
    "a call without a name": (
        {"contents": [user(), model({"functionCall": {"args": {}}})]},
        "* GenerateContentRequest.contents[1].parts[0].function_call.name: Name cannot be empty.\n",
    ),
    "a result without a name": (
        {"contents": [user(), model(call()), {"role": "user", "parts": [{"functionResponse": {"response": {}}}]}]},
        "* GenerateContentRequest.contents[2].parts[0].function_response.name: Name cannot be empty.\n",
    ),
    "a gif": (media("image/gif"), "Unsupported MIME type: image/gif"),
    "a jpg instead of a jpeg": (media("image/jpg"), "Unsupported MIME type: image/jpg"),
    "a drawing": (media("image/svg+xml"), "Unsupported MIME type: image/svg+xml"),
    "media of no type": (media(""), "Unsupported MIME type: "),
    "an image that is none": (
        media("image/png", base64.b64encode(b"not an image").decode()),
        (
            "Unable to process input image. Please retry or report in "
            "https://developers.generativeai.google/guide/troubleshooting"
        ),
    ),
    "an image in a result that is none": (
        {
            "contents": [
                user(),
                model(call()),
                {"role": "user", "parts": [result(parts=[{"inlineData": {"mimeType": "image/tiff", "data": PNG}}])]},
            ]
        },
        "Unsupported MIME type: image/tiff",
    ),
    "a file on this disk": (
        {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": "file:///etc/passwd"}}]}]},
        "Invalid or unsupported file uri: file:///etc/passwd",
    ),
    "cached content together with a system text": (
        {"contents": [user()], "cachedContent": "cachedContents/1", "systemInstruction": {"parts": [{"text": "a"}]}},
        "CachedContent can not be used with GenerateContent request setting system_instruction, tools or tool_config.",
    ),
    "more words than the model reads": (
        {"contents": [user("a " * 1_048_577)]},
        "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
    ),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD.keys())
def test_unlawful_content_is_refused(body: dict[str, Any], message: str) -> None:
    assert refused(post(google(), body)) == (400, message)


ON_VERTEX = {
    "no contents": ({}, "at least one contents field is required"),
    "a content without parts": ({"contents": [{"role": "user", "parts": []}]}, "at least one parts field"),
    "an empty text": ({"contents": [user(""), user("a")]}, "it must have a text parameter"),
    "no role": ({"contents": [{"parts": [{"text": "a"}]}]}, "Please use a valid role: user, model."),
}


@pytest.mark.parametrize("upstream", ["vertex", "code_assist"])
@pytest.mark.parametrize(("body", "words"), ON_VERTEX.values(), ids=ON_VERTEX.keys())
def test_vertex_has_words_of_its_own(body: dict[str, Any], words: str, upstream: str) -> None:
    status, message = refused(post(google(), body, upstream=upstream))
    assert status == 400
    assert words in message


def test_gemma_3_takes_no_system_text() -> None:
    target = google()
    target.allow_models.add("gemma-3-27b-it")
    body = {"contents": [user()], "systemInstruction": {"parts": [{"text": "a"}]}}
    message = "Developer instruction is not enabled for models/gemma-3-27b-it"
    assert refused(post(target, body, name="gemma-3-27b-it")) == (400, message)


LAWFUL = {
    "no role": {"contents": [{"parts": [{"text": "a"}]}]},
    "an empty text": {"contents": [user("")]},
    "a png": media("image/png"),
    "a jpeg": media("image/jpeg", base64.b64encode(b"\xff\xd8\xff\xe0").decode()),
    "a recording": media("audio/wav"),
    "a film": media("video/mp4"),
    "a paper": media("application/pdf"),
    "a text file with a charset": media("text/plain; charset=utf-8"),
    "a file of Google's": {"contents": [{"parts": [{"fileData": {"fileUri": "https://x.example/files/1"}}]}]},
    "cached content alone": {"contents": [user()], "cachedContent": "cachedContents/1"},
    "safety settings": {
        "contents": [user()],
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
    },
}


@pytest.mark.parametrize("body", LAWFUL.values(), ids=LAWFUL.keys())
def test_lawful_content_is_answered(body: dict[str, Any]) -> None:
    answer = post(google(), body)
    assert answer.status == 200
    assert read(answer)["modelVersion"] == FLASH


def test_signed_empty_text_is_lawful_on_vertex() -> None:
    target = google()
    target.accept_any_signature = True
    body = {"contents": [user(), model({"text": "", "thoughtSignature": "QUJD"}), user("more")]}
    assert post(target, body, upstream="vertex").status == 200
