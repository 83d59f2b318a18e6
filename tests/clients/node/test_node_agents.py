"""The Agents SDK for Node on Responses: steps of tools, hand-offs, typed output, streams."""

from __future__ import annotations

import pytest

from gemproxy.simulator import Simulator
from tests.clients.node.conftest import Client
from tests.clients.node.journey import MODEL, assert_whole
from tests.clients.test_signature_journeys import ASKED, signed, statuses


@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
async def test_five_steps_keep_every_signature(client: Client, simulator: Simulator, streams: bool) -> None:
    found = await client("journey", model=MODEL, streams=streams, asked=ASKED)
    assert found["text"].startswith("The tools answered.")
    assert found["told"] == (found["text"] if streams else "")
    assert found["usage"]["totalTokens"] > 0
    assert_whole(simulator)


@pytest.mark.usefixtures("forgetful")
async def test_five_steps_without_a_memory_of_calls(client: Client, simulator: Simulator) -> None:
    settings = {"store": False, "providerData": {"include": ["reasoning.encrypted_content"]}}
    found = await client("journey", model=MODEL, settings=settings, streams=True, asked=ASKED)
    assert found["text"].startswith("The tools answered.")
    assert_whole(simulator)


@pytest.mark.parametrize("names", [True, False], ids=["the previous response named", "all said again"])
async def test_a_second_question_goes_on_from_the_first(client: Client, simulator: Simulator, names: bool) -> None:
    found = await client("again", model=MODEL, names=names)
    assert "beta" in found["text"]
    assert statuses(simulator) == [200] * 4
    assert [signed(request) for request in simulator.generations] == [[], ["real"], ["real"], ["real"] * 2]


async def test_typed_output_is_parsed(client: Client, simulator: Simulator) -> None:
    assert set(await client("typed", model=MODEL)) == {"title", "pages", "tags"}
    assert simulator.generations[0].json()["generationConfig"]["responseMimeType"] == "application/json"


async def test_a_hand_off_to_another_agent(client: Client) -> None:
    found = await client("handed", model=MODEL)
    assert found["last"] == "poet"
    assert "The tools answered" in found["text"]
