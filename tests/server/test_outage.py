"""Hosts that cannot be reached: one line in the log, and the reason wherever an operator or a client looks."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from gemproxy.config import Config
from gemproxy.simulator import KeyState, Simulator
from gemproxy.wiring.reload import reload
from tests.credential_files import service_account
from tests.running import KEY, Running, configuration, running
from tests.test_pool_scenarios import config_text, configured
from tests.unresolved import NAME, without_names
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("turned")  # waits cost no time

DAY = 86400.0
READY = {"status": "ready", "state": "ok"}
CLOCK_AGAIN = "this machine's clock is right again"
CHAT = "/v1/chat/completions"
HELLO = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello"}], "stream": False}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    without_names(monkeypatch)
    caplog.set_level(logging.INFO, "gemproxy")


def elsewhere(config: Config, **urls: str) -> Config:
    """Return the configuration with other addresses."""
    return msgspec.structs.replace(config, upstream=msgspec.structs.replace(config.upstream, **urls))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


async def unreachable(server: Running) -> dict[str, float]:
    """Return the metric's series: host and reason, and the value."""
    async with server.session.get(server.url + "/metrics", headers={"Authorization": f"Bearer {KEY}"}) as response:
        text = await response.text()
    found = re.findall(r'^gemproxy_upstream_unreachable\{host="(.*)",reason="(.*)"\} (\S+)$', text, re.MULTILINE)
    return {f"{host} {reason}": float(value) for host, reason, value in found}


async def test_a_name_that_does_not_resolve_is_told_everywhere(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = elsewhere(configuration(simulator, tmp_path, keys=2), ai_studio_url=f"https://{NAME}/v1beta")
    async with running(simulator, config) as server:
        assert (await server.get("/ready")) == (200, READY)
        told = [await server.post(CHAT, HELLO) for _ in range(3)]
        status, ready = await server.get("/ready")
        _, shown = await server.get("/v1/debug/cache")
        series = await unreachable(server)
    assert {status for status, _ in told} == {502}
    error = msgspec.json.decode(told[0][1])["error"]
    assert (error["code"], error["message"]) == (
        "upstream_error",
        "The upstream cannot be reached: the name does not resolve",
    )
    [view] = ready["unreachable"]
    assert (status, ready["status"], view["host"], view["reason"], view["out"]) == (503, "unready", NAME, "dns", True)
    assert NAME in ready["reason"]
    assert "does not resolve" in ready["reason"]
    assert "detail" not in view, "what may hold an address is for admins"
    assert [(row["reason"], row["detail"]) for row in shown["unreachable"]] == [("dns", "Name or service not known")]
    assert {row["last_error"] for row in shown["credentials"]} == {"dns"}
    assert shown["unreachable"][0]["failures"] == 9
    assert series == {f"{NAME} dns": 1.0}
    assert warnings(caplog) == [
        *[line for line in warnings(caplog) if "auth.keys" in line],
        f"cannot reach {NAME}: the name does not resolve (Name or service not known)",
    ]
    assert not [record for record in caplog.records if "attempt at" in record.message], "then it is counted"


async def test_a_server_comes_back_by_itself(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemproxy.wiring.build.HANDSHAKE_INTERVAL", 0.01)
    port = urlsplit(simulator.url).port or 0
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        await simulator.close()
        status, body = await server.post(CHAT, HELLO)
        message = msgspec.json.decode(body)["error"]["message"]
        assert (status, message) == (502, "The upstream cannot be reached: the connection is refused")
        assert (await server.get("/ready"))[0] == 503
        await simulator.start(port=port)
        before = len(simulator.requests)
        await _until_ready(server)
        assert len(simulator.requests) == before, "a handshake is no request"
        assert await unreachable(server) == {f"127.0.0.1:{port} refused": 0.0}
        assert (await server.post(CHAT, HELLO))[0] == 200
    assert "is reached again" in warnings(caplog)[-1]


async def _until_ready(server: Running) -> None:
    for _ in range(500):
        if (await server.get("/ready")) == (200, READY):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come back")


async def test_one_failure_is_told_but_a_server_stays_ready(simulator: Simulator, tmp_path: Path) -> None:
    more = "[rotation]\nattempts = 1\n"
    config = elsewhere(configuration(simulator, tmp_path, more), ai_studio_url=f"https://{NAME}/v1beta")
    async with running(simulator, config) as server:
        for expected in (200, 200, 503):
            await server.post(CHAT, HELLO)
            status, found = await server.get("/ready")
            assert status == expected
            assert found["unreachable"][0]["reason"] == "dns"


async def test_another_upstream_that_is_reached_keeps_a_server_ready(simulator: Simulator, tmp_path: Path) -> None:
    text = config_text(simulator, tmp_path, ["team"], ["b1"])
    config = elsewhere(configured(tmp_path, text), code_assist_url=f"https://{NAME}/v1internal")
    async with running(simulator, config) as server:
        for _ in range(3):
            assert (await server.post(CHAT, HELLO))[0] == 200
            await server.post("/v1/token-test", b"")
        status, found = await server.get("/ready")
        assert (status, [view["out"] for view in found["unreachable"]]) == (200, [True])
        simulator.keys["key-b1"] = KeyState.INVALID
        await server.post(CHAT, HELLO)
        assert (await server.get("/ready"))[0] == 503, "the one that is reached is parked"


async def test_a_token_endpoint_out_of_reach_is_told_alike(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemproxy.credentials.google_auth.RETRY_PAUSES", (0.0, 0.0))
    file = service_account(tmp_path / "robot.json")
    text = f'[[credentials]]\nname = "robot-%d"\nkind = "service_account"\nfile = "{file}"\n'
    config = configured(tmp_path, "\n".join(text % number for number in (1, 2)))
    urls: dict[str, Any] = {"vertex_url": simulator.vertex_url, "token_url": f"https://{NAME}/token"}
    async with running(simulator, elsewhere(config, **urls)) as server:
        status, body = await server.post(CHAT, HELLO)
        message = msgspec.json.decode(body)["error"]["message"]
        assert (status, message) == (502, "Google's token endpoint cannot be reached: the name does not resolve")
        assert (await server.get("/ready"))[0] == 503
        assert await unreachable(server) == {f"{NAME} dns": 1.0}
    assert [line for line in warnings(caplog) if "auth.keys" not in line] == [
        f"cannot reach {NAME}: the name does not resolve (Name or service not known)"
    ]


async def test_a_reload_forgets_hosts_that_nobody_needs_any_more(simulator: Simulator, tmp_path: Path) -> None:
    text = config_text(simulator, tmp_path, ["team"], ["b1"])
    config = elsewhere(configured(tmp_path, text), code_assist_url=f"https://{NAME}/v1internal")
    async with running(simulator, config) as server:
        await server.post(CHAT, HELLO)
        assert (await server.get("/v1/debug/cache"))[1]["unreachable"]
        await reload(server.app, config)
        assert (await server.get("/v1/debug/cache"))[1]["unreachable"], "it is needed as before"
        await reload(server.app, msgspec.structs.replace(config, credentials=config.credentials[1:]))
        assert (await server.get("/v1/debug/cache"))[1]["unreachable"] == []
        assert (await server.get("/ready")) == (200, READY)


@pytest.mark.parametrize("discover", [True, False])
async def test_discovery_finds_it_out_as_well(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, discover: bool
) -> None:
    more = f"[models]\ndiscover = {str(discover).lower()}\n"
    config = elsewhere(configuration(simulator, tmp_path, more), ai_studio_url=f"https://{NAME}/v1beta")
    async with running(simulator, config) as server:
        if discover:
            await soon(
                lambda: any(
                    "tells no models (the name does not resolve (Name or service not known))" in each
                    for each in _lines(caplog)
                )
            )
        _, shown = await server.get("/v1/debug/cache")
        assert [view["failures"] for view in shown["unreachable"]] == [1] * discover


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


async def test_the_test_of_all_tokens_says_why(simulator: Simulator, tmp_path: Path) -> None:
    config = elsewhere(configuration(simulator, tmp_path), ai_studio_url=f"https://{NAME}/v1beta")
    async with running(simulator, config) as server:
        status, body = await server.post("/v1/token-test", b"")
    [row] = msgspec.json.decode(body)["results"]
    assert (status, row["detail"]) == (500, "dns: the name does not resolve (Name or service not known)")


# ---------------------------------------------------------------------------------------------------------- the clock


async def test_a_wrong_clock_is_told_and_parks_no_service_account(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = service_account(tmp_path / "robot.json")
    text = f'[[credentials]]\nname = "robot"\nkind = "service_account"\nfile = "{file}"\n'
    async with Simulator(lambda: time.time() + 2 * DAY) as google:  # noqa: TID251 - what time it is there
        urls: dict[str, Any] = {"vertex_url": google.vertex_url, "token_url": google.token_url}
        async with running(google, elsewhere(configured(tmp_path, text), **urls)) as server:
            told = [await server.post(CHAT, HELLO) for _ in range(2)]
            status, ready = await server.get("/ready")
            _, shown = await server.get("/v1/debug/cache")
            google.clock = google.accounts.clock = time.time  # noqa: TID251
            await server.post("/v1/token-test", b"")
            assert (await server.get("/ready")) == (200, READY)
            assert (await server.post(CHAT, HELLO))[0] == 200
    words = "this machine's clock is 2 days behind Google's"
    assert {(status, msgspec.json.decode(body)["error"]["message"]) for status, body in told} == {
        (503, f"Google refused a signed request: {words}.")
    }
    assert (status, ready) == (200, READY | {"clock": words})
    assert shown["clock"]["message"] == words
    assert shown["clock"]["ahead_seconds"] == pytest.approx(-2 * DAY, abs=60)
    [row] = shown["credentials"]
    assert (row["state"], row["last_error"]) == ("ready", "clock")
    assert [line for line in warnings(caplog) if "auth.keys" not in line] == [words, CLOCK_AGAIN]


async def test_a_refusal_of_a_key_tells_the_time_as_well(tmp_path: Path) -> None:
    async with Simulator(lambda: time.time() - DAY) as google:  # noqa: TID251
        google.keys["test-key-1"] = KeyState.PER_MINUTE
        async with running(google, configuration(google, tmp_path)) as server:
            await server.post(CHAT, HELLO)
            assert (await server.get("/ready"))[1]["clock"] == "this machine's clock is 24 hours ahead of Google's"
