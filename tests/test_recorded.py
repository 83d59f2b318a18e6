"""Every recorded answer through the simulator's replay, the real server and the real ``openai`` package.

What comes out must say what the recording says (``tests.recorded`` reads it apart from gemproxy), be valid by OpenAI's
schema, and end well or in an honest error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from gemproxy.simulator import Simulator, replay
from tests import openai_package as openai
from tests.folding import events, fold
from tests.openai_schema import answer_problems, chunk_problems
from tests.recorded import Recorded, Said, answers, said
from tests.running import Running, running

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server answers for all recordings

MESSAGES: Any = [{"role": "user", "content": "Go on."}]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def standing() -> AsyncIterator[tuple[Simulator, Running]]:
    async with Simulator() as google, running(google) as server:
        yield google, server


@pytest.fixture
def simulator(standing: tuple[Simulator, Running]) -> Simulator:
    standing[0].clear()
    return standing[0]


@pytest.fixture
def server(standing: tuple[Simulator, Running]) -> Running:
    return standing[1]


@pytest.mark.parametrize("recorded", answers("aistudio", "vertex"), ids=lambda recorded: recorded.file)
async def test_recorded_answer_reaches_the_openai_client(
    recorded: Recorded, server: Running, simulator: Simulator
) -> None:
    simulator.script(replay(recorded.path), times=None)
    told = said(recorded)
    answer = await through_openai(server, recorded, told)
    if answer is not None:
        compare(answer, told)


@pytest.mark.parametrize(
    "recorded", [one for one in answers("aistudio", "vertex") if one.kind == "stream"], ids=lambda one: one.file
)
async def test_recorded_stream_ends_in_done_or_an_error(
    recorded: Recorded, server: Running, simulator: Simulator
) -> None:
    simulator.script(replay(recorded.path), times=None)
    status, body = await server.post(
        "/v1/chat/completions", {"model": "gemini-2.5-flash", "messages": MESSAGES, "stream": True}
    )
    if status == 200:
        last = events(body)[-1]
        assert last == "[DONE]" or "error" in last
        assert (last == "[DONE]") is not said(recorded).error
    else:
        assert said(recorded).error
        assert msgspec.json.decode(body)["error"]["message"]


async def through_openai(server: Running, recorded: Recorded, told: Said) -> dict[str, Any] | None:
    """Return what the openai package makes of a replayed answer; None where an honest error is due, and came."""
    async with server.openai() as client:
        if told.error:
            with pytest.raises(openai.APIError):
                await _ask(client, recorded.kind == "stream")
            return None
        answer = await _ask(client, recorded.kind == "stream")
    assert answer_problems(answer) == []
    return answer


async def _ask(client: openai.AsyncOpenAI, stream: bool) -> dict[str, Any]:
    if not stream:
        answer = await client.chat.completions.create(model="gemini-2.5-flash", messages=MESSAGES)
        return answer.model_dump(exclude_unset=True)
    chunks = []
    async for chunk in await client.chat.completions.create(
        model="gemini-2.5-flash", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ):
        shown = chunk.model_dump(exclude_unset=True)
        assert chunk_problems(shown) == []
        chunks.append(shown)
    return fold(chunks)


def compare(answer: dict[str, Any], told: Said) -> None:
    """Hold an answer against what its recording says."""
    [choice] = answer["choices"]
    message = choice["message"]
    assert (message["content"] or "") == told.text
    assert message.get("reasoning_content", "") == told.thoughts
    assert choice["finish_reason"] == told.finish
    assert len(message.get("images") or ()) == told.images
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    assert [call["name"] for call in calls] == [name for name, _ in told.calls]
    for call, (_, arguments) in zip(calls, told.calls, strict=True):
        made = msgspec.json.decode(call["arguments"])
        assert made == arguments if arguments is not None else isinstance(made, dict)
    ids = [call["id"] for call in message.get("tool_calls") or ()]
    assert len(set(ids)) == len(ids)
    assert all(ids)
    _compare_usage(answer["usage"], told.usage)


def _compare_usage(usage: dict[str, Any], counted: dict[str, int]) -> None:
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    visible, thoughts = counted.get("candidatesTokenCount", 0), counted.get("thoughtsTokenCount", 0)
    prompt = counted.get("promptTokenCount", 0) + counted.get("toolUsePromptTokenCount", 0)
    assert usage["prompt_tokens"] == prompt
    assert usage["completion_tokens_details"]["reasoning_tokens"] == thoughts
    assert usage["completion_tokens"] in (visible + thoughts, visible)
    if counted.get("totalTokenCount") == prompt + visible + thoughts:  # where Google's own numbers add up
        assert usage["total_tokens"] == counted["totalTokenCount"]
