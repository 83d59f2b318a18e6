"""The look at outgoing bodies sees what it is there to see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict

from gemproxy.simulator import Recorded, Simulator
from tests.outgoing import problems
from tests.running import configuration, running

GOOD = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def sent(body: Any, upstream: str = "ai_studio", agent: str = "gemproxy/1.0") -> Recorded:
    headers = CIMultiDictProxy(CIMultiDict({"User-Agent": agent}))
    request = Recorded("POST", "/x", "/x", headers, MultiDict(), msgspec.json.encode(body), 0.0)
    request.upstream, request.model = upstream, "gemini-2.5-flash"
    return request


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        pytest.param(sent(GOOD), [], id="a request as described"),
        pytest.param(sent(GOOD | {"user": "u"}), ["$.user is not known"], id="a field of OpenAI's"),
        pytest.param(sent(GOOD | {"tools": {}}), ["$.tools is no list"], id="a field of another type"),
        pytest.param(sent(GOOD | {"user": "u"}, agent="curl/8"), [], id="what a test sent itself"),
        pytest.param(sent({"project": "p", "request": GOOD}, "code_assist"), [], id="Code Assist's envelope comes off"),
        pytest.param(
            sent({"request": GOOD | {"user": "u"}}, "code_assist"), ["$.user is not known"], id="and is looked into"
        ),
    ],
)
def test_problems_tells_what_is_wrong(request_: Recorded, told: list[str]) -> None:
    assert [problem.partition(": ")[2] for problem in problems([request_])] == told


async def test_bodies_of_the_running_server_are_looked_at(simulator: Simulator, tmp_path: Path) -> None:
    body = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        status, _ = await server.post("/v1/chat/completions", body)
    assert status == 200
    [asked] = simulator.generations
    assert problems([asked]) == []
    asked.body = asked.body.replace(b'"contents"', b'"content"')
    assert problems([asked]) == ["ai_studio gemini-2.5-flash: $.content is not known"]
    simulator.clear()  # or the look at the end of this test would find it, too


def test_each_test_with_a_simulator_is_looked_at(request: pytest.FixtureRequest, simulator: Simulator) -> None:
    assert request.fixturenames[0] == "outgoing"
    assert simulator.generations == []
