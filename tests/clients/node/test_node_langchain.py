"""LangChain's ChatOpenAI for Node with ``useResponsesApi``, which is what n8n runs."""

from __future__ import annotations

import pytest

from gemproxy.simulator import Simulator
from gemproxy.simulator.model import PIXEL
from tests.clients.node.conftest import Client
from tests.clients.node.journey import MODEL, assert_whole
from tests.clients.test_signature_journeys import ASKED, STEPS

STREAMS = pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])


@STREAMS
@pytest.mark.parametrize("options", [{}, {"outputVersion": "v1"}], ids=["v0", "v1"])
async def test_five_steps_keep_every_signature(
    client: Client, simulator: Simulator, options: dict[str, object], streams: bool
) -> None:
    found = await client("journey", model=MODEL, options=options, streams=streams, asked=ASKED)
    assert found["text"].startswith("The tools answered.")
    assert found["text"].count('{"done":"sample city"}') == STEPS
    assert found["usage"]["total_tokens"] > 0
    assert_whole(simulator)


@pytest.mark.usefixtures("forgetful")
@STREAMS
async def test_five_steps_without_a_memory_of_calls(client: Client, simulator: Simulator, streams: bool) -> None:
    carried = {"options": {"zdrEnabled": True}, "bound": {"include": ["reasoning.encrypted_content"]}}
    found = await client("journey", model=MODEL, streams=streams, asked=ASKED, **carried)
    assert found["text"].startswith("The tools answered.")
    assert_whole(simulator)


@pytest.mark.parametrize("method", ["jsonSchema", "functionCalling"])
async def test_typed_output_is_parsed(client: Client, method: str) -> None:
    assert set(await client("typed", model=MODEL, method=method)) == {"title", "pages", "tags"}


async def test_a_stream_adds_up_with_usage(client: Client) -> None:
    found = await client("stream", model=MODEL)
    assert found["text"] == "Hello from the simulated Gemini. You said: Hello"
    assert found["status"] == "completed"
    assert found["usage"]["total_tokens"] > found["usage"]["input_tokens"] > 0


async def test_a_picture_is_seen(client: Client) -> None:
    assert "I see image/png" in (await client("seen", model=MODEL, picture=PIXEL))["text"]
