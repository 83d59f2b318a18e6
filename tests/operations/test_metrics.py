"""Prometheus' view: what was asked, what came of it, and how the pool is; closed sets of labels."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from gemproxy.process.scrapes import listen_for_scrapes
from gemproxy.process.sockets import bind
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


def test_an_upstream_makes_only_so_many_labels_of_its_own() -> None:
    from gemproxy.operations.metrics import MOST_VERDICTS, Metrics

    metrics = Metrics(list, lambda: 0)
    metrics.attempt("ai_studio", "ok")
    for number in range(10_000):
        metrics.attempt("code_assist", f"invented_{number}")
    metrics.attempt("ai_studio", "ok")
    lines = metrics.text().decode().splitlines()
    attempts = [line for line in lines if line.startswith("gemproxy_upstream_attempts_total{")]
    assert len(attempts) <= MOST_VERDICTS + 2
    assert 'gemproxy_upstream_attempts_total{upstream="ai_studio",verdict="ok"} 2.0' in attempts
    assert any('verdict="other"' in line for line in attempts)


async def test_without_the_library_the_route_says_what_to_install(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gemproxy.operations.metrics", None)
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
        assert status in await asyncio.wait_for(reader.readline(), 60)
        writer.close()


async def test_own_listener_takes_only_so_many_connections_for_so_long(simulator: Simulator, tmp_path: Path) -> None:
    own = free_port()
    listen = f'max_connections = 2\nmetrics_listen = "127.0.0.1:{own}"'
    toml = configured(simulator.ai_studio_url, "[timeouts]\nkeepalive = 0.3\n", server=listen)
    async with serving(tmp_path, toml):
        held = [await asyncio.open_connection("127.0.0.1", own) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in await reader.readline()
        reader, writer = await asyncio.open_connection("127.0.0.1", own)
        told = await asyncio.wait_for(reader.read(), 60)
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"server.max_connections" in told
        writer.close()
        for reader, writer in held:
            assert (await asyncio.wait_for(reader.read(), 60)).count(b"gemproxy_open_requests") > 1, (
                "an idle one is closed"
            )
            writer.close()


async def test_own_listener_without_the_library_says_what_to_install(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "gemproxy.operations.metrics", None)
    own = free_port()
    config = configuration(simulator, tmp_path, f'[server]\nmetrics_listen = "127.0.0.1:{own}"\n')
    async with running(simulator, config) as server, AsyncExitStack() as stack:
        await listen_for_scrapes(stack, server.app, config, bind("127.0.0.1", own, reuse_port=False))
        async with server.session.get(f"http://127.0.0.1:{own}/metrics") as response:
            assert (response.status, "'.[metrics]'" in await response.text()) == (404, True)
    assert not caplog.messages


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
