"""Thought signatures on long journeys: five steps of tools, with clients that keep or drop what they do not know, while
models change, upstreams fail over and the proxy starts anew. The simulated Gemini signs per upstream and model family,
demands signatures as Google does and refuses foreign ones (docs/protocol.md 6).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.config import Config
from gemproxy.simulator import KeyState, Recorded, Simulator
from tests.clients.logins import credential
from tests.folding import chunks, fold
from tests.running import Running, configuration, running

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in NAMES]
ASKED = "call alpha and beta then gamma then delta then epsilon then alpha"
STEPS = 5
SKIP = "skip_thought_signature_validator"
OPENAI = {"role", "content", "tool_calls", "id", "type", "function", "name", "arguments", "tool_call_id"}
GOOGLE = OPENAI | {"extra_content", "google", "thought_signature"}
KEEPERS = pytest.mark.parametrize(
    "known",
    [
        pytest.param(None, id="a client that keeps everything"),
        pytest.param(GOOGLE, id="a client that keeps what Google documents"),
        pytest.param(OPENAI, id="a client that keeps what OpenAI documents"),
    ],
)
Known = set[str] | None


def only(value: Any, known: Known) -> Any:
    """Return what a client keeps of an answer that knows these names only; None: all."""
    if isinstance(value, list):
        return [only(item, known) for item in value]
    if not isinstance(value, dict) or known is None:
        return value
    return {key: only(held, known) for key, held in value.items() if key in known}


class Journey:
    """One conversation as a client leads it: it sends back what it kept, and a result for every call."""

    def __init__(self, known: Known, *, stream: bool = False) -> None:
        self.known = known
        self.stream = stream
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": ASKED}]

    async def go(self, server: Running, model: str, steps: int) -> str:
        """Take so many steps; return how the last answer finished."""
        finish = ""
        for _ in range(steps):
            choice = await self._ask(server, model)
            finish, message = choice["finish_reason"], only(choice["message"], self.known)
            self.messages.append(message)
            for call in message.get("tool_calls", ()):
                self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": '{"done": true}'})
        return finish

    async def _ask(self, server: Running, model: str) -> dict[str, Any]:
        body = {"model": model, "messages": self.messages, "tools": TOOLS, "stream": self.stream}
        status, answer = await server.post("/v1/chat/completions", body)
        assert status == 200, answer
        choice: dict[str, Any] = (fold(chunks(answer)) if self.stream else msgspec.json.decode(answer))["choices"][0]
        return choice


def signed(request: Recorded) -> list[str]:
    """Return how the first call of each step is signed in what went out: real, skip or "-" for not at all."""
    body = request.json()
    found = []
    for content in (body.get("request") or body)["contents"]:
        calls = [part for part in content["parts"] if "functionCall" in part]
        if calls:
            signature = calls[0].get("thoughtSignature", "-")
            found.append(signature if signature == "-" else "skip" if signature == SKIP else "real")
            assert all("thoughtSignature" not in call for call in calls[1:]), "only the first call carries one"
    return found


def statuses(simulator: Simulator) -> list[int | None]:
    return [request.status for request in simulator.generations]


@KEEPERS
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-2.5-pro", "gemini-3.5-flash", "gemini-3.1-pro-preview"])
async def test_five_steps_keep_every_signature(
    simulator: Simulator, tmp_path: Path, model: str, stream: bool, known: Known
) -> None:
    journey = Journey(known, stream=stream)
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        assert await journey.go(server, model, STEPS) == "tool_calls"
        assert await journey.go(server, model, 1) == "stop"
    assert [signed(request) for request in simulator.generations] == [["real"] * n for n in range(STEPS + 1)]
    assert statuses(simulator) == [200] * (STEPS + 1)


@KEEPERS
@pytest.mark.parametrize(
    ("first", "second", "before"),
    [
        pytest.param("gemini-2.5-flash", "gemini-3.5-flash", "skip", id="from 2.5 to 3.x"),
        pytest.param("gemini-3.5-flash", "gemini-3.8-flash", "skip", id="from 3.x to 3.y"),
        pytest.param("gemini-3.8-flash", "gemini-3.1-pro-preview", "skip", id="from flash to pro"),
        pytest.param("gemini-3.5-flash", "gemini-2.5-flash", "-", id="from 3.x to 2.5"),
        pytest.param("gemini-3.5-flash", "gemini-3.5-flash", "real", id="to itself"),
    ],
)
async def test_a_switch_of_models_in_the_middle(
    simulator: Simulator, tmp_path: Path, first: str, second: str, before: str, known: Known
) -> None:
    journey = Journey(known)
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        await journey.go(server, first, 2)
        assert await journey.go(server, second, STEPS - 2 + 1) == "stop"
    assert signed(simulator.generations[-1]) == [before] * 2 + ["real"] * 3
    assert statuses(simulator) == [200] * (STEPS + 1)


# ------------------------------------------------------------------------------------------- from upstream to upstream


def installation(simulator: Simulator, folder: Path, *kinds: str) -> Config:
    """Return a configuration with a credential of each of these kinds, the second in reserve."""
    more = "".join(credential(folder, kind, "primary" if place == 0 else "backup") for place, kind in enumerate(kinds))
    oauth = '[oauth]\nclient_id = "fake-client"\nclient_secret = "fake-secret"\n'
    return configuration(simulator, folder, oauth + more, keys=0)


UPSTREAMS = {"service_account": "vertex", "oauth": "code_assist"}


@KEEPERS
@pytest.mark.parametrize("kind", ["service_account", "oauth"])
@pytest.mark.parametrize(("model", "before"), [("gemini-3.5-flash", "skip"), ("gemini-2.5-flash", "-")])
async def test_a_fail_over_to_another_upstream_in_the_middle(
    simulator: Simulator, tmp_path: Path, kind: str, model: str, before: str, known: Known
) -> None:
    journey = Journey(known)
    async with running(simulator, installation(simulator, tmp_path, "api_key", kind)) as server:
        await journey.go(server, model, 2)
        simulator.keys["test-key-1"] = KeyState.PER_DAY
        assert await journey.go(server, model, STEPS - 2 + 1) == "stop"
    asked = simulator.generations
    assert [request.upstream for request in asked] == ["ai_studio"] * 3 + [UPSTREAMS[kind]] * 4
    assert statuses(simulator) == [200, 200, 429, 200, 200, 200, 200]
    assert signed(asked[3]) == [before] * 2
    assert signed(asked[-1]) == [before] * 2 + ["real"] * 3


@pytest.mark.parametrize("kind", ["service_account", "oauth"])
async def test_a_way_there_and_back(simulator: Simulator, tmp_path: Path, kind: str) -> None:
    """What was signed here first can be read here again, what was signed elsewhere cannot."""
    journey = Journey(None)
    async with running(simulator, installation(simulator, tmp_path, "api_key", kind)) as server:
        await journey.go(server, "gemini-3.5-flash", 2)
        simulator.keys["test-key-1"] = KeyState.INVALID
        await journey.go(server, "gemini-3.5-flash", 2)
        simulator.keys["test-key-1"] = KeyState.OK
        status, _ = await server.post("/v1/token-test", b"")
        assert status == 200
        await journey.go(server, "gemini-3.5-flash", 1)
    assert [request.upstream for request in simulator.generations][-1] == "ai_studio"
    assert signed(simulator.generations[-1]) == ["real", "real", "skip", "skip"]


# ----------------------------------------------------------------------------------------------- over a restart


@pytest.mark.parametrize(
    ("known", "before"),
    [
        pytest.param(None, "real", id="a client that keeps everything"),
        pytest.param(GOOGLE, "real", id="a client that keeps what Google documents"),
        pytest.param(OPENAI, "skip", id="a client that keeps what OpenAI documents"),
    ],
)
async def test_a_restart_in_the_middle(simulator: Simulator, tmp_path: Path, known: Known, before: str) -> None:
    journey = Journey(known)
    for steps in (2, STEPS - 2 + 1):
        async with running(simulator, configuration(simulator, tmp_path)) as server:
            finish = await journey.go(server, "gemini-3.5-flash", steps)
    assert finish == "stop"
    assert signed(simulator.generations[-1]) == [before] * 2 + ["real"] * 3
    assert statuses(simulator) == [200] * (STEPS + 1)


@pytest.mark.parametrize("kind", ["service_account", "oauth"])
@pytest.mark.parametrize(
    ("known", "refused"),
    [
        pytest.param(None, 0, id="a client that keeps everything"),
        pytest.param(GOOGLE, 1, id="a client that loses where a signature was made"),
        pytest.param(OPENAI, 0, id="a client that keeps what OpenAI documents"),
    ],
)
async def test_a_restart_onto_another_upstream(
    simulator: Simulator, tmp_path: Path, kind: str, known: Known, refused: int
) -> None:
    """Nobody knows any more where the signature was made: it is tried, refused and replaced with every request, since
    what one history taught must not change another; the client sees none of it.
    """
    journey = Journey(known)
    async with running(simulator, installation(simulator, tmp_path, "api_key")) as server:
        await journey.go(server, "gemini-3.5-flash", 2)
    async with running(simulator, installation(simulator, tmp_path, kind)) as server:
        assert await journey.go(server, "gemini-3.5-flash", STEPS - 2 + 1) == "stop"
    assert statuses(simulator) == [200, 200] + ([400] * refused + [200]) * (STEPS - 2 + 1)
    assert signed(simulator.generations[-1])[:2] == ["skip", "skip"]
