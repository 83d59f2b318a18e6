"""Anthropic's own package on Messages: answers, its stream helper, its tool runner, counts, models, failures.

Needs the extra ``clients``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pydantic
import pytest

from gemproxy.simulator import Reset, Simulator, error_answer, frames_answer
from gemproxy.simulator.model import PIXEL
from tests.clients.test_signature_journeys import signed, statuses
from tests.running import KEY, Running

# a part of it, since a folder of tests has the same name
pytest.importorskip("anthropic.types", reason="needs the extra clients: anthropic")
anthropic = pytest.importorskip("anthropic")

MODEL = "gemini-3.5-flash"
USER: Any = {"role": "user", "content": "Hello"}
TEXT = "Hello from the simulated Gemini. You said: Hello"
FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 4_000, "messages": [USER]}
THINKING = {"thinking": {"type": "adaptive"}}


class Book(pydantic.BaseModel):
    title: str
    pages: int
    tags: list[str]


@pytest.fixture
async def client(server: Running) -> AsyncIterator[Any]:
    # reading every root certificate took most of a test
    plain = anthropic.DefaultAsyncHttpxClient(verify=False)
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key=KEY, max_retries=0, http_client=plain) as made:
        yield made


async def test_an_answer(client: Any) -> None:
    message = await client.messages.create(**ASK)
    assert [block.text for block in message.content] == [TEXT]
    assert (message.model, message.stop_reason, message.role) == (MODEL, "end_turn", "assistant")
    assert message._request_id.startswith("req_")
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens_details.thinking_tokens > 0


async def test_the_stream_helper_adds_up_to_the_same(client: Any) -> None:
    whole = await client.messages.create(**ASK, **THINKING)
    async with client.messages.stream(**ASK, **THINKING) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        message = await stream.get_final_message()
    assert text == TEXT
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking.startswith("**Considering")
    left_out = {"id"}
    assert message.model_dump(exclude=left_out) == whole.model_dump(exclude=left_out)


async def test_a_plain_stream(client: Any) -> None:
    events = [event async for event in await client.messages.create(**ASK, stream=True)]
    assert [events[0].type, events[-1].type] == ["message_start", "message_stop"]


@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
async def test_the_tool_runner_takes_its_steps(client: Any, simulator: Simulator, streams: bool) -> None:
    """It first asks for a thread, which a proxy has not, and then sends all that was said."""

    @anthropic.beta_async_tool
    async def alpha(city: str) -> str:
        """Tell the weather.

        Args:
            city: Where.
        """
        return f"21 C in {city}"

    @anthropic.beta_async_tool
    async def beta(city: str) -> str:
        """Tell the time.

        Args:
            city: Where.
        """
        raise ValueError("no clock")

    said = [{"role": "user", "content": "call alpha then beta then alpha"}]
    asked: dict[str, Any] = {**ASK, **THINKING, "messages": said, "tools": [alpha, beta]}
    runner = client.beta.messages.tool_runner(**asked, stream=streams)
    last: Any = None
    async for each in runner:
        last = await each.get_final_message() if streams else each
    assert last.content[-1].text.startswith("The tools answered.")
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(4)]
    assert statuses(simulator) == [200] * 4
    parts = [part for turn in simulator.generations[-1].json()["contents"] for part in turn["parts"]]
    results = [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]
    assert [next(iter(result)) for result in results] == ["output", "error", "output"]


async def test_a_typed_answer_is_parsed(client: Any, simulator: Simulator) -> None:
    said = [{"role": "user", "content": "A book, please"}]
    message = await client.messages.parse(**ASK | {"messages": said}, output_format=Book)
    assert isinstance(message.parsed_output, Book)
    assert "responseJsonSchema" in simulator.generations[0].json()["generationConfig"]


async def test_pictures_and_documents(client: Any, simulator: Simulator) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    document = {
        "type": "document",
        "title": "Notes",
        "source": {"type": "text", "media_type": "text/plain", "data": "x"},
    }
    said = [{"role": "user", "content": [picture, document, {"type": "text", "text": "What is it?"}]}]
    await client.beta.messages.create(**ASK | {"messages": said}, betas=["files-api-2025-04-14"])
    [turn] = simulator.generations[0].json()["contents"]
    assert [next(iter(part)) for part in turn["parts"]] == ["inlineData", "text", "text", "text"]


async def test_tokens_are_counted(client: Any) -> None:
    asked = {key: value for key, value in ASK.items() if key != "max_tokens"}
    assert (await client.messages.count_tokens(**asked)).input_tokens > 0
    assert (await client.beta.messages.count_tokens(**asked)).input_tokens > 0


async def test_models_are_listed_over_all_pages(client: Any) -> None:
    models = [model async for model in client.models.list(limit=7)]
    assert MODEL in {model.id for model in models}
    assert len(models) > 20
    assert (await client.models.retrieve(MODEL)).max_input_tokens == 1_048_576


async def test_failures_are_the_exceptions_that_clients_know(client: Any, simulator: Simulator) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model: "):
        await client.messages.create(**ASK | {"model": "claude-opus-5-5"})
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.0\.content\.0"):
        await client.messages.create(**ASK | {"messages": [{"role": "user", "content": [{"type": "odd"}]}]})
    simulator.script(error_answer(503, "The model is overloaded."), times=None)
    with pytest.raises(anthropic.OverloadedError) as caught:
        await client.messages.create(**ASK)
    assert caught.value.status_code == 529
    assert caught.value.request_id.startswith("req_")


async def test_a_stream_that_breaks_is_an_exception(client: Any, simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME]).then(Reset()), times=None)
    told = ""
    with pytest.raises(anthropic.APIStatusError):
        async with client.messages.stream(**ASK) as stream:
            async for piece in stream.text_stream:
                told += piece
    assert told == "tick "


async def test_a_quota_is_waited_for_as_long_as_it_says(server: Running, simulator: Simulator) -> None:
    simulator.script(error_answer(503, "The model is overloaded."), times=3)  # as often as one request tries
    async with anthropic.AsyncAnthropic(base_url=server.url, auth_token=KEY, max_retries=1) as client:
        assert (await client.messages.create(**ASK)).content[0].text == TEXT
