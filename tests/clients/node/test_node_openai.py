"""OpenAI's package for Node on Responses: its stream helper, typed answers, what is kept, summaries, steps of tools."""

from __future__ import annotations

import pytest

from gemproxy.simulator import Reset, Simulator, error_answer, frames_answer
from tests.clients.node.conftest import Client
from tests.clients.node.journey import MODEL, assert_whole
from tests.clients.test_signature_journeys import ASKED

FRAME = {"candidates": [{"content": {"parts": [{"text": "tick "}]}}]}


async def test_a_stream_adds_up_to_what_is_kept(client: Client) -> None:
    found = await client("helper", model=MODEL)
    assert (found["types"][0], found["types"][-1]) == ("response.created", "response.completed")
    assert found["told"] == found["final"]["output_text"] == found["kept"]["output_text"]
    assert [item["type"] for item in found["kept"]["output"]] == ["reasoning", "message"]
    assert found["final"]["output"][0]["summary"][0]["text"].startswith("**Considering")
    assert found["listed"][0]["content"] == [{"type": "input_text", "text": "Hello"}]
    assert found["gone"]["status"] == 404


async def test_typed_answers_are_parsed(client: Client, simulator: Simulator) -> None:
    for book in await client("parsed", model=MODEL):
        assert set(book) == {"title", "pages", "tags"}
    assert simulator.generations[0].json()["generationConfig"]["responseMimeType"] == "application/json"


async def test_a_conversation_is_summed_up_and_counted(client: Client, simulator: Simulator) -> None:
    found = await client("summed", model=MODEL)
    assert found["object"] == "response.compaction"
    assert found["types"] == ["message", "compaction"]
    assert "Which word?" in found["text"]
    texts = [part["text"] for turn in simulator.generations[-1].json()["contents"] for part in turn["parts"]]
    assert any(text.startswith("The conversation up to here was summed up:") for text in texts)
    assert found["input_tokens"] > 0


async def test_five_steps_of_tools_keep_every_signature(client: Client, simulator: Simulator) -> None:
    found = await client("journey", model=MODEL, way="all", asked=ASKED)
    assert found["text"].startswith("The tools answered.")
    assert_whole(simulator)


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("way", ["sealed", "previous"])
async def test_five_steps_without_a_memory_of_calls(client: Client, simulator: Simulator, way: str) -> None:
    found = await client("journey", model=MODEL, way=way, asked=ASKED)
    assert found["text"].startswith("The tools answered.")
    assert_whole(simulator)


async def test_failures_before_and_in_a_stream(client: Client, simulator: Simulator) -> None:
    simulator.script(error_answer(400, "The model does not like it."))
    simulator.script(frames_answer([FRAME]).then(Reset()), times=None)
    found = await client("failed", model=MODEL)
    assert found["before"]["status"] == 400
    assert found["last"]["type"] == "response.failed"
    assert found["last"]["response"]["error"]["code"] == "server_error"
