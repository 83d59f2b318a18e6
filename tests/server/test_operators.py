"""The operators' routes over HTTP, and how a server says that it is not ready."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gemproxy.simulator import KeyState, Simulator
from tests.running import KEY, Running, configuration, running
from tests.test_pool_scenarios import config_text, configured

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
            assert "rests" in found["reason"]


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
