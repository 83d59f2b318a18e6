"""Thought signatures through Responses: five steps of tools with clients that send all items back, that drop reasoning,
that name the previous response, and that lose the arguments of calls, on each upstream.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.simulator import Recorded, Simulator
from tests.clients.test_signature_journeys import ASKED, NAMES, STEPS, installation, signed, statuses
from tests.converter.responses.response_events import events_of, folded
from tests.running import Running, configuration, running

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "name": name, "parameters": CITY} for name in NAMES]
SEALED = ["reasoning.encrypted_content"]
WAYS = pytest.mark.parametrize(
    "way",
    [
        pytest.param("all", id="all items back"),
        pytest.param("sealed", id="all items back, nothing kept here"),
        pytest.param("calls", id="reasoning dropped"),
        pytest.param("previous", id="the previous response named"),
        pytest.param("empty", id="calls back without their arguments"),
    ],
)


class Journey:
    """One conversation as a client leads it that sends back what its way is."""

    def __init__(self, way: str, *, stream: bool = False) -> None:
        self.way = way
        self.stream = stream
        self.items: list[dict[str, Any]] = [{"role": "user", "content": ASKED}]
        self.previous: str | None = None

    async def go(self, server: Running, model: str, steps: int) -> dict[str, Any]:
        """Take so many steps; return the last answer."""
        answer: dict[str, Any] = {}
        for _ in range(steps):
            answer = await self._ask(server, model)
            calls = [item for item in answer["output"] if item["type"] == "function_call"]
            outputs = [
                {"type": "function_call_output", "call_id": call["call_id"], "output": '{"done": true}'}
                for call in calls
            ]
            if self.way == "previous":
                self.items, self.previous = outputs, answer["id"]
            else:
                self.items += [kept for item in answer["output"] if (kept := self._kept(item)) is not None]
                self.items += outputs
        return answer

    def _kept(self, item: dict[str, Any]) -> dict[str, Any] | None:
        if self.way in ("calls", "empty") and item["type"] == "reasoning":
            return None
        if self.way == "empty" and item["type"] == "function_call":
            return {**item, "arguments": "{}"}
        return item

    async def _ask(self, server: Running, model: str) -> dict[str, Any]:
        body: dict[str, Any] = {"model": model, "input": self.items, "tools": TOOLS, "stream": self.stream}
        if self.way in ("all", "sealed"):
            body |= {"include": SEALED, "store": self.way == "all"}
        if self.previous is not None:
            body["previous_response_id"] = self.previous
        status, answer = await server.post("/v1/responses", body)
        assert status == 200, answer
        whole: dict[str, Any] = folded(events_of(answer)) if self.stream else msgspec.json.decode(answer)
        return whole


def cities(request: Recorded) -> list[str]:
    """Return what every call says that went out, those without a signature too."""
    parts = [part for content in request.json()["contents"] for part in content["parts"]]
    return [part["functionCall"]["args"]["city"] for part in parts if "functionCall" in part]


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
    assert [item["type"] for item in last["output"]][-1] == "message"
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(STEPS + 1)]
    assert cities(simulator.generations[-1]) == ["sample city", "sample city 1", *["sample city"] * (STEPS - 1)]
    assert statuses(simulator) == [200] * (STEPS + 1)


@WAYS
@pytest.mark.parametrize("kind", ["service_account", "oauth"])
async def test_five_steps_on_the_other_upstreams(simulator: Simulator, tmp_path: Path, kind: str, way: str) -> None:
    journey = Journey(way)
    async with running(simulator, installation(simulator, tmp_path, kind)) as server:
        await journey.go(server, "gemini-3.1-pro-preview", STEPS + 1)
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(STEPS + 1)]
    assert statuses(simulator) == [200] * (STEPS + 1)


@pytest.mark.parametrize("way", ["sealed", "previous"])
async def test_a_restart_in_the_middle_loses_no_signature(simulator: Simulator, tmp_path: Path, way: str) -> None:
    """Memory is gone then: the client carries them, or the state keeps them."""
    journey = Journey(way)
    kept = f'[responses]\nkeep = "state"\n[state]\npath = "{tmp_path}/state.db"\n'
    for steps in (2, STEPS - 1):
        async with running(simulator, configuration(simulator, tmp_path, kept)) as server:
            await journey.go(server, "gemini-3.5-flash", steps)
    assert signed(simulator.generations[-1]) == ["real"] * STEPS
    assert statuses(simulator) == [200] * (STEPS + 1)
