"""The real ``openai`` package, sync and async, against the strict simulator: the main job, end to end."""

from __future__ import annotations

import asyncio
import base64
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pydantic
import pytest

from gemproxy.simulator import KeyState, Simulator, error_answer, frames_answer
from tests import openai_package as openai
from tests.folding import chunks, fold
from tests.running import KEY, Running, running

MODELS = ["gemini-2.5-flash", "gemini-3.5-flash"]
BOTH = pytest.mark.parametrize("model", MODELS)
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather by city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
async def server(simulator: Simulator) -> AsyncIterator[Running]:
    async with running(simulator) as started:
        yield started


def png() -> bytes:
    """Return a red pixel."""

    def block(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = block(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + block(b"IDAT", zlib.compress(b"\0\xff\0\0")) + block(b"IEND", b"")


@BOTH
async def test_async_client_unary_and_stream(server: Running, model: str) -> None:
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Good morning"}]
    async with server.openai() as client:
        answer = await client.chat.completions.create(model=model, messages=messages)
        assert answer.choices[0].finish_reason == "stop"
        assert "Good morning" in (answer.choices[0].message.content or "")
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        stream = await client.chat.completions.create(
            model=model, messages=messages, stream=True, stream_options={"include_usage": True}
        )
        text, usage = "", None
        async for chunk in stream:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            usage = chunk.usage or usage
    assert "Good morning" in text
    assert usage is not None
    assert usage.total_tokens > 0


@BOTH
async def test_sync_client_unary_and_stream(server: Running, model: str) -> None:
    def work() -> tuple[str | None, str]:
        plain = openai.DefaultHttpxClient(verify=False)
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, http_client=plain) as client:
            messages: Any = [{"role": "user", "content": "Good evening"}]
            answer = client.chat.completions.create(model=model, messages=messages)
            stream = client.chat.completions.create(model=model, messages=messages, stream=True)
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            assert {known.id for known in client.models.list()} >= {"gemini-2.5-pro"}
            return answer.choices[0].message.content, streamed

    unary, streamed = await asyncio.to_thread(work)
    assert unary == streamed
    assert "Good evening" in streamed


@BOTH
@pytest.mark.parametrize("keeps", [True, False], ids=["keeps unknown fields", "drops unknown fields"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_tools_over_two_turns(server: Running, model: str, keeps: bool, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "call get_weather for Oslo"}]
    async with server.openai() as client:
        calls = await _calls(client, model, messages, stream)
        assert [call["function"]["name"] for call in calls] == ["get_weather"]
        if not keeps:
            calls = [{key: call[key] for key in ("id", "type", "function")} for call in calls]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": '{"celsius": 21}'} for call in calls]
        answer = await client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
        assert answer.choices[0].finish_reason == "stop"
        assert "21" in (answer.choices[0].message.content or "")
        messages += [answer.choices[0].message.model_dump(), {"role": "user", "content": "Thanks"}]
        answer = await client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
        assert "Thanks" in (answer.choices[0].message.content or "")


async def _calls(client: openai.AsyncOpenAI, model: str, messages: Any, stream: bool) -> list[dict[str, Any]]:
    if not stream:
        answer = await client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.choices[0].message.tool_calls is not None
        return [call.model_dump(exclude_none=True) for call in answer.choices[0].message.tool_calls]
    tool: Any = WEATHER | {"function": WEATHER["function"] | {"strict": True}}  # openai 3.0 streams no other
    async with client.chat.completions.stream(model=model, messages=messages, tools=[tool]) as events:
        final = await events.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls is not None
    calls = [call.model_dump(exclude_none=True) for call in final.choices[0].message.tool_calls]
    for call in calls:
        call["function"].pop("parsed_arguments", None)
        call.pop("index", None)
    return calls


@BOTH
async def test_image_data_url_reaches_the_model(server: Running, simulator: Simulator, model: str) -> None:
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    content: Any = [{"type": "text", "text": "What colour?"}, {"type": "image_url", "image_url": {"url": url}}]
    async with server.openai() as client:
        answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])
    assert answer.choices[0].finish_reason == "stop"
    parts = simulator.generations[0].json()["contents"][0]["parts"]
    assert parts[1]["inlineData"] == {"mimeType": "image/png", "data": base64.b64encode(png()).decode()}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_a_draft_of_a_picture_is_not_shown_and_not_sent_back(
    server: Running, simulator: Simulator, stream: bool
) -> None:
    picture, question = base64.b64encode(png()).decode(), {"role": "user", "content": "Draw."}
    parts: list[Any] = [
        {"text": "A first try.", "thought": True},
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}, "thought": True},
        {"inlineData": {"mimeType": "image/png", "data": picture}, "thoughtSignature": "c2ln"},
    ]
    simulator.script(frames_answer([{"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}]))
    body = {"model": "gemini-3-pro-image", "messages": [question], "stream": stream}
    status, told = await server.post("/v1/chat/completions", body)
    answer = fold(chunks(told)) if stream else msgspec.json.decode(told)
    message = answer["choices"][0]["message"]
    assert (status, message["reasoning_content"]) == (200, "A first try.")
    assert [image["image_url"]["url"] for image in message["images"]] == [f"data:image/png;base64,{picture}"]
    await server.post("/v1/chat/completions", body | {"messages": [question, message, question]})
    sent = simulator.generations[1].json()["contents"][1]["parts"]
    assert [part["inlineData"]["data"] for part in sent] == [picture]


class Book(pydantic.BaseModel):
    """A schema as pydantic users write it."""

    title: str
    pages: int
    tags: list[str]


@BOTH
async def test_structured_output_is_parsed_by_the_sdk(server: Running, model: str) -> None:
    async with server.openai() as client:
        answer = await client.chat.completions.parse(
            model=model, messages=[{"role": "user", "content": "A book, please"}], response_format=Book
        )
    assert isinstance(answer.choices[0].message.parsed, Book)


async def test_errors_are_the_sdks_own_classes(server: Running, simulator: Simulator) -> None:
    messages: Any = [{"role": "user", "content": "Hello"}]
    async with server.openai() as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="gpt-4o", messages=messages)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model=MODELS[0], messages=[])
        assert bad.value.param == "messages"
        simulator.script(error_answer(503, "The model is overloaded."), times=3)
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model=MODELS[0], messages=messages)
        simulator.keys["test-key-1"] = KeyState.PER_MINUTE
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model=MODELS[0], messages=messages)
        assert limited.value.code == "rate_limit_exceeded"


async def test_failure_in_mid_stream_raises_in_the_client(server: Running, simulator: Simulator) -> None:
    simulator.script(frames_answer([{"candidates": [{"content": {"parts": [{"text": "Half"}]}}]}]))
    got = ""
    async with server.openai() as client:
        stream = await client.chat.completions.create(
            model=MODELS[0], messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        with pytest.raises(openai.APIError, match="before the answer was complete"):
            async for chunk in stream:
                got += chunk.choices[0].delta.content or ""
    assert got == "Half"


async def test_all_fields_of_the_reference_api_work(server: Running, simulator: Simulator) -> None:
    body = {
        "model": "gemini-2.5-flash",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": False,
        "max_tokens": 4000,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop": ["END"],
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": None,
        "response_format": {"type": "json_object"},
        "thinking_budget": 1024,
        "reasoning_effort": None,
        "tools": None,
        "tool_choice": None,
    }
    status, _ = await server.post("/v1/chat/completions", body)
    assert status == 200
    assert simulator.generations[0].json()["generationConfig"] == {
        "temperature": 0.7,
        "topP": 0.9,
        "maxOutputTokens": 4000,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 1024},
    }
