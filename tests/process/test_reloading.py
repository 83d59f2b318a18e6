"""Reloading in one process: what a reload may do at any moment, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from gemproxy.config import Config, ConfigFault, load
from gemproxy.errors import ClientFault
from gemproxy.process import sockets, systemd
from gemproxy.process.ending import Ending
from gemproxy.process.reloading import Reloading
from gemproxy.process.serve import make_runner
from gemproxy.server.service import SERVICE
from gemproxy.simulator import Simulator, unary_answer
from gemproxy.wiring.reload import reload
from tests.running import KEY, Running, configuration, running
from tests.waiting import soon

KEYS = '[auth]\nkeys = ["sk-test"]\n'
CHAT = "/v1/chat/completions"
HELLO = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello"}], "stream": False}


def bound(host: str) -> socket.socket:
    """Return a socket as systemd hands it over."""
    sock = socket.socket()
    sock.bind((host, 0))
    return sock


@asynccontextmanager
async def listening(config: Config, sock: socket.socket) -> AsyncIterator[web.AppRunner]:
    runner = make_runner(config)
    await runner.setup()
    try:
        await sockets.listen(runner, config, [sock])
        yield runner
    finally:
        await runner.cleanup()


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemd is told."""
    told: list[str] = []
    monkeypatch.setattr(systemd, "notify", lambda state: told.append(state.partition("\n")[0]))
    return told


class Gate:
    """Stands in the place of a state's ``records`` and holds the reload that asks for them."""

    def __init__(self, app: web.Application, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.open = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(app[SERVICE].pool.state, "records", self.records)

    async def records(self) -> list[Any]:
        self.asked.set()
        await self.open.wait()
        return []


async def test_a_reload_does_not_take_the_keys_off_an_open_socket(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guarded, bare = configuration(simulator, tmp_path, KEYS), configuration(simulator, tmp_path)
    with bound("0.0.0.0") as sock:
        async with listening(guarded, sock) as runner:
            await Reloading(runner, guarded, lambda: bare).run()
            assert "reload refused" in caplog.text
            assert "the server listens on 0.0.0.0" in caplog.text
            with pytest.raises(ClientFault, match=r"not known to this server"):
                runner.app[SERVICE].door.auth.caller("Bearer anybody")


async def test_requests_meet_the_old_configuration_until_the_new_one_is_whole(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(simulator, tmp_path)
    renamed = replace(config, credentials=[replace(config.credentials[0], name="studio-9")])
    async with running(simulator, config) as server:
        gate = Gate(server.app, monkeypatch)
        async with asyncio.TaskGroup() as group:
            group.create_task(reload(server.app, renamed))
            await gate.asked.wait()
            status, body = await server.post(CHAT, HELLO)
            assert status == 200, body
            gate.open.set()
        assert (await server.post(CHAT, HELLO))[0] == 200


async def test_reloads_come_one_after_the_other(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: list[str]
) -> None:
    config = configuration(simulator, tmp_path)
    with bound("127.0.0.1") as sock:
        async with listening(config, sock) as runner, asyncio.TaskGroup() as group:
            gate, reloading = Gate(runner.app, monkeypatch), Reloading(runner, config, lambda: config)
            first, second = (group.create_task(reloading.run()) for _ in range(2))
            await gate.asked.wait()
            assert notes == ["RELOADING=1"]
            gate.open.set()
            await asyncio.gather(first, second)
    assert notes == ["RELOADING=1", "READY=1"] * 2


async def test_systemd_hears_the_end_of_a_reload_that_fails_by_a_bug(
    simulator: Simulator, tmp_path: Path, notes: list[str]
) -> None:
    def broken() -> Config:
        raise RuntimeError("a bug")

    config = configuration(simulator, tmp_path)
    with bound("127.0.0.1") as sock:
        async with listening(config, sock) as runner:
            with pytest.raises(RuntimeError):
                await Reloading(runner, config, broken).run()
    assert notes == ["RELOADING=1", "READY=1"]


async def test_a_reload_that_fails_by_a_bug_is_told(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Config:
        raise RuntimeError("a bug")

    config = configuration(simulator, tmp_path)
    with bound("127.0.0.1") as sock:
        async with listening(config, sock) as runner:
            Ending(Reloading(runner, config, broken), [])
            os.kill(os.getpid(), signal.SIGHUP)
            await soon(lambda: "reload failed" in caplog.text)
            for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().remove_signal_handler(number)
            assert runner.app[SERVICE].operations.reload_refused is not None
    assert "RuntimeError: a bug" in caplog.text


async def test_a_reload_does_not_wait_for_images_under_way(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, closing, fetched = configuration(simulator, tmp_path), asyncio.Event(), asyncio.Event()

    async def close() -> None:
        closing.set()
        await fetched.wait()

    async with running(simulator, config) as server:
        monkeypatch.setattr(server.app[SERVICE].images, "close", close)
        async with asyncio.timeout(5):
            await reload(server.app, config)
            await closing.wait()
        fetched.set()


async def test_the_limits_of_a_conversation_follow_a_reload(simulator: Simulator, tmp_path: Path) -> None:
    two = {**HELLO, "messages": HELLO["messages"] * 2}
    async with running(simulator, configuration(simulator, tmp_path)) as server:
        assert (await server.post(CHAT, two))[0] == 200
        await reload(server.app, configuration(simulator, tmp_path, "[server]\nmax_messages = 1\n"))
        status, answer = await server.post(CHAT, two)
        assert (status, b"server.max_messages" in answer) == (400, True)


async def test_a_reload_tells_what_is_new_and_what_is_not_used_any_more(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare, login = tmp_path / "bare.toml", tmp_path / "team.json"
    bare.write_text("")
    login.write_text('{"refresh_token": "fake-1", "client_id": "fake", "client_secret": "fake"}')
    team = f'[[credentials]]\nkind = "oauth"\nname = "team"\nfile = "{login}"\n'
    old = load(bare, {"GEMINI_API_KEY": "test-key-1"})
    new = configuration(simulator, tmp_path, KEYS + team + '[models]\naliases = { fast = "gemini-0" }')
    caplog.set_level(logging.INFO, "gemproxy")
    async with running(simulator, old) as server:
        reloading = Reloading(server.runner, old, lambda: new)
        await reloading.run()
        told = [record.getMessage() for record in caplog.records if record.name == "gemproxy"]
        assert told[-4:-1] == [
            "configuration reloaded; credentials: new team; clients: new key-1; models: new fast",
            'models.aliases.fast: no model "gemini-0" is listed; if Google has it, add it to models.extra',
            "GEMINI_API_KEY is set but no longer used: the new configuration takes nothing from it",
        ]
        login.write_text('{"refresh_token": "fake-2", "client_id": "fake", "client_secret": "fake"}')
        caplog.clear()
        await reloading.run()
        assert "configuration reloaded; new in its file: team" in caplog.messages


async def test_a_refused_reload_shows_until_one_is_taken(simulator: Simulator, tmp_path: Path) -> None:
    config, configs = configuration(simulator, tmp_path, KEYS), []

    def read() -> Config:
        if not configs:
            raise ConfigFault("/etc/secret.toml: server.port: wrong\nserver.host: wrong")
        return configs.pop()

    async def shown(server: Running) -> tuple[dict[str, Any], bool]:
        async with server.session.get(server.url + "/metrics", headers={"Authorization": f"Bearer {KEY}"}) as response:
            metrics = await response.text()
        return (await server.get("/ready"))[1], "gemproxy_config_last_reload_successful 1.0" in metrics

    async with running(simulator, config) as server:
        reloading = Reloading(server.runner, config, read)
        assert await shown(server) == ({"status": "ready", "state": "ok"}, True)
        await reloading.run()
        ready, successful = await shown(server)
        assert (ready["status"], successful) == ("ready", False)
        assert "was refused, an older configuration is in force" in ready["reload"]
        assert "secret" not in ready["reload"], "whoever asks /ready need not know what is configured"
        server.app[SERVICE].draining = True
        assert "was refused" in (await server.get("/ready"))[1]["reload"]
        server.app[SERVICE].draining = False
        configs.append(config)
        await reloading.run()
        assert await shown(server) == ({"status": "ready", "state": "ok"}, True)


async def test_what_needs_a_restart_is_named(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configuration(simulator, tmp_path)
    changed = configuration(simulator, tmp_path, '[server]\nport = 1\n[log]\nlevel = "debug"\n[timeouts]\ndrain = 1\n')
    with bound("127.0.0.1") as sock:
        async with listening(config, sock) as runner:
            caplog.set_level(logging.INFO, "gemproxy")
            reloading = Reloading(runner, config, lambda: changed)
            await reloading.run()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings[-1].getMessage() == "needs a restart: server.port, log.level"
    assert reloading.config.timeouts.drain == 1, "a drain is by the configuration in force"


# --------------------------------------------------------------------------------------------------------- discovery

FOUND = unary_answer({"models": [{"name": "models/nano-x", "supportedGenerationMethods": ["generateContent"]}]})
DISCOVER = "[models]\ndiscover = true\n"


async def test_discovered_models_outlive_a_reload(simulator: Simulator, tmp_path: Path) -> None:
    simulator.script(FOUND, method="models")
    config = configuration(simulator, tmp_path, DISCOVER)
    async with running(simulator, config) as server:
        service = server.app[SERVICE]
        await soon(lambda: "nano-x" in service.door.catalogue)
        await reload(server.app, config)
        assert "nano-x" in service.door.catalogue
    assert [request.call for request in simulator.requests] == ["models"]


async def test_a_reload_that_takes_the_keys_away_says_what_that_means(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guarded, bare = configuration(simulator, tmp_path, KEYS), configuration(simulator, tmp_path)
    async with running(simulator, guarded) as server:
        reloading = Reloading(server.runner, guarded, lambda: bare)
        await reloading.run()
        await reloading.run()
    assert caplog.text.count("no reverse proxy may stand in front") == 1


async def test_a_reload_that_may_not_read_something_is_refused(simulator: Simulator, tmp_path: Path) -> None:
    def locked() -> Config:
        raise PermissionError(13, "Permission denied", "/root/gemproxy.toml")

    config = configuration(simulator, tmp_path)
    async with running(simulator, config) as server:
        await Reloading(server.runner, config, locked).run()
        assert server.app[SERVICE].operations.reload_refused is not None
