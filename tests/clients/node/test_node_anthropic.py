"""Anthropic's package for Node on Messages: its stream helper, its tool runner, counts, models, failures."""

from __future__ import annotations

import pytest

from gemproxy.simulator import Reset, Simulator, error_answer, frames_answer
from tests.clients.node.conftest import Client, module
from tests.clients.node.journey import MODEL, assert_whole
from tests.clients.test_signature_journeys import ASKED

FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}
THINKING = {"type": "adaptive"}
TEXT = "Hello from the simulated Gemini. You said: Hello"


@pytest.fixture(autouse=True)
def installed() -> None:
    module("@anthropic-ai/sdk")


async def test_a_stream_adds_up_to_the_answer(client: Client) -> None:
    found = await client("helper", model=MODEL, thinking=THINKING)
    assert [block["type"] for block in found["whole"]["content"]] == ["thinking", "text"]
    assert found["text"] == found["whole"]["content"][1]["text"] == TEXT
    assert found["final"]["content"] == found["whole"]["content"]
    assert found["final"]["usage"] == found["whole"]["usage"]
    assert (found["types"][0], found["types"][-1]) == ("message_start", "message_stop")
    assert found["request"].startswith("req_")


@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
async def test_the_tool_runner_keeps_every_signature(client: Client, simulator: Simulator, streams: bool) -> None:
    found = await client("journey", model=MODEL, prompt=ASKED, streams=streams)
    assert found["stop_reason"] == "end_turn"
    assert found["content"][-1]["text"].startswith("The tools answered.")
    assert_whole(simulator)


@pytest.mark.usefixtures("forgetful")
async def test_thoughts_carry_the_signatures(client: Client, simulator: Simulator) -> None:
    await client("journey", model=MODEL, prompt=ASKED, thinking=THINKING, streams=True)
    assert_whole(simulator)


async def test_counts_and_models(client: Client) -> None:
    found = await client("counted", model=MODEL)
    assert found["input_tokens"] > 0
    assert MODEL in found["models"]
    assert len(found["models"]) > 20
    assert found["one"]["type"] == "model"


async def test_failures_before_and_in_a_stream(client: Client, simulator: Simulator) -> None:
    simulator.script(error_answer(400, "The model does not like it."))
    simulator.script(frames_answer([FRAME]).then(Reset()), times=None)
    found = await client("failed", model=MODEL)
    assert found["before"]["status"] == 400
    assert found["before"]["requestID"].startswith("req_")
    assert found["cut"]["error"]["error"]["type"] == "api_error"
