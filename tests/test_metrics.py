"""Prometheus' view: what was asked, what came of it, and how the pool is; closed sets of labels."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from gemproxy.simulator import Hang, KeyState, Simulator, frames_answer
from tests.running import Running, configuration, running
from tests.server_process import configured, free_port, serving

CHAT = "/v1/chat/completions"


def body(model: str = "gemini-2.5-flash", stream: bool = False) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}


async def scraped(server: Running) -> dict[str, float]:
    async with server.session.get(server.url + "/metrics", headers={"Authorization": "Bearer sk-test"}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = (await response.text()).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


async def test_requests_attempts_and_tokens_are_counted(simulator: Simulator, tmp_path: Path) -> None:
    simulator.keys["test-key-1"] = KeyState.PER_DAY
    async with running(simulator, configuration(simulator, tmp_path, keys=2)) as server:
        await server.post(CHAT, body())
        await server.post(CHAT, body(stream=True))
        await server.post(CHAT, b"{")
        found = await scraped(server)
    assert found['gemproxy_requests_total{model="gemini-2.5-flash",status="200",stream="false"}'] == 1
    assert found['gemproxy_requests_total{model="gemini-2.5-flash",status="200",stream="true"}'] == 1
    assert found['gemproxy_upstream_attempts_total{upstream="ai_studio",verdict="ok"}'] == 2
    assert found['gemproxy_upstream_attempts_total{upstream="ai_studio",verdict="quota_day"}'] == 1
    assert found['gemproxy_tokens_total{kind="completion",model="gemini-2.5-flash"}'] > 0
    assert found['gemproxy_credential_state{credential="studio-1",state="cooling"}'] == 1
    assert found['gemproxy_credential_state{credential="studio-2",state="ready"}'] == 1
    assert found['gemproxy_cooldown_seconds{credential="studio-1"}'] > 60
    assert found["gemproxy_open_requests"] == 0
    assert found["gemproxy_first_byte_seconds_count"] == 2


async def test_no_client_makes_labels_of_its_own(simulator: Simulator, tmp_path: Path) -> None:
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        for number in range(5):
            await server.post(CHAT, body(f"gemini-9.{number}-made-up"))
        found = await scraped(server)
    assert [name for name in found if "made-up" in name] == []
    assert sum(value for name, value in found.items() if 'model="other"' in name and "requests_total" in name) == 5


async def test_without_the_library_the_route_says_what_to_install(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gemproxy.metrics", None)
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        status, found = await server.get("/metrics")
        assert (status, "'.[metrics]'" in found["error"]["message"]) == (404, True)
        assert (await server.post(CHAT, body()))[0] == 200


async def test_own_listener_needs_no_key_and_serves_nothing_else(simulator: Simulator, tmp_path: Path) -> None:
    own = free_port()
    listen = f'metrics_listen = "127.0.0.1:{own}"'
    toml = configured(simulator.ai_studio_url, '[auth]\nkeys = ["sk-test"]\n', server=listen)
    async with serving(tmp_path, toml) as server, aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{own}/metrics") as response:
            assert (response.status, "gemproxy_open_requests" in await response.text()) == (200, True)
        async with session.get(f"http://127.0.0.1:{own}/v1/models") as response:
            assert response.status == 404
        async with session.get(server.url + "/metrics") as response:
            assert response.status == 401


@pytest.mark.parametrize(
    ("said", "status"),
    [
        pytest.param(b"GET /metrics HTTP/1.1\r\nX: ", b" 408 ", id="headers that do not end"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000, b" 431 ", id="too many of them"),
    ],
)
async def test_own_listener_is_guarded_like_the_other(
    simulator: Simulator, tmp_path: Path, said: bytes, status: bytes
) -> None:
    own = free_port()
    toml = configured(
        simulator.ai_studio_url, "[timeouts]\nheaders = 0.3\n", server=f'metrics_listen = "127.0.0.1:{own}"'
    )
    async with serving(tmp_path, toml):
        reader, writer = await asyncio.open_connection("127.0.0.1", own)
        writer.write(said)
        assert status in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


async def test_own_listener_shows_a_drain_to_its_end(simulator: Simulator, tmp_path: Path) -> None:
    simulator.script(frames_answer([{"candidates": [{"content": {"parts": [{"text": "tick"}]}}]}]).then(Hang()))
    own = free_port()
    toml = configured(simulator.ai_studio_url, server=f'metrics_listen = "127.0.0.1:{own}"')
    async with (
        serving(tmp_path, toml) as server,
        aiohttp.ClientSession(
            headers={"Authorization": "Bearer sk-test"}, connector=aiohttp.TCPConnector(force_close=True)
        ) as session,
        session.post(server.url + CHAT, json=body(stream=True)) as response,
    ):
        await response.content.readuntil(b"tick")
        server.tell(signal.SIGTERM)
        while not await refused(server.port):
            pass
        for _ in range(10):
            async with session.get(f"http://127.0.0.1:{own}/metrics") as seen:
                assert "gemproxy_open_requests 1.0" in await seen.text()
            await asyncio.sleep(0.02)


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return True
    writer.close()
    return False
