"""The AI SDK of Vercel, whose default is Responses: texts, streams with thoughts, typed answers, steps of tools."""

from __future__ import annotations

from typing import Any

import pytest

from gemproxy.simulator import Reset, Simulator, frames_answer
from tests.clients.node.conftest import Client
from tests.clients.node.journey import MODEL, assert_whole
from tests.clients.test_signature_journeys import ASKED, STEPS, signed, statuses

REASONING = {"forceReasoning": True, "reasoningSummary": "auto"}
CARRIED = {**REASONING, "store": False}
FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}


async def test_an_answer_with_its_usage(client: Client) -> None:
    found = await client("text", model=MODEL)
    assert found["text"] == "Hello from the simulated Gemini. You said: Hello"
    assert found["finishReason"] == "stop"
    assert found["usage"]["totalTokens"] > found["usage"]["inputTokens"] > 0


async def test_a_stream_tells_thoughts_words_and_usage(client: Client) -> None:
    found = await client("stream", model=MODEL, options=REASONING)
    assert found["text"] == "Hello from the simulated Gemini. You said: Hello"
    assert found["thought"].startswith("**Considering")
    assert found["finish"]["finishReason"] == "stop"
    assert found["finish"]["totalUsage"]["outputTokenDetails"]["reasoningTokens"] > 0


async def test_a_stream_that_breaks_is_an_error(client: Client, simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME]).then(Reset()), times=None)
    found = await client("stream", model=MODEL)
    assert "error" in found["types"]
    assert found["finish"]["finishReason"] == "error"


async def test_typed_output_is_parsed(client: Client, simulator: Simulator) -> None:
    whole, streamed, last = await client("object", model=MODEL)
    assert set(whole) == {"title", "pages", "tags"}
    assert whole == streamed == last
    assert simulator.generations[0].json()["generationConfig"]["responseMimeType"] == "application/json"


async def test_a_search_tells_its_sources(client: Client, simulator: Simulator) -> None:
    found = await client("searched", model=MODEL)
    assert found["text"].startswith("Café guide: ")
    [source] = found["sources"]
    assert (source["sourceType"], source["title"]) == ("url", "example.com")
    assert simulator.generations[0].json()["tools"] == [{"googleSearch": {}}]


@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
async def test_five_steps_keep_every_signature(client: Client, simulator: Simulator, streams: bool) -> None:
    found = await client("journey", model=MODEL, streams=streams, asked=ASKED)
    assert found["text"].startswith("The tools answered.")
    assert (found["steps"], found["finish"]) == (STEPS + 1, "stop")
    assert_whole(simulator)


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("options", "streams"),
    [
        pytest.param(REASONING, False, id="items named by their ids"),
        pytest.param(CARRIED, True, id="all items back, nothing kept here"),
    ],
)
async def test_five_steps_without_a_memory_of_calls(
    client: Client, simulator: Simulator, options: dict[str, Any], streams: bool
) -> None:
    found = await client("journey", model=MODEL, options=options, streams=streams, asked=ASKED)
    assert found["steps"] == STEPS + 1
    assert_whole(simulator)


@pytest.mark.parametrize("names", [True, False], ids=["the previous response named", "all said again"])
async def test_a_second_question_goes_on_from_the_first(client: Client, simulator: Simulator, names: bool) -> None:
    found = await client("again", model=MODEL, options=REASONING, names=names)
    assert "beta" in found["text"]
    assert statuses(simulator) == [200] * 4
    assert [signed(request) for request in simulator.generations] == [[], ["real"], ["real"], ["real"] * 2]
