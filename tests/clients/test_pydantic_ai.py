"""pydantic-ai on its OpenAI chat model: tools over several runs, output by tool and by schema, streams, pictures.

Needs the extra ``clients``.
"""

from __future__ import annotations

import base64
from typing import Any, Literal

import pydantic
import pytest

from gemproxy.simulator import Simulator
from gemproxy.simulator.model import PIXEL
from tests import openai_package as openai

pydantic_ai = pytest.importorskip("pydantic_ai", reason="needs the extra clients: pydantic-ai-slim[openai]")
openai_models = pytest.importorskip("pydantic_ai.models.openai")
openai_provider = pytest.importorskip("pydantic_ai.providers.openai")

BOTH = pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.5-flash"])


class Book(pydantic.BaseModel):
    title: str
    pages: int
    tags: list[str]


def get_weather(city: str, unit: Literal["C", "F"] = "C") -> str:
    """Weather by city."""
    return f"21 {unit} in {city}"


def get_time(city: str) -> dict[str, Any]:
    """Local time by city."""
    return {"city": city, "hour": 9}


def agent(openai_client: openai.AsyncOpenAI, model: str, **options: Any) -> Any:
    provider = openai_provider.OpenAIProvider(openai_client=openai_client)
    chat = openai_models.OpenAIChatModel(model, provider=provider)
    return pydantic_ai.Agent(chat, system_prompt="Be brief.", **options)


@BOTH
async def test_tools_over_several_runs(openai_client: openai.AsyncOpenAI, simulator: Simulator, model: str) -> None:
    guide = agent(openai_client, model, tools=[get_weather, get_time])
    first = await guide.run("call get_weather and get_time then get_weather, please")
    assert "21 C in sample city" in first.output
    second = await guide.run("Thank you. Now call get_time", message_history=first.all_messages())
    assert "hour" in second.output
    assert [request.status for request in simulator.generations] == [200] * 5
    assert first.usage.total_tokens > 0


@BOTH
async def test_output_by_a_tool(openai_client: openai.AsyncOpenAI, model: str) -> None:
    result = await agent(openai_client, model, output_type=Book).run("A book, please")
    assert isinstance(result.output, Book)


@BOTH
async def test_output_by_a_tool_beside_tools(openai_client: openai.AsyncOpenAI, model: str) -> None:
    result = await agent(openai_client, model, output_type=Book, tools=[get_weather]).run(
        "call get_weather then final_result"
    )
    assert isinstance(result.output, Book)


@BOTH
async def test_output_by_a_schema(openai_client: openai.AsyncOpenAI, simulator: Simulator, model: str) -> None:
    result = await agent(openai_client, model, output_type=pydantic_ai.NativeOutput(Book)).run("A book, please")
    assert isinstance(result.output, Book)
    assert "responseJsonSchema" in simulator.generations[0].json()["generationConfig"]


@BOTH
async def test_a_streamed_run_tells_words_and_usage(openai_client: openai.AsyncOpenAI, model: str) -> None:
    async with agent(openai_client, model).run_stream("Good morning to everybody in the house") as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
        usage = run.usage
    assert "Good morning" in "".join(pieces)
    assert len(pieces) > 1
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


@BOTH
async def test_a_streamed_run_with_tools(openai_client: openai.AsyncOpenAI, model: str) -> None:
    async with agent(openai_client, model, tools=[get_weather]).run_stream("call get_weather for Oslo") as run:
        output = await run.get_output()
    assert "21 C" in output


@BOTH
async def test_a_picture_is_seen(openai_client: openai.AsyncOpenAI, model: str) -> None:
    picture = pydantic_ai.BinaryContent(base64.b64decode(PIXEL), media_type="image/png")
    result = await agent(openai_client, model).run(["What is it?", picture])
    assert "I see image/png" in result.output


@BOTH
async def test_thoughts_come_as_thinking(openai_client: openai.AsyncOpenAI, model: str) -> None:
    result = await agent(openai_client, model).run("Think about it")
    kinds = [part.part_kind for part in result.new_messages()[-1].parts]
    assert kinds == ["thinking", "text"]
