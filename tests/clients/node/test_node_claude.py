"""The AI SDK of Vercel on its model of Messages: texts, streams with thoughts, typed answers, steps of tools."""

from __future__ import annotations

import pytest

from gemproxy.simulator import Reset, Simulator, frames_answer
from tests.clients.node.conftest import Client, module
from tests.clients.node.journey import MODEL, assert_whole
from tests.clients.test_signature_journeys import ASKED, STEPS

THINKING = {"thinking": {"type": "enabled", "budgetTokens": 2000}}
FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}


@pytest.fixture(autouse=True)
def installed() -> None:
    module("ai"), module("@ai-sdk/anthropic")


async def test_an_answer_with_its_usage(client: Client) -> None:
    found = await client("text", model=MODEL)
    assert found["text"] == "Hello from the simulated Gemini. You said: Hello"
    assert found["finishReason"] == "stop"
    assert found["usage"]["totalTokens"] > found["usage"]["inputTokens"] > 0


async def test_a_stream_tells_thoughts_words_and_usage(client: Client) -> None:
    found = await client("stream", model=MODEL, options=THINKING)
    assert found["text"] == "Hello from the simulated Gemini. You said: Hello"
    assert found["thought"].startswith("**Considering")
    assert found["finish"]["finishReason"] == "stop"
    assert found["finish"]["totalUsage"]["outputTokens"] > 0


async def test_a_stream_that_breaks_is_an_error(client: Client, simulator: Simulator) -> None:
    simulator.script(frames_answer([FRAME]).then(Reset()), times=None)
    found = await client("stream", model=MODEL)
    assert "error" in found["types"]


async def test_typed_output_is_parsed(client: Client) -> None:
    whole, streamed, last = await client("object", model=MODEL)
    assert set(whole) == {"title", "pages", "tags"}
    assert whole == streamed == last


@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
async def test_five_steps_keep_every_signature(client: Client, simulator: Simulator, streams: bool) -> None:
    found = await client("journey", model=MODEL, streams=streams, asked=ASKED)
    assert found["text"].startswith("The tools answered.")
    assert (found["steps"], found["finish"]) == (STEPS + 1, "stop")
    assert_whole(simulator)


@pytest.mark.usefixtures("forgetful")
async def test_five_steps_without_a_memory_of_calls(client: Client, simulator: Simulator) -> None:
    found = await client("journey", model=MODEL, options=THINKING, streams=True, asked=ASKED)
    assert found["steps"] == STEPS + 1
    assert_whole(simulator)
