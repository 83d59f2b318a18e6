"""The operators' routes over HTTP, and how a server says that it is not ready."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from gemproxy.server.auth import Caller
from gemproxy.server.service import SERVICE
from gemproxy.simulator import Answer, Hang, KeyState, Simulator
from tests.running import KEY, Running, configuration, running
from tests.test_pool_scenarios import config_text, configured
from tests.waiting import soon

CHAT = "/v1/chat/completions"
MODEL = "gemini-2.5-flash"
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": False}


@pytest.fixture
async def server(simulator: Simulator) -> AsyncIterator[Running]:
    async with running(simulator) as started:
        yield started


async def test_the_pool_is_shown_with_its_tokens_and_counts(simulator: Simulator, tmp_path: Path) -> None:
    async with running(simulator, configured(tmp_path, config_text(simulator, tmp_path, ["team"], ["b1"]))) as server:
        assert (await server.post(CHAT, HELLO))[0] == 200
        status, found = await server.get("/v1/debug/cache")
    team, b1 = found["credentials"]
    assert (status, found["status"]) == (200, "ok")
    assert (team["name"], team["kind"], team["pool"], team["state"]) == ("team", "oauth", "primary", "ready")
    assert (b1["name"], b1["kind"], b1["pool"], b1["state"]) == ("b1", "api_key", "backup", "ready")
    assert (team["in_flight"], team["served"], team["failed"], b1["served"]) == (0, 1, 0, 0)
    assert team["token"]["cached"] is True
    assert 0 < team["token"]["seconds_left"] <= 3600
    shown = msgspec.json.encode(found).decode()
    assert not [secret for secret in ("refresh-", "sim-access", "key-b1", "@", "sim-project") if secret in shown]


async def test_token_test_tells_which_credential_fails(simulator: Simulator, tmp_path: Path) -> None:
    simulator.keys["test-key-2"] = KeyState.INVALID
    async with running(simulator, configuration(simulator, tmp_path, keys=3)) as server:
        status, body = await server.post("/v1/token-test", b"")
    found = msgspec.json.decode(body)
    assert (status, found["status"], found["error"]["code"]) == (500, "error", "credentials_failed")
    assert "studio-2" in found["error"]["message"]
    rows = [(row["credential"], row["step"], row["ok"]) for row in found["results"]]
    assert rows == [("studio-1", "token", True), ("studio-2", "token", False), ("studio-3", "token", True)]
    assert not [request for request in simulator.requests if request.call != "models"], "no model tokens are spent"


async def test_not_ready_while_all_rest_says_until_when(simulator: Simulator, tmp_path: Path) -> None:
    simulator.keys["test-key-1"] = KeyState.PER_MINUTE
    config = configuration(simulator, tmp_path)
    held = msgspec.structs.replace(config.credentials[0], models=[MODEL])
    async with running(simulator, msgspec.structs.replace(config, credentials=[held])) as server:
        assert (await server.post(CHAT, HELLO))[0] == 429
        async with server.session.get(server.url + "/ready") as response:
            found = await response.json()
            assert (response.status, found["status"]) == (503, "unready")
            assert 0 < found["returns_in"] <= int(response.headers["Retry-After"]) <= 60
            assert re.fullmatch(r"Every credential rests; the first returns in \d+ s\.", found["reason"])


@pytest.mark.parametrize(
    ("state", "words"),
    [
        pytest.param(KeyState.PER_DAY, r"resting; the first returns in \d+ (h|min|s)\b", id="all rest"),
        pytest.param(KeyState.INVALID, "out of service until the operator acts", id="all are parked"),
    ],
)
async def test_that_nobody_can_serve_is_a_warning_once(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, state: KeyState, words: str
) -> None:
    caplog.set_level(logging.INFO, "gemproxy")
    simulator.keys["test-key-1"] = state
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        for _ in range(3):
            assert (await server.post(CHAT, HELLO))[0] in (429, 503)
    told = [record for record in caplog.records if "request" in record.msg and re.search(words, record.getMessage())]
    assert [record.levelname for record in told] == ["WARNING"]


@pytest.mark.parametrize("parked", [False, True])
async def test_trouble_with_the_state_is_told_wherever_operators_look(
    simulator: Simulator, tmp_path: Path, parked: bool
) -> None:
    simulator.keys["test-key-1"] = KeyState.INVALID if parked else KeyState.OK
    folder = tmp_path / "state.db"
    folder.mkdir()
    config = configuration(simulator, tmp_path, f'[state]\npath = "{folder}"\n')
    async with running(simulator, config) as server:
        assert (await server.post(CHAT, HELLO))[0] == (503 if parked else 200), "no request fails by it"
        assert (await server.get("/ready"))[0] == (503 if parked else 200)
        assert (await server.get("/ready"))[1]["state"] == "lost"
        found = (await server.get("/v1/debug/cache"))[1]["state"]
        assert (found["backend"], found["ok"], "directory" in found["why"]) == ("sqlite", False, True)
        assert "gemproxy_state_up 0.0" in await metrics(server)
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        assert (await server.get("/ready"))[1] == {"status": "ready", "state": "ok"}
        assert (await server.get("/v1/debug/cache"))[1]["state"] == {"backend": "memory", "ok": True, "why": ""}
        assert "gemproxy_state_up 1.0" in await metrics(server)


async def metrics(server: Running) -> str:
    async with server.session.get(server.url + "/metrics", headers={"Authorization": f"Bearer {KEY}"}) as response:
        return await response.text()


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MODEL}", "/v1/debug/cache", "/metrics"])
async def test_head_works_where_get_does(server: Running, path: str) -> None:
    for headers, status in (({"Authorization": f"Bearer {KEY}"}, 200), ({}, 401)):
        async with server.session.head(server.url + path, headers=headers) as response:
            assert (response.status, await response.read()) == (status, b"")


@pytest.mark.parametrize(("method", "path"), [("POST", "/token-test"), ("POST", "/test"), ("GET", "/debug/cache")])
async def test_operators_routes_stand_under_the_bare_path_too(server: Running, method: str, path: str) -> None:
    for headers, status in (({"Authorization": f"Bearer {KEY}"}, 200), ({}, 401)):
        async with server.session.request(method, server.url + path, headers=headers) as response:
            found = await response.json()
            assert response.status == status, found
            assert ("error" in found) is (status == 401)


# ------------------------------------------------------------------------------------------- the limits of a caller


CLIENTS = """
[[auth.clients]]
name = "small"
key = "sk-small"
models = ["gemini-2.5-flash"]
requests_per_minute = 3
"""
SMALL = {"Authorization": "Bearer sk-small"}
CHECKS = ["/v1/test", "/v1/token-test"]


def error_of(body: bytes) -> dict[str, str]:
    return msgspec.json.decode(body)["error"]


@pytest.mark.parametrize("path", CHECKS)
async def test_checkup_counts_against_the_limits_of_its_caller(simulator: Simulator, tmp_path: Path, path: str) -> None:
    async with running(simulator, configuration(simulator, tmp_path, CLIENTS)) as server:
        told = [(await server.post(path, b"", SMALL))[0] for _ in range(4)]
        spent = len(simulator.requests)
        status, body = await server.post(path, b"", SMALL)
        assert told == [200, 200, 200, 429]
        assert (status, error_of(body)["code"]) == (429, "rate_limit_exceeded")
        assert "auth.clients.requests_per_minute" in error_of(body)["message"]
        assert len(simulator.requests) == spent
        assert (await server.post(CHAT, HELLO, SMALL))[0] == 429, "chats and checkups share one minute"


@pytest.mark.parametrize("path", CHECKS)
@pytest.mark.parametrize("state", ["max_requests", "max_concurrent", "refusing"])
async def test_checkup_beyond_a_limit_is_refused_at_once(
    simulator: Simulator, tmp_path: Path, path: str, state: str
) -> None:
    more = CLIENTS.replace("requests_per_minute = 3", "max_concurrent = 1")
    async with running(simulator, configuration(simulator, tmp_path, more)) as server:
        service = server.app[SERVICE]
        service.refusing = state == "refusing"
        if state == "max_requests":
            service.door, service.open_requests = replace(service.door, max_requests=1), 1
        if state == "max_concurrent":
            service.client_limits.enter(Caller("small", max_concurrent=1), 0.0)
        status, body = await server.post(path, b"", SMALL)
        assert status == (429 if state == "max_concurrent" else 503)
        assert state == "refusing" or state in error_of(body)["message"]
        assert not simulator.requests


@pytest.mark.parametrize(
    ("query", "held", "status", "asked"),
    [
        pytest.param("", "", 200, {"gemini-2.5-flash"}, id="none named: the first of its own"),
        pytest.param("?model=gemini-2.5-flash", "", 200, {"gemini-2.5-flash"}, id="its own"),
        pytest.param("?model=gemini-2.5-pro", "", 403, set(), id="another's"),
        pytest.param("", 'models = ["gemini-2.5-pro"]', 200, set(), id="a credential that has none of its own"),
        pytest.param(
            "",
            'models = ["gemini-2.5-flash", "gemini-2.0-flash"]',
            200,
            {"gemini-2.5-flash"},
            id="a credential that has others, too",
        ),
    ],
)
async def test_checkup_asks_only_models_that_its_caller_may_use(
    simulator: Simulator, tmp_path: Path, query: str, held: str, status: int, asked: set[str]
) -> None:
    config = configuration(simulator, tmp_path, CLIENTS)
    credential = msgspec.structs.replace(
        config.credentials[0], models=msgspec.toml.decode(held or "models = []")["models"]
    )
    async with running(simulator, msgspec.structs.replace(config, credentials=[credential])) as server:
        told, body = await server.post("/v1/test" + query, b"", SMALL)
    assert told == status
    assert {request.model for request in simulator.generations} == asked
    assert status == 200 or error_of(body)["code"] == "model_not_allowed"


@pytest.mark.parametrize(("first", "second"), [CHECKS, CHECKS[::-1]])
async def test_checkups_run_one_at_a_time(simulator: Simulator, server: Running, first: str, second: str) -> None:
    simulator.script(Answer().after(Hang()), method="models")
    running_one = asyncio.get_running_loop().create_task(server.post(first, b""))
    await soon(lambda: simulator.requests)
    for path in (first, second):
        async with server.session.post(server.url + path, headers={"Authorization": f"Bearer {KEY}"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "5")
            assert "runs already" in (await response.json())["error"]["message"]
    running_one.cancel()
    await soon(lambda: not server.app[SERVICE].open_requests)
    assert (await server.post(second, b""))[0] == 200, "one that was left makes room for the next"


async def test_checkup_ends_with_its_client(simulator: Simulator, tmp_path: Path) -> None:
    async with running(simulator, configuration(simulator, tmp_path, keys=3)) as server:
        simulator.script(Answer().after(Hang()))
        leaving = asyncio.get_running_loop().create_task(server.post("/v1/test", b""))
        await soon(lambda: simulator.generations)
        leaving.cancel()
        await soon(lambda: simulator.generations[0].disconnected)
        await soon(lambda: not server.app[SERVICE].open_requests)
        await asyncio.sleep(0.05)
        assert len(simulator.generations) == 1
