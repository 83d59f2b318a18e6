"""pydantic-ai and LangChain on their Anthropic models: tools over several turns, typed output, streams with usage.

Needs the extra ``clients``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pydantic
import pytest

from gemproxy.simulator import Simulator
from tests.running import KEY, Running, configuration, running

# a part of it, since a folder of tests has the same name
pytest.importorskip("anthropic.types", reason="needs the extra clients: anthropic")
anthropic = pytest.importorskip("anthropic")
langchain_anthropic = pytest.importorskip("langchain_anthropic", reason="needs the extra clients: langchain-anthropic")
messages = pytest.importorskip("langchain_core.messages")
tools = pytest.importorskip("langchain_core.tools")
pydantic_ai = pytest.importorskip("pydantic_ai", reason="needs the extra clients: pydantic-ai-slim[anthropic]")
anthropic_models = pytest.importorskip("pydantic_ai.models.anthropic")
anthropic_provider = pytest.importorskip("pydantic_ai.providers.anthropic")

MODEL = "gemini-3.5-flash"
CLAUDE = "claude-opus-5-5"  # of a model that it does not know pydantic-ai asks for no schema


class Book(pydantic.BaseModel):
    """A book in a library."""

    title: str
    pages: int
    tags: list[str]


def get_weather(city: str) -> str:
    """Weather by city."""
    return f"21 C in {city}"


def get_time(city: str) -> dict[str, Any]:
    """Local time by city."""
    return {"city": city, "hour": 9}


@pytest.fixture
async def server(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Running]:
    aliases = f'[models.aliases]\n"claude-*" = "{MODEL}"\n'
    async with running(simulator, configuration(simulator, tmp_path, aliases)) as started:
        yield started


@pytest.fixture
async def client(server: Running) -> AsyncIterator[Any]:
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key=KEY, max_retries=0) as made:
        yield made


def agent(client: Any, model: str = MODEL, **options: Any) -> Any:
    provider = anthropic_provider.AnthropicProvider(anthropic_client=client)
    asked = anthropic_models.AnthropicModel(model, provider=provider)
    return pydantic_ai.Agent(asked, system_prompt="Be brief.", **options)


async def test_pydantic_ai_takes_tools_over_several_runs(client: Any, simulator: Simulator) -> None:
    guide = agent(client, tools=[get_weather, get_time], model_settings={"anthropic_thinking": {"type": "adaptive"}})
    first = await guide.run("call get_weather and get_time then get_weather, please")
    assert "21 C in sample city" in first.output
    second = await guide.run("Thank you. Now call get_time", message_history=first.all_messages())
    assert "hour" in second.output
    assert [request.status for request in simulator.generations] == [200] * 5
    assert first.usage.total_tokens > 0


async def test_pydantic_ai_gets_typed_output(client: Any) -> None:
    assert isinstance((await agent(client, output_type=Book).run("A book, please")).output, Book)
    schema = pydantic_ai.NativeOutput(Book)
    assert isinstance((await agent(client, CLAUDE, output_type=schema).run("A book, please")).output, Book)


async def test_pydantic_ai_streams_words_and_usage(client: Any) -> None:
    async with agent(client).run_stream("Good morning to everybody in the house") as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
        usage = run.usage
    assert "Good morning" in "".join(pieces)
    assert len(pieces) > 1
    assert usage.output_tokens > 0


@pytest.fixture
def chat(server: Running) -> Any:
    return langchain_anthropic.ChatAnthropic(
        model=MODEL, base_url=server.url, api_key=KEY, max_retries=0, max_tokens=4_000, temperature=0.5
    )


async def test_langchain_takes_tools_over_several_turns(chat: Any, simulator: Simulator) -> None:
    known = {tool.name: tool for tool in (tools.tool(get_weather), tools.tool(get_time))}
    bound = chat.bind_tools(list(known.values()))
    history = [
        messages.SystemMessage("Be brief."),
        messages.HumanMessage("call get_weather and get_time then get_time"),
    ]
    while True:
        answer = await bound.ainvoke(history)
        history.append(answer)
        if not answer.tool_calls:
            break
        history += [await known[call["name"]].ainvoke(call) for call in answer.tool_calls]
    assert "21 C in sample city" in str(answer.content)
    assert [request.status for request in simulator.generations] == [200] * 3


async def test_langchain_gets_typed_output(chat: Any) -> None:
    for method in ("function_calling", "json_schema"):
        assert isinstance(await chat.with_structured_output(Book, method=method).ainvoke("A book, please"), Book)


async def test_langchain_streams_words_and_usage(chat: Any) -> None:
    whole: Any = None
    async for chunk in chat.astream("Good morning to everybody in the house"):
        whole = chunk if whole is None else whole + chunk
    assert "Good morning" in str(whole.content)
    assert whole.usage_metadata["output_tokens"] > 0
