"""LangChain's ChatOpenAI: tools over several turns, structured output three ways, streams with usage, pictures.

Needs the extra ``clients``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import openai
import pydantic
import pytest

from gemproxy.simulator import Simulator
from gemproxy.simulator.model import PIXEL
from tests.running import KEY, Running

langchain_openai = pytest.importorskip("langchain_openai", reason="needs the extra clients: langchain-openai")
messages = pytest.importorskip("langchain_core.messages")
tools = pytest.importorskip("langchain_core.tools")


class Book(pydantic.BaseModel):
    """A book in a library."""

    title: str
    pages: int
    tags: list[str]


@tools.tool
def get_weather(city: str, unit: Literal["C", "F"] = "C") -> str:
    """Weather by city."""
    return f"21 {unit} in {city}"


@tools.tool
def get_time(city: str) -> dict[str, Any]:
    """Local time by city."""
    return {"city": city, "hour": 9}


TOOLS = {"get_weather": get_weather, "get_time": get_time}


@pytest.fixture(params=["gemini-2.5-flash", "gemini-3.5-flash"])
async def chat(request: pytest.FixtureRequest, server: Running) -> AsyncIterator[Any]:
    # connections of its own: langchain keeps closed ones by the server's address, whose port may come again
    async with openai.DefaultAsyncHttpxClient(verify=False) as connections:
        with openai.DefaultHttpxClient(verify=False) as unused:
            yield langchain_openai.ChatOpenAI(
                model=request.param,
                base_url=f"{server.url}/v1",
                api_key=KEY,
                max_retries=0,
                stream_usage=True,
                http_client=unused,
                http_async_client=connections,
            )


async def talk(bound: Any, history: list[Any]) -> Any:
    """Ask until no tool is called any more; the history grows by all that was said."""
    while True:
        answer = await bound.ainvoke(history)
        history.append(answer)
        if not answer.tool_calls:
            return answer
        history += [await TOOLS[call["name"]].ainvoke(call) for call in answer.tool_calls]


async def test_tools_over_several_turns(chat: Any, simulator: Simulator) -> None:
    bound = chat.bind_tools([get_weather, get_time])
    history = [
        messages.SystemMessage("Be brief."),
        messages.HumanMessage("call get_weather and get_time then get_time"),
    ]
    answer = await talk(bound, history)
    assert "21 C in sample city" in answer.content
    history.append(messages.HumanMessage("Thank you. Now call get_weather"))
    answer = await talk(bound, history)
    assert "21 C" in answer.content
    assert [request.status for request in simulator.generations] == [200] * 5
    assert answer.usage_metadata["total_tokens"] > 0


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output(chat: Any, method: str) -> None:
    if method == "json_mode":  # no schema goes out: the answer is any JSON object
        answer = await chat.with_structured_output(None, method=method).ainvoke("JSON, please")
        assert isinstance(answer, dict)
        return
    answer = await chat.with_structured_output(Book, method=method).ainvoke("A book, please")
    assert isinstance(answer, Book)


async def test_a_stream_adds_up_with_usage(chat: Any) -> None:
    whole = None
    async for chunk in chat.astream("Good morning to everybody in the house"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert "Good morning" in whole.content
    assert whole.response_metadata["finish_reason"] == "stop"
    assert whole.usage_metadata["total_tokens"] > whole.usage_metadata["input_tokens"] > 0


async def test_a_streamed_call_adds_up(chat: Any) -> None:
    whole = None
    async for chunk in chat.bind_tools([get_weather, get_time]).astream("call get_weather and get_time"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert [(call["name"], call["args"]["city"]) for call in whole.tool_calls] == [
        ("get_weather", "sample city"),
        ("get_time", "sample city 1"),
    ]


async def test_a_picture_is_seen(chat: Any) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    content: list[Any] = [{"type": "text", "text": "What is it?"}, picture]
    answer = await chat.ainvoke([messages.HumanMessage(content)])
    assert "I see image/png" in answer.content


async def test_a_batch_of_questions(chat: Any) -> None:
    answers = await chat.abatch(["One", "Two", "Three"])
    assert [word in answer.content for word, answer in zip(("One", "Two", "Three"), answers, strict=True)] == [True] * 3
