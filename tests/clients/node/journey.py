"""Five steps of tools: what must have reached Gemini when a client has taken them."""

from __future__ import annotations

from typing import Any

from gemproxy.simulator import Simulator
from tests.clients.test_signature_journeys import STEPS, signed, statuses

MODEL = "gemini-3.5-flash"  # it refuses a call that is not signed


def assert_whole(simulator: Simulator, steps: int = STEPS) -> None:
    """Every call went back with its own signature and with the arguments that this was made for."""
    asked = simulator.generations
    assert [signed(request) for request in asked] == [["real"] * number for number in range(steps + 1)]
    assert statuses(simulator) == [200] * (steps + 1)
    cities = [call["args"]["city"] for call in calls(simulator)]
    assert cities == ["sample city", "sample city 1", *["sample city"] * (steps - 1)]


def calls(simulator: Simulator) -> list[dict[str, Any]]:
    """Return the calls in the last request."""
    turns = simulator.generations[-1].json()["contents"]
    return [part["functionCall"] for turn in turns for part in turn["parts"] if "functionCall" in part]
