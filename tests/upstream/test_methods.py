"""Gemini's methods beside ``generateContent``, as each upstream is asked for them (docs/protocol.md 1.9, 2.3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.aim import aimed
from gemproxy.upstream.cause import Cause
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import GENERATES, Action, Body, Call, Dialect, Method, Scope, Token, Verdict
from gemproxy.upstream.vertex import Vertex
from gemproxy.wire.gemini import (
    Content,
    FunctionDeclaration,
    GenerateRequest,
    GenerationConfig,
    Part,
    SafetySetting,
    ToolSpec,
)
from gemproxy.wire.gemini_methods import EmbedBatch, EmbedRequest, PredictRequest

NOW = 1_795_377_600.0
STUDIO: Dialect = AiStudio("https://studio.test/v1beta", "gemproxy/test")
ASSIST: Dialect = CodeAssist("https://assist.test/v1internal", "gemproxy/test")
VERTEX: Dialect = Vertex("https://vertex.test/v1", "gemproxy/test")
TOKEN = Token("fake-token", "fake-project", "europe-west1")
ON_VERTEX = "https://vertex.test/v1/projects/fake-project/locations/europe-west1/publishers/google/models/"
HI = Content([Part(text="Hi")], "user")
WIRE_HI = {"parts": [{"text": "Hi"}], "role": "user"}


def ask(dialect: Dialect, method: Method, body: Body, model: str = "gemini-3.8-flash") -> tuple[str, Any]:
    request = dialect.ask(Call(method, model, body), TOKEN, NOW)
    return request.url, msgspec.json.decode(request.body)


def whole_request() -> GenerateRequest:
    tool = ToolSpec([FunctionDeclaration("f", "does", msgspec.Raw(b'{"type":"object"}'))])
    return GenerateRequest(
        [Content([Part(text="Hm.", thought=True), Part(text="Hello")], "model"), HI],
        Content([Part(text="Be brief.")]),
        [tool],
        safety_settings=[SafetySetting("HARM", "OFF")],
        generation_config=GenerationConfig(seed=7),
    )


def test_every_upstream_has_what_generates() -> None:
    assert all(dialect.methods >= GENERATES for dialect in (STUDIO, ASSIST, VERTEX))


def test_ai_studio_counts_a_whole_request_whose_model_is_named_once_more() -> None:
    url, sent = ask(STUDIO, "countTokens", whole_request())
    assert url == "https://studio.test/v1beta/models/gemini-3.8-flash:countTokens"
    counted = sent.pop("generateContentRequest")
    assert sent == {}
    assert counted.pop("model") == "models/gemini-3.8-flash"
    generated = msgspec.json.decode(
        STUDIO.ask(Call("generateContent", "gemini-3.8-flash", whole_request()), TOKEN, NOW).body
    )
    assert counted == generated


def test_vertex_counts_what_it_has_fields_for() -> None:
    url, sent = ask(VERTEX, "countTokens", whole_request())
    assert url == f"{ON_VERTEX}gemini-3.8-flash:countTokens"
    assert set(sent) == {"contents", "systemInstruction", "tools", "generationConfig"}


def test_code_assist_counts_contents_alone_so_all_is_said_in_them() -> None:
    url, sent = ask(ASSIST, "countTokens", whole_request())
    assert url == "https://assist.test/v1internal:countTokens"
    assert set(sent) == {"request"}
    request = sent["request"]
    assert set(request) == {"model", "contents"}
    assert request["model"] == "models/gemini-3.8-flash"
    system, tools, answer, last = request["contents"]
    assert system == {"parts": [{"text": "Be brief."}], "role": "user"}
    assert '"name":"f"' in tools["parts"][0]["text"]
    assert answer == {"parts": [{"text": "Hm."}, {"text": "Hello"}], "role": "model"}, "thoughts are plain text"
    assert last == WIRE_HI


def test_a_vector_is_asked_for_in_either_form() -> None:
    one = EmbedRequest(HI, "RETRIEVAL_QUERY", output_dimensionality=768)
    _, sent = ask(STUDIO, "embedContent", one, "gemini-embedding-2")
    assert sent == {"content": WIRE_HI, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 768}
    url, sent = ask(VERTEX, "embedContent", one, "gemini-embedding-2")
    assert url == f"{ON_VERTEX}gemini-embedding-2:embedContent"
    assert ask(VERTEX, "embedContent", EmbedRequest(HI))[1] == {"content": WIRE_HI}
    config = {"taskType": "RETRIEVAL_QUERY", "outputDimensionality": 768}
    assert sent == {"content": WIRE_HI, "embedContentConfig": config}


def test_a_batch_names_the_model_in_each_request() -> None:
    url, sent = ask(STUDIO, "batchEmbedContents", EmbedBatch([EmbedRequest(HI), EmbedRequest(HI, title="t")]), "e-1")
    assert url == "https://studio.test/v1beta/models/e-1:batchEmbedContents"
    assert sent == {
        "requests": [
            {"content": WIRE_HI, "model": "models/e-1"},
            {"content": WIRE_HI, "title": "t", "model": "models/e-1"},
        ]
    }


@pytest.mark.parametrize("dialect", [STUDIO, VERTEX])
def test_a_prediction_is_asked_for_as_it_is(dialect: Dialect) -> None:
    body = PredictRequest([msgspec.Raw(b'{"prompt":"a cat"}')], msgspec.Raw(b'{"sampleCount":2}'))
    url, sent = ask(dialect, "predict", body, "imagen-4")
    assert url.endswith("/models/imagen-4:predict")
    assert sent == {"instances": [{"prompt": "a cat"}], "parameters": {"sampleCount": 2}}
    assert set(ask(dialect, "predict", PredictRequest([]), "imagen-4")[1]) == {"instances"}


@pytest.mark.parametrize("cause", Cause)
def test_a_refusal_of_a_method_rests_that_method_alone(cause: Cause) -> None:
    call = Call("countTokens", "gemini-3.8-flash", whole_request())
    verdict = Verdict(Action.NEXT, Scope.MODEL, 60.0, "quota", cause=cause, limit=1)
    told = aimed(verdict, call)
    assert (told.kind, told.cause, told.action) == ("by countTokens", Cause.ANY, Action.NEXT)
    assert call.demand.kinds == ("by countTokens",)
    assert Call("generateContent", "gemini-3.8-flash", whole_request()).demand.kinds == ()
