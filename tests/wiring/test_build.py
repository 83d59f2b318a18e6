"""The rooms as the wiring opens them, and what they do now and again."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gemproxy.aiohttp_parts import PLAIN
from gemproxy.config import load
from gemproxy.server.service import SERVICE
from gemproxy.simulator import Simulator, unary_answer
from gemproxy.state.memory import MemoryState
from gemproxy.transport.connections import Connector, PlainConnector
from gemproxy.transport.reaching import Lookout
from gemproxy.wiring import build
from gemproxy.wiring.build import _session, build_service
from tests.running import configuration, running
from tests.waiting import soon

KEYS = '[auth]\nkeys = ["sk-test"]\n'
CHAT = "/v1/chat/completions"
HELLO = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello"}], "stream": False}
FOUND = unary_answer({"models": [{"name": "models/nano-x", "supportedGenerationMethods": ["generateContent"]}]})


async def test_a_machine_that_slept_does_not_take_its_clock_for_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = {time.CLOCK_MONOTONIC: 0.0, time.CLOCK_BOOTTIME: 0.0}
    monkeypatch.setattr(time, "clock_gettime", slept.__getitem__)
    monkeypatch.setattr(build, "wall_clock", lambda: 2e9 + slept[time.CLOCK_BOOTTIME])
    async with AsyncExitStack() as stack:
        skew = (await build_service(load(None, {"GEMINI_API_KEY": "test-key-1"}), stack)).pool.lookout.skew
        skew.note({"Date": formatdate(2e9, usegmt=True)})
        slept[time.CLOCK_BOOTTIME] = 8 * 3600.0
        assert skew.words == ""


async def test_what_asks_google_keeps_clean_connections_only_and_unpacks_nothing() -> None:
    config, clock = load(None, {"GEMINI_API_KEY": "test-key-1"}), asyncio.get_running_loop().time
    async with _session(config, Lookout(clock, clock)) as session:
        assert isinstance(session.connector, PlainConnector if PLAIN else Connector)
        assert session.auto_decompress is False


async def test_learning_from_other_processes_goes_on_after_a_bug(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gemproxy.wiring.build.LEARN_INTERVAL", 0.01)
    asked: list[int] = []

    async def news(state: MemoryState) -> list[Any]:
        asked.append(len(asked))
        if len(asked) in (2, 3):
            raise RuntimeError("a bug")
        return []

    monkeypatch.setattr(MemoryState, "news", news)
    async with running(simulator, configuration(simulator, tmp_path)):
        await soon(lambda: len(asked) > 5)
    assert caplog.text.count("RuntimeError: a bug") == 1


async def test_a_chat_does_not_pass_the_router_and_all_else_does(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = []
    resolve = web.UrlDispatcher.resolve

    async def noted(router: web.UrlDispatcher, request: web.Request) -> Any:
        if "/models/" not in request.path:  # which is the simulator's
            passed.append((request.method, request.path))
        return await resolve(router, request)

    monkeypatch.setattr(web.UrlDispatcher, "resolve", noted)
    async with running(simulator, configuration(simulator, tmp_path, KEYS)) as server:
        for path in (CHAT, "/chat/completions", f"{CHAT}?beta=true"):
            assert (await server.post(path, HELLO))[0] == 200
        assert passed == []
        assert (await server.get(CHAT))[0] == 405
        assert (await server.get("/v1/models"))[0] == 200
        assert (await server.post(CHAT, HELLO, {"Expect": "100-continue"}))[0] == 200
        assert passed == [("GET", CHAT), ("GET", "/v1/models"), ("POST", CHAT)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"x":' + b"[" * 100_000, id="nested too deep"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b"[]", id="another shape"),
        pytest.param(
            b'{"models":[{"name":"models/gemini-%s","supportedGenerationMethods":["generateContent"]}]}'
            % (b"9" * 5000),
            id="a name that is none",
        ),
    ],
)
async def test_discovery_goes_on_after_a_bad_answer(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr("gemproxy.wiring.build.INTERVAL", 0.01)
    simulator.script(unary_answer(body), method="models")
    simulator.script(FOUND, method="models", times=None)
    async with running(simulator, configuration(simulator, tmp_path, "[models]\ndiscover = true\n")) as server:
        await soon(lambda: "nano-x" in server.app[SERVICE].door.catalogue)
