"""litellm with gemproxy as an OpenAI-compatible provider: tools over several turns, JSON, streams with usage, pictures.

Needs the extra ``clients-pinned``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pydantic
import pytest

from gemproxy.simulator import KeyState, Simulator
from gemproxy.simulator.model import PIXEL
from tests.running import KEY, Running

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it fetches a price list when it is imported
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # litellm's own, and those of what it imports
    litellm = pytest.importorskip("litellm", reason="needs the extra clients-pinned: litellm")
litellm.telemetry = False

# what pydantic has to say on litellm's classes, where they are used
pytestmark = [
    pytest.mark.filterwarnings("ignore:Items? '.*on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
]

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather by city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Book(pydantic.BaseModel):
    title: str
    pages: int
    tags: list[str]


@pytest.fixture(params=["gemini-2.5-flash", "gemini-3.5-flash"])
async def ask(request: pytest.FixtureRequest, server: Running) -> AsyncIterator[Any]:
    """Return ``acompletion`` bound to this server and a model."""

    async def complete(messages: list[Any], **options: Any) -> Any:
        given = {"model": f"openai/{request.param}", "api_base": f"{server.url}/v1", "api_key": KEY, "num_retries": 0}
        return await litellm.acompletion(messages=messages, **given, **options)

    yield complete
    await litellm.close_litellm_async_clients()


async def test_tools_over_several_turns(ask: Any, simulator: Simulator) -> None:
    messages: list[Any] = [{"role": "user", "content": "call get_weather then get_weather"}]
    for _ in range(2):
        answer = await ask(messages, tools=[WEATHER])
        assert answer.choices[0].finish_reason == "tool_calls"
        messages.append(answer.choices[0].message)
        for call in answer.choices[0].message.tool_calls:
            city = msgspec.json.decode(call.function.arguments)["city"]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"21 C in {city}"})
    answer = await ask(messages, tools=[WEATHER])
    assert "21 C in sample city" in answer.choices[0].message.content
    messages += [answer.choices[0].message, {"role": "user", "content": "Thank you"}]
    answer = await ask(messages, tools=[WEATHER])
    assert "Thank you" in answer.choices[0].message.content
    assert [request.status for request in simulator.generations] == [200] * 4


async def test_a_stream_adds_up_with_usage(ask: Any) -> None:
    messages = [{"role": "user", "content": "Good morning to everybody in the house"}]
    stream = await ask(messages, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    whole = litellm.stream_chunk_builder(chunks, messages=messages)
    assert "Good morning" in whole.choices[0].message.content
    assert whole.choices[0].message.reasoning_content
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0


async def test_a_streamed_call_adds_up(ask: Any) -> None:
    stream = await ask([{"role": "user", "content": "call get_weather"}], tools=[WEATHER], stream=True)
    whole = litellm.stream_chunk_builder([chunk async for chunk in stream])
    [call] = whole.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"sample city"}')
    assert whole.choices[0].finish_reason == "tool_calls"


async def test_typed_output(ask: Any) -> None:
    answer = await ask([{"role": "user", "content": "A book, please"}], response_format=Book)
    assert Book.model_validate_json(answer.choices[0].message.content).title == "sample title"


async def test_a_picture_is_seen(ask: Any) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    answer = await ask([{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}])
    assert "I see image/png" in answer.choices[0].message.content


async def test_errors_are_litellms_own_classes(ask: Any, simulator: Simulator) -> None:
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        await ask([{"role": "user", "content": "Hello"}], temperature=3.0)
    simulator.keys["test-key-1"] = KeyState.PER_MINUTE
    with pytest.raises(litellm.RateLimitError):
        await ask([{"role": "user", "content": "Hello"}])
