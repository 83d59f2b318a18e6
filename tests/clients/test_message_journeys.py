"""Thought signatures through Messages: five steps of tools with clients that send all blocks back, that drop thoughts,
that ask for none, and that change the arguments of calls, on each upstream.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.simulator import Simulator
from tests.clients.test_signature_journeys import ASKED, NAMES, STEPS, installation, signed, statuses
from tests.converter.anthropic.message_events import events_of, folded
from tests.running import Running, configuration, running

TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in NAMES]
THOUGHTS = ("thinking", "redacted_thinking")
WAYS = pytest.mark.parametrize(
    "way",
    [
        pytest.param("whole", id="all blocks back"),
        pytest.param("dropped", id="thoughts dropped"),
        pytest.param("omitted", id="thoughts that are not shown"),
        pytest.param("none", id="no thoughts asked for"),
        pytest.param("changed", id="calls back with other arguments"),
    ],
)


class Journey:
    """One conversation as a client leads it that sends back what its way is."""

    def __init__(self, way: str, *, stream: bool = False, more: dict[str, Any] | None = None) -> None:
        self.way = way
        self.stream = stream
        self.more = more or {}
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": ASKED}]

    async def go(self, server: Running, model: str, steps: int) -> dict[str, Any]:
        """Take so many steps; return the last answer."""
        answer: dict[str, Any] = {}
        for _ in range(steps):
            answer = await self._ask(server, model)
            results = [
                {"type": "tool_result", "tool_use_id": block["id"], "content": '{"done": true}'}
                for block in answer["content"]
                if block["type"] == "tool_use"
            ]
            kept = [kept for block in answer["content"] if (kept := self._kept(block)) is not None]
            self.messages += [{"role": "assistant", "content": kept}, {"role": "user", "content": results}]
        return answer

    def _kept(self, block: dict[str, Any]) -> dict[str, Any] | None:
        if self.way == "dropped" and block["type"] in THOUGHTS:
            return None
        if self.way == "changed" and block["type"] == "tool_use":
            return {**block, "input": {**block["input"], "replace_all": False}}
        return block

    async def _ask(self, server: Running, model: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": 9_000,
            "messages": self.messages,
            "tools": TOOLS,
        } | self.more
        if self.way != "none":
            body["thinking"] = {"type": "adaptive"} | ({"display": "omitted"} if self.way == "omitted" else {})
        status, answer = await server.post("/v1/messages", body | {"stream": self.stream})
        assert status == 200, answer
        whole: dict[str, Any] = folded(events_of(answer)) if self.stream else msgspec.json.decode(answer)
        return whole


@WAYS
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.5-flash", "gemini-3.1-pro-preview"])
async def test_five_steps_keep_every_signature(
    simulator: Simulator, tmp_path: Path, model: str, stream: bool, way: str
) -> None:
    journey = Journey(way, stream=stream)
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        await journey.go(server, model, STEPS)
        last = await journey.go(server, model, 1)
    assert (last["stop_reason"], last["content"][-1]["type"]) == ("end_turn", "text")
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(STEPS + 1)]
    assert statuses(simulator) == [200] * (STEPS + 1)
    shown = [block for message in journey.messages for block in message["content"] if "thinking" in block]
    assert bool(shown) is (way not in ("dropped", "none"))


@WAYS
@pytest.mark.parametrize("kind", ["service_account", "oauth"])
async def test_five_steps_on_the_other_upstreams(simulator: Simulator, tmp_path: Path, kind: str, way: str) -> None:
    journey = Journey(way)
    async with running(simulator, installation(simulator, tmp_path, kind)) as server:
        await journey.go(server, "gemini-3.1-pro-preview", STEPS + 1)
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(STEPS + 1)]
    assert statuses(simulator) == [200] * (STEPS + 1)


@pytest.mark.parametrize("way", ["whole", "omitted"])
async def test_a_restart_in_the_middle_loses_no_signature(simulator: Simulator, tmp_path: Path, way: str) -> None:
    """Memory is gone then: the client carries them in its thoughts, also where these show nothing."""
    journey = Journey(way)
    for steps in (2, STEPS - 1):
        async with running(simulator, configuration(simulator, tmp_path)) as server:
            await journey.go(server, "gemini-3.5-flash", steps)
    assert signed(simulator.generations[-1]) == ["real"] * STEPS
    assert statuses(simulator) == [200] * (STEPS + 1)


async def test_a_large_agent_is_served_as_a_small_one(simulator: Simulator, tmp_path: Path) -> None:
    """Thirty tools and a system text of 100 kB, which are read and converted beside the loop."""
    schema = {"type": "object", "properties": {"path": {"type": "string", "description": "word " * 400}}}
    others = [{"name": f"other_{number}", "description": "word " * 100, "input_schema": schema} for number in range(25)]
    system = [{"type": "text", "text": "word " * 20_000, "cache_control": {"type": "ephemeral"}}]
    journey = Journey("omitted", stream=True, more={"tools": [*TOOLS, *others], "system": system})
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        await journey.go(server, "gemini-3.5-flash", STEPS + 1)
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(STEPS + 1)]
    assert len(simulator.generations[-1].json()["tools"][0]["functionDeclarations"]) == 30


async def test_what_was_answered_is_sent_again_and_not_the_echo_of_it(simulator: Simulator, tmp_path: Path) -> None:
    journey = Journey("changed")
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        await journey.go(server, "gemini-3.5-flash", 2)
    assert b"replace_all" not in simulator.generations[-1].body
