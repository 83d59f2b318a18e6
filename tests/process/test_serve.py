"""Listening and reloading in one process: where a server may listen, and what a reload may do at any moment."""

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

from gemproxy import descriptors
from gemproxy.config import Config, ConfigFault, load
from gemproxy.errors import ClientFault, StartFault
from gemproxy.process import sockets, systemd
from gemproxy.process.ending import Ending
from gemproxy.process.reloading import Reloading
from gemproxy.process.serve import make_runner, serve
from gemproxy.server.service import SERVICE
from gemproxy.simulator import Simulator, unary_answer
from gemproxy.state.memory import MemoryState
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


# -------------------------------------------------------------------------------------------------- where it listens


async def test_an_inherited_socket_is_no_way_round_the_keys(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(simulator, tmp_path)
    monkeypatch.setattr(descriptors, "raise_limit", lambda: None)
    with bound("0.0.0.0") as sock:
        monkeypatch.setattr(systemd, "inherited_sockets", lambda: [sock])
        with pytest.raises(ConfigFault, match=r"the server listens on 0\.0\.0\.0: .*auth\.keys"):
            await serve(config, lambda: config, pytest.fail)


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


async def test_an_order_that_comes_too_soon_waits(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A successor is told of the next upgrade as soon as it is the main process; that must not end it."""
    held: list[set[int]] = []

    async def relieve() -> None:
        held.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        raise StartFault("as far as this goes")

    monkeypatch.setattr(descriptors, "raise_limit", lambda: None)
    monkeypatch.setattr(sockets, "relieve", relieve)
    config = configuration(simulator, tmp_path, "[server]\nport = 0\n")
    with pytest.raises(StartFault):
        await serve(config, lambda: config, pytest.fail)
    assert held[0] >= {signal.SIGHUP, signal.SIGUSR2}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


# ------------------------------------------------------------------------------------------------------------ reload


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
    async with running(simulator, configuration(simulator, tmp_path, DISCOVER)) as server:
        await soon(lambda: "nano-x" in server.app[SERVICE].door.catalogue)


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
