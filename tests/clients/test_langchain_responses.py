"""LangChain's ChatOpenAI on Responses: tools over many steps in each form of messages, structured output three ways,
streams, search, pictures, and answers that were cut or failed.

Needs the extra ``clients``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import openai
import pydantic
import pytest

from gemproxy.simulator import Reset, Simulator, frames_answer
from gemproxy.simulator.model import PIXEL
from tests.clients.test_signature_journeys import ASKED, NAMES, STEPS, signed, statuses
from tests.running import KEY, Running

langchain_openai = pytest.importorskip("langchain_openai", reason="needs the extra clients: langchain-openai")
messages = pytest.importorskip("langchain_core.messages")
tools = pytest.importorskip("langchain_core.tools")

SEALED = {"store": False, "include": ["reasoning.encrypted_content"]}
FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
Chat = Callable[..., Any]


class Book(pydantic.BaseModel):
    """A book in a library."""

    title: str
    pages: int
    tags: list[str]


def tool(name: str) -> Any:
    def work(what: str) -> str:
        return f"{name} did {what}"

    return tools.StructuredTool.from_function(work, name=name, description="Works.")


TOOLS = {name: tool(name) for name in NAMES}


@pytest.fixture(params=["gemini-2.5-flash", "gemini-3.5-flash"])
async def chat(request: pytest.FixtureRequest, server: Running) -> AsyncIterator[Chat]:
    """Return what makes a model with these options."""
    async with AsyncExitStack() as stack:
        # connections of its own: langchain keeps closed ones by the server's address, whose port may come again
        given = {
            "model": request.param,
            "base_url": f"{server.url}/v1",
            "api_key": KEY,
            "max_retries": 0,
            "http_client": stack.enter_context(openai.DefaultHttpxClient(verify=False)),
            "http_async_client": await stack.enter_async_context(openai.DefaultAsyncHttpxClient(verify=False)),
        }
        yield partial(langchain_openai.ChatOpenAI, use_responses_api=True, **given)


async def added(stream: AsyncIterator[Any]) -> Any:
    whole: Any = None
    async for chunk in stream:
        whole = chunk if whole is None else whole + chunk
    return whole


async def talk(bound: Any, history: list[Any], *, stream: bool) -> Any:
    """Ask until no tool is called any more; the history grows by all that was said."""
    while True:
        answer = await (added(bound.astream(history)) if stream else bound.ainvoke(history))
        history.append(answer)
        if not answer.tool_calls:
            return answer
        history += [await TOOLS[call["name"]].ainvoke(call) for call in answer.tool_calls]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
@pytest.mark.parametrize(
    ("options", "carried"),
    [
        pytest.param({}, False, id="as it comes"),
        pytest.param(SEALED | {"reasoning": {"effort": "low", "summary": "auto"}}, True, id="thoughts sealed"),
        pytest.param({"use_previous_response_id": True}, True, id="the previous response named"),
    ],
)
async def test_five_steps_and_a_second_question(
    chat: Chat,
    server: Running,
    simulator: Simulator,
    stream: bool,
    version: str,
    options: dict[str, Any],
    carried: bool,
) -> None:
    if carried:
        server.forget_signatures()
    bound = chat(output_version=version, **options).bind_tools(list(TOOLS.values()))
    history = [messages.SystemMessage("Be brief."), messages.HumanMessage(ASKED)]
    answer = await talk(bound, history, stream=stream)
    assert "beta did sample what" in answer.text
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(STEPS + 1)]
    history.append(messages.HumanMessage("Thank you"))
    answer = await talk(bound, history, stream=stream)
    assert "Thank you" in answer.text
    assert statuses(simulator) == [200] * (STEPS + 2)
    assert len(simulator.generations[-1].json()["contents"]) == 2 * STEPS + 3
    assert answer.usage_metadata["total_tokens"] > 0


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output(chat: Chat, simulator: Simulator, method: str) -> None:
    if method == "json_mode":  # no schema goes out: the answer is any JSON object
        answer = await chat().with_structured_output(None, method=method).ainvoke("JSON, please")
        assert isinstance(answer, dict)
        assert simulator.generations[0].json()["generationConfig"]["responseMimeType"] == "application/json"
        return
    answer = await chat().with_structured_output(Book, method=method).ainvoke("A book, please")
    assert isinstance(answer, Book)
    sent = simulator.generations[0].json()
    if method == "json_schema":
        given = sent["generationConfig"]["responseJsonSchema"]
    else:
        [given] = [declared["parametersJsonSchema"] for declared in sent["tools"][0]["functionDeclarations"]]
        assert sent["toolConfig"]["functionCallingConfig"]["mode"] == "ANY"
    assert set(given["properties"]) == {"title", "pages", "tags"}


@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
async def test_a_stream_adds_up_with_thoughts_and_usage(chat: Chat, version: str) -> None:
    model = chat(output_version=version, reasoning={"effort": "low", "summary": "auto"})
    whole = await added(model.astream("Good morning to everybody in the house"))
    assert "Good morning" in whole.text
    assert whole.response_metadata["status"] == "completed"
    assert whole.usage_metadata["total_tokens"] > whole.usage_metadata["input_tokens"] > 0
    [thought] = [block for block in whole.content_blocks if block["type"] == "reasoning"]
    assert "Good morning" in thought["reasoning"]


async def test_a_search_gives_its_sources(chat: Chat, simulator: Simulator) -> None:
    answer = await chat(output_version="responses/v1").bind_tools([{"type": "web_search"}]).ainvoke("What is new?")
    [source] = answer.content[0]["annotations"]
    assert source["type"] == "url_citation"
    assert answer.text[source["start_index"] : source["end_index"]] == answer.text.removeprefix("Café guide: ")
    assert simulator.generations[0].json()["tools"] == [{"googleSearch": {}}]


async def test_pictures_and_papers_are_seen(chat: Chat, simulator: Simulator) -> None:
    paper = {"type": "file", "base64": "JVBERi0xLjQK", "mime_type": "application/pdf", "filename": "a.pdf"}
    picture = {"type": "image", "base64": PIXEL, "mime_type": "image/png"}
    answer = await chat().ainvoke([messages.HumanMessage([{"type": "text", "text": "What is it?"}, picture, paper])])
    assert "I see image/png, application/pdf" in answer.text
    parts = simulator.generations[0].json()["contents"][0]["parts"]
    assert [part["inlineData"]["data"] for part in parts[1:]] == [PIXEL, "JVBERi0xLjQK"]


async def test_an_answer_that_was_cut_says_so(chat: Chat, simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME, {"candidates": [{"finishReason": "MAX_TOKENS"}]}]))
    answer = await added(chat().astream("Hello"))
    assert answer.text == "tick "
    assert answer.response_metadata["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_an_answer_that_fails_is_an_error(chat: Chat, simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME]).then(Reset()), times=None)
    with pytest.raises(ValueError, match="server_error"):
        await added(chat().astream("Hello"))
