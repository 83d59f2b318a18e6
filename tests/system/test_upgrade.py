"""Upgrade in place: a successor takes over without a request lost, and one that is no good changes nothing.

Real processes; the test plays systemd, and the programs are what a link names.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gemproxy.errors import StartFault
from gemproxy.process import upgrade
from gemproxy.simulator import Hang, Simulator, frames_answer
from tests.faults.client import ask, hello
from tests.faults.load import TEXT, TICK, Load, fresh_connections, halfway
from tests.server_process import configured, free_port
from tests.service_manager import Service, install, running, service, use
from tests.waiting import soon


def toml(simulator: Simulator, folder: Path, timeouts: str = "", server: str = "") -> str:
    more = f'[state]\npath = "{folder}/state.db"\n[timeouts]\n{timeouts}\n'
    return configured(simulator.ai_studio_url, more, server=server)


@asynccontextmanager
async def under_load(url: str) -> AsyncIterator[Load]:
    """Ask all the time, each request on a connection of its own; every answer must be whole."""
    async with fresh_connections() as session:
        load = Load(lambda count: ask(session, url, hello(stream=count % 2 == 0)))
        async with load.running(3):
            await soon(lambda: load.outcomes.total() > 20, 30)
            yield load
    assert set(load.outcomes) == {"whole"}


async def version(url: str) -> str:
    async with fresh_connections() as session, session.get(url) as response:
        return str((await response.json())["version"])


async def gone(process: int) -> None:
    """Wait until a process has ended (and whoever is its parent has learnt of it)."""
    await soon(lambda: not Path(f"/proc/{process}").exists() or "\nState:\tZ" in _status(process))


def _status(process: int) -> str:
    try:
        return Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return "\nState:\tZ"


# ------------------------------------------------------------------------------------------------------ it goes well


@pytest.mark.parametrize(
    ("held", "loop"),
    [
        pytest.param(False, "asyncio", id="a socket of its own"),
        pytest.param(True, "asyncio", id="a socket that systemd holds"),
        pytest.param(False, "uvloop", id="a socket of its own, with uvloop"),
    ],
)
async def test_successor_serves_and_the_hanging_stream_goes_on_to_its_end(
    simulator: Simulator, tmp_path: Path, held: bool, loop: str
) -> None:
    """And a roll-back is the same way in the other direction."""
    gate, metrics = asyncio.Event(), f"http://127.0.0.1:{(port := free_port())}/metrics"
    simulator.script(halfway(gate))
    install(tmp_path, "1")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        text = toml(simulator, tmp_path, "drain = 0.5", f'metrics_listen = "127.0.0.1:{port}"\nloop = "{loop}"')
        async with service(tmp_path, text, sock=sock if held else None, watchdog=0.4) as managed:
            url, old = managed.server.url, managed.main
            async with fresh_connections() as session, asyncio.TaskGroup() as group:
                stream = group.create_task(ask(session, url, hello(stream=True)))
                await soon(lambda: simulator.generations)
                async with under_load(url) as load:
                    install(tmp_path, "2")
                    new = await managed.upgraded()
                    reached = load.outcomes.total() + 20
                    await soon(lambda: load.outcomes.total() > reached, 30)
                assert [await version(url) for _ in range(5)] == ["2"] * 5
                assert len(await _text(session, metrics)) > 100, "the successor's, too"
                await asyncio.sleep(1.0)  # more than timeouts.drain: nobody waits for the old one
                assert not stream.done()
                gate.set()
            assert stream.result().text == TEXT
            assert await managed.server.ended() == 0
            use(tmp_path, "1")
            async with under_load(url):
                await managed.upgraded()
            assert await version(url) == "1"
            await gone(new)
    assert managed.told(old)[-1] == f"MAINPID={new}", "whoever is relieved has nothing more to say"
    assert managed.told(new)[:2] == ["READY=1", "WATCHDOG=1"]
    assert managed.told(new).count("WATCHDOG=1") > 2, "for itself: else systemd would end it"


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as response:
        return await response.text()


async def test_changed_port_is_the_successors(simulator: Simulator, tmp_path: Path) -> None:
    install(tmp_path, "1")
    async with service(tmp_path, toml(simulator, tmp_path)) as managed:
        port = free_port()
        text = toml(simulator, tmp_path).replace("port = 0", f"port = {port}")
        (tmp_path / "gemproxy.toml").write_text(text, encoding="utf-8")
        await managed.upgraded()
        assert await version(f"http://127.0.0.1:{port}") == "1"
        assert await managed.server.ended() == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", managed.server.port)


# ----------------------------------------------------------------------------------------------------- it goes wrong

NAP = f"600.{os.getpid()}"  # seconds; tells what sleeps from all else
ENDS = {
    "with a status": ("#!/bin/sh\necho a reason >&2\nexit 3\n", "it ended with status 3"),
    "at once, as if all were well": ("#!/bin/sh\n", "it ended with status 0"),
    "since it cannot be imported": (
        "#!/bin/sh\nexec python3 -S -c 'import gemproxy_that_is_not_there' 2>/dev/null\n",
        "it ended with status 1",
    ),
    "killed": ("#!/bin/sh\nkill -9 $$\n", "it ended with status 137"),
}
RUNS_ON = {
    "never ready": (f"#!/bin/sh\nexec sleep {NAP}\n", "not ready within timeouts.upgrade = 1 s"),
    "without what it was given": (f"#!/bin/sh\nexec 4<&-\nsleep {NAP}\n", "not ready within"),
}


@pytest.mark.parametrize(
    ("faults", "limit"), [pytest.param(ENDS, 60, id="they end"), pytest.param(RUNS_ON, 1, id="they run on")]
)
async def test_successors_that_are_no_good_are_ended_and_nothing_is_lost(
    simulator: Simulator, tmp_path: Path, faults: dict[str, tuple[str, str]], limit: int
) -> None:
    """One after the other, and after those that end one that is good, as the next may be."""
    install(tmp_path, "1")
    async with service(tmp_path, toml(simulator, tmp_path, f"upgrade = {limit}")) as managed:
        for times, (fault, (program, words)) in enumerate(faults.items(), 1):
            install(tmp_path, fault, program)
            await _fails(managed, words, times)
        if faults is ENDS:
            use(tmp_path, "1")
            await managed.upgraded()


async def test_successor_that_cannot_use_the_configuration_is_ended_and_nothing_is_lost(
    simulator: Simulator, tmp_path: Path
) -> None:
    install(tmp_path, "1")
    async with service(tmp_path, toml(simulator, tmp_path, "upgrade = 60")) as managed:
        (tmp_path / "gemproxy.toml").write_text("[server]\nhots = 1\n", encoding="utf-8")
        await _fails(managed, "it ended with status 2", 1)


async def _fails(managed: Service, words: str, times: int) -> None:
    """Upgrade for the so-many-th time, and see it fail for the reason that these words tell."""
    async with under_load(managed.server.url) as load:
        managed.upgrade()
        assert words in await managed.server.logged("upgrade failed, this process goes on", times=times)
        reached = load.outcomes.total() + 20
        await soon(lambda: load.outcomes.total() > reached, 30)
    assert managed.main == managed.server.process.pid
    assert await version(managed.server.url) == "1"
    assert not running(["sleep", NAP]), "it was ended with all that it started"
    assert not any(state.startswith("MAINPID=") for _, state in managed.heard)


async def test_link_that_leads_nowhere_changes_nothing(simulator: Simulator, tmp_path: Path) -> None:
    install(tmp_path, "1")
    async with service(tmp_path, toml(simulator, tmp_path)) as managed:
        use(tmp_path, "2")
        managed.upgrade()
        await managed.server.logged("upgrade failed, this process goes on")
        assert await version(managed.server.url) == "1"


# ------------------------------------------------------------------------------------------------ signals in between

SLOW = f"#!/bin/sh\nsleep {NAP}\n"


async def test_only_one_upgrade_at_a_time(simulator: Simulator, tmp_path: Path) -> None:
    install(tmp_path, "1")
    async with service(tmp_path, toml(simulator, tmp_path, "upgrade = 1")) as managed:
        install(tmp_path, "2", SLOW)
        for _ in range(3):
            managed.upgrade()
            await asyncio.sleep(0.1)
        await managed.server.logged("upgrade refused: one is under way", times=2)
        await managed.server.logged("upgrade failed, this process goes on")
        assert managed.server.log.count("upgrade: starting") == 1


async def test_sigterm_ends_the_successor_that_is_not_ready(simulator: Simulator, tmp_path: Path) -> None:
    install(tmp_path, "1")
    async with service(tmp_path, toml(simulator, tmp_path)) as managed:
        install(tmp_path, "2", SLOW)
        managed.upgrade()
        await soon(lambda: running(["sleep", NAP]))
        managed.server.tell(signal.SIGTERM)
        assert await managed.server.ended() == 0
        assert not running(["sleep", NAP])


async def test_sigterm_to_a_process_that_was_relieved_gives_its_stream_the_drain(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.script(frames_answer([TICK]).then(Hang()))
    install(tmp_path, "1")
    async with service(tmp_path, toml(simulator, tmp_path, "drain = 0.5")) as managed, fresh_connections() as session:
        async with asyncio.TaskGroup() as group:
            stream = group.create_task(ask(session, managed.server.url, hello(stream=True)))
            await soon(lambda: simulator.generations)
            await managed.upgraded()
            managed.server.tell(signal.SIGUSR2)
            await managed.server.logged("upgrade refused: this process is draining")
            managed.server.tell(signal.SIGTERM)
        assert stream.result().outcome == '"tick " + draining'
        assert await managed.server.ended() == 0
        assert (await ask(session, managed.server.url, hello())).whole


async def test_sigterm_to_the_successor_leaves_the_old_stream_alone(simulator: Simulator, tmp_path: Path) -> None:
    gate = asyncio.Event()
    simulator.script(halfway(gate))
    install(tmp_path, "1")
    async with service(tmp_path, toml(simulator, tmp_path)) as managed, fresh_connections() as session:
        async with asyncio.TaskGroup() as group:
            stream = group.create_task(ask(session, managed.server.url, hello(stream=True)))
            await soon(lambda: simulator.generations)
            new = await managed.upgraded()
            os.kill(new, signal.SIGTERM)
            await gone(new)
            gate.set()
        assert stream.result().text == TEXT
        assert await managed.server.ended() == 0
        assert managed.told(new)[-2] == "STOPPING=1"


# -------------------------------------------------------------------------------------------------- the two steps


async def test_successor_serves_only_when_its_predecessor_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that was ready too late would take connections with it into its end."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    for word in (b"\n", b""):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        monkeypatch.setenv(upgrade.CHANNEL, str(theirs.detach()))
        task = asyncio.get_running_loop().create_task(upgrade.relieve())
        assert await asyncio.get_running_loop().sock_recv(ours, 32) == b"%d" % os.getpid()
        assert not task.done()
        with ours:
            ours.send(word)
        if word:
            await task
        else:
            with pytest.raises(StartFault):
                await task


async def test_nobody_is_relieved_by_what_another_process_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(upgrade.CHANNEL, "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    await upgrade.relieve()


async def test_a_bug_in_an_upgrade_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def command() -> list[str]:
        raise ValueError("a bug")

    monkeypatch.setattr(upgrade, "command", command)
    upgrade.Upgrade([], lambda: 1.0, lambda: None).begin()
    await asyncio.sleep(0.001)
    [record] = caplog.records
    assert (record.levelname, record.exc_info is not None, "upgrade" in record.getMessage()) == ("ERROR", True, True)
