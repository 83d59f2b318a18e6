"""The OpenAI Agents SDK on chat completions: agents with tools, hand-offs, typed output, streams and pictures.

Needs the extra ``clients``.
"""

from __future__ import annotations

from typing import Any, Literal

import pydantic
import pytest

from gemproxy.simulator import Simulator
from gemproxy.simulator.model import PIXEL
from tests import openai_package as openai

agents = pytest.importorskip("agents", reason="needs the extra clients: openai-agents")
agents.set_tracing_disabled(True)  # it would report to OpenAI

BOTH = pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.5-flash"])


class Book(pydantic.BaseModel):
    title: str
    pages: int
    tags: list[str]


@agents.function_tool
def get_weather(city: str, unit: Literal["C", "F"] = "C") -> str:
    """Weather by city."""
    return f"21 {unit} in {city}"


@agents.function_tool
def get_time(city: str) -> dict[str, Any]:
    """Local time by city."""
    return {"city": city, "hour": 9}


def agent(openai_client: openai.AsyncOpenAI, model: str, **options: Any) -> Any:
    chat = agents.OpenAIChatCompletionsModel(model=model, openai_client=openai_client)
    return agents.Agent(**{"name": "guide", "instructions": "Be brief.", "model": chat} | options)


@BOTH
async def test_tools_over_several_turns(openai_client: openai.AsyncOpenAI, simulator: Simulator, model: str) -> None:
    guide = agent(openai_client, model, tools=[get_weather, get_time])
    first = await agents.Runner.run(guide, "call get_weather and get_time then get_weather, please")
    assert "21 C in sample city" in first.final_output
    assert len(simulator.generations) == 3
    more = [*first.to_input_list(), {"role": "user", "content": "Thank you. Now call get_time"}]
    second = await agents.Runner.run(guide, more)
    assert "hour" in second.final_output
    assert [request.status for request in simulator.generations] == [200] * 5
    assert second.context_wrapper.usage.total_tokens > 0


@BOTH
async def test_a_streamed_run_tells_words_calls_and_usage(openai_client: openai.AsyncOpenAI, model: str) -> None:
    run = agents.Runner.run_streamed(agent(openai_client, model, tools=[get_weather]), "call get_weather for Oslo")
    text, names = "", []
    async for event in run.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text += event.data.delta
        elif event.type == "run_item_stream_event":
            names.append(event.name)
    assert "21 C" in text
    assert text == run.final_output
    assert [name for name in names if "tool" in name] == ["tool_called", "tool_output"]
    assert run.context_wrapper.usage.requests == 2


@BOTH
async def test_typed_output_is_parsed(openai_client: openai.AsyncOpenAI, simulator: Simulator, model: str) -> None:
    result = await agents.Runner.run(agent(openai_client, model, output_type=Book), "A book, please")
    assert isinstance(result.final_output, Book)
    assert simulator.generations[0].json()["generationConfig"]["responseMimeType"] == "application/json"


async def test_typed_output_beside_tools(openai_client: openai.AsyncOpenAI) -> None:
    guide = agent(openai_client, "gemini-3.5-flash", output_type=Book, tools=[get_weather])
    result = await agents.Runner.run(guide, "call get_weather for Oslo, then write a book")
    assert isinstance(result.final_output, Book)


@BOTH
async def test_a_hand_off_to_another_agent(openai_client: openai.AsyncOpenAI, model: str) -> None:
    poet = agent(openai_client, model, name="poet", instructions="Speak in verse.")
    guide = agent(openai_client, model, handoffs=[poet])
    result = await agents.Runner.run(guide, "call transfer_to_poet")
    assert result.last_agent.name == "poet"
    assert "Speak in verse." in result.final_output or "The tools answered" in result.final_output


@BOTH
async def test_a_picture_is_seen(openai_client: openai.AsyncOpenAI, simulator: Simulator, model: str) -> None:
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
    content = [{"type": "input_text", "text": "What is it?"}, picture]
    result = await agents.Runner.run(agent(openai_client, model), [{"role": "user", "content": content}])
    assert "I see image/png" in result.final_output
    [turn] = simulator.generations[0].json()["contents"]
    assert turn["parts"][1]["inlineData"]["data"] == PIXEL
