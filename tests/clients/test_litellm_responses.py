"""litellm's ``responses`` on gemproxy, and its bridge from chat to it: tools over many steps, streams, what is kept.

Needs the extra ``clients-pinned``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from gemproxy.simulator import Simulator, frames_answer
from gemproxy.simulator.model import PIXEL
from tests.clients.test_litellm import Book, litellm, pytestmark
from tests.clients.test_signature_journeys import ASKED, NAMES, STEPS, signed, statuses
from tests.running import KEY, Running

__all__ = ["pytestmark"]

MODELS = pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.5-flash"])
PARAMETERS = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
TOOLS = [{"type": "function", "name": name, "parameters": PARAMETERS} for name in NAMES]
CHAT_TOOLS = [{"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in NAMES]
GREETING = "Good morning to everybody in the house"


@pytest.fixture
async def access(server: Running) -> AsyncIterator[dict[str, Any]]:
    """Return where the server is, as each call of litellm must be told."""
    yield {"api_base": f"{server.url}/v1", "api_key": KEY}
    await litellm.close_litellm_async_clients()


@pytest.fixture
def respond(access: dict[str, Any]) -> Callable[..., Any]:
    return partial(litellm.aresponses, num_retries=0, **access)


@pytest.fixture
def complete(access: dict[str, Any]) -> Callable[..., Any]:
    return partial(litellm.acompletion, num_retries=0, **access)


@MODELS
@pytest.mark.parametrize(
    ("options", "carried"),
    [
        pytest.param({}, False, id="all items back"),
        pytest.param({"store": False, "include": ["reasoning.encrypted_content"]}, True, id="thoughts sealed"),
        pytest.param({"previous": True}, True, id="the previous response named"),
    ],
)
async def test_five_steps(
    respond: Callable[..., Any], server: Running, simulator: Simulator, model: str, options: Any, carried: bool
) -> None:
    if carried:
        server.forget_signatures()
    options = dict(options)
    named = options.pop("previous", False)
    items: list[Any] = [{"role": "user", "content": ASKED}]
    for _ in range(STEPS + 1):
        answer = await respond(model=f"openai/{model}", input=items, tools=TOOLS, **options)
        calls = [item for item in answer.output if item.type == "function_call"]
        results = [{"type": "function_call_output", "call_id": call.call_id, "output": "done"} for call in calls]
        items = results if named else [*items, *(item.model_dump() for item in answer.output), *results]
        options |= {"previous_response_id": answer.id} if named else {}
    assert answer.output[-1].content[0].text.startswith("The tools answered.")
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(STEPS + 1)]
    assert statuses(simulator) == [200] * (STEPS + 1)


@MODELS
async def test_a_stream_tells_thoughts_and_words(respond: Callable[..., Any], model: str) -> None:
    stream = await respond(model=f"openai/{model}", input=GREETING, stream=True, reasoning={"summary": "auto"})
    events = [event async for event in stream]
    told = {
        kind: "".join(event.delta for event in events if event.type == f"response.{kind}.delta")
        for kind in ("output_text", "reasoning_summary_text")
    }
    last = events[-1]
    assert last.type == "response.completed"
    assert "Good morning" in told["reasoning_summary_text"]
    assert last.response.output[-1].content[0].text == told["output_text"] != ""
    assert last.response.usage.total_tokens > 0


async def test_what_is_kept_is_given_back_and_forgotten(respond: Callable[..., Any], access: dict[str, Any]) -> None:
    answer = await respond(model="openai/gemini-2.5-flash", input="Hello")
    given = access | {"custom_llm_provider": "openai"}
    assert (await litellm.aget_responses(answer.id, **given)).output == answer.output
    assert (await litellm.adelete_responses(answer.id, **given)).deleted
    with pytest.raises(litellm.NotFoundError):
        await litellm.aget_responses(answer.id, **given)


# ------------------------------------------------------------------------------------------ from chat to responses


async def _answer(complete: Callable[..., Any], model: str, messages: list[Any], stream: bool, **options: Any) -> Any:
    answer = await complete(model=f"openai/responses/{model}", messages=messages, stream=stream, **options)
    if not stream:
        return answer
    return litellm.stream_chunk_builder([chunk async for chunk in answer], messages=messages)


@MODELS
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_five_steps_of_chat_and_a_second_question(
    complete: Callable[..., Any], simulator: Simulator, model: str, stream: bool
) -> None:
    messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]
    for _ in range(STEPS + 1):
        answer = await _answer(complete, model, messages, stream, tools=CHAT_TOOLS)
        messages.append(answer.choices[0].message)
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": "done"}
            for call in answer.choices[0].message.tool_calls or ()
        ]
    assert answer.choices[0].finish_reason == "stop"
    assert "The tools answered." in answer.choices[0].message.content
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(STEPS + 1)]
    messages.append({"role": "user", "content": "Thank you"})
    answer = await _answer(complete, model, messages, stream, tools=CHAT_TOOLS)
    assert "Thank you" in answer.choices[0].message.content
    assert statuses(simulator) == [200] * (STEPS + 2)
    assert simulator.generations[-1].json()["systemInstruction"] == {"parts": [{"text": "Be brief."}]}


async def test_typed_output_and_a_picture(complete: Callable[..., Any], simulator: Simulator) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "A book?"}, picture]}]
    answer = await _answer(complete, "gemini-3.5-flash", messages, False, response_format=Book)
    assert Book.model_validate_json(answer.choices[0].message.content).title == "sample title"
    sent = simulator.generations[0].json()
    assert sent["contents"][0]["parts"][1]["inlineData"]["data"] == PIXEL
    assert set(sent["generationConfig"]["responseJsonSchema"]["properties"]) == {"title", "pages", "tags"}


async def test_an_answer_that_was_cut_says_so(complete: Callable[..., Any], simulator: Simulator) -> None:
    frame = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
    simulator.script(frames_answer([frame, {"candidates": [{"finishReason": "MAX_TOKENS"}]}]))
    answer = await _answer(complete, "gemini-3.5-flash", [{"role": "user", "content": "Hello"}], False)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("tick ", "length")
