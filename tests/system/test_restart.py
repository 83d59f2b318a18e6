"""Restart and upgrade behind real proxies, with five requests a second: none is lost, and with an upgrade none waits.

A row is shorter than life to keep this quick; ``TRIAL=30`` asks for as many seconds of each.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from gemproxy.simulator import Answer, Pause, Simulator, frames_answer
from tests.faults.client import ask, hello
from tests.faults.load import LAST, TEXT, TICK, halfway
from tests.server_process import ServerProcess, configured, free_port, serving
from tests.service_manager import PROGRAM, Service, install, service, use
from tests.system.proxies import PROXIES, proxy
from tests.waiting import soon

RATE = 5  # requests a second
SECONDS = float(os.environ.get("TRIAL", "10"))
KEYS = '[auth]\nkeys = ["sk-test"]\n'
# Seconds that each model takes: long enough for a restart to meet answers of both under way.
QUICK, SLOW = "gemini-2.5-quick", "gemini-2.5-slow"
SPELLS = {QUICK: 0.1, SLOW: 0.7}
FAULTS = (aiohttp.ClientError, ConnectionError, AssertionError, TimeoutError, msgspec.DecodeError)


def toml(simulator: Simulator, timeouts: str = "", port: int = 0) -> str:
    text = configured(simulator.ai_studio_url, f"{KEYS}[timeouts]\n{timeouts}\n")
    return text.replace("port = 0", f"port = {port}")


@pytest.fixture(autouse=True)
def models(simulator: Simulator) -> None:
    first, last = frames_answer([TICK, LAST]).body
    for model, spell in SPELLS.items():
        answer = Answer((Pause(0.1), first, Pause(spell - 0.1), last), content_type="text/event-stream")
        simulator.script(answer, model=model, times=None)


class Trial:
    """What became of requests that came at a fixed rate."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lost: list[str] = []
        self.times: list[float] = []  # seconds, without those that the model takes

    @asynccontextmanager
    async def running(self, seconds: float = SECONDS) -> AsyncIterator[None]:
        """Ask for so long and until the block ends; every third request is a stream that takes a while."""
        over = asyncio.Event()
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            asking = group.create_task(self._ask_all(session, group, round(seconds * RATE), over))
            try:
                yield
            finally:
                over.set()
            await asking

    async def _ask_all(
        self, session: aiohttp.ClientSession, group: asyncio.TaskGroup, least: int, over: asyncio.Event
    ) -> None:
        for turn in itertools.count():
            if turn >= least and over.is_set():
                break
            group.create_task(self._ask(session, turn % 3))
            await asyncio.sleep(1 / RATE)

    async def _ask(self, session: aiohttp.ClientSession, kind: int) -> None:
        clock = asyncio.get_running_loop().time
        begin, model = clock(), SLOW if kind == 2 else QUICK
        try:
            got = await ask(session, self.url, hello(model=model, stream=kind > 0))
            if not got.whole:
                self.lost.append(got.outcome)
        except FAULTS as fault:
            self.lost.append(repr(fault)[:100])
        self.times.append(clock() - begin - SPELLS[model])

    async def served(self, more: int) -> None:
        """Wait until so many more requests have been answered."""
        wanted = len(self.times) + more
        await soon(lambda: len(self.times) >= wanted, 60, "requests wait")

    @property
    def slowest(self) -> float:
        """The 99th percentile of the seconds that a request took beside its model's."""
        return sorted(self.times)[math.ceil(0.99 * len(self.times)) - 1]

    def report(self, what: str) -> None:
        print(f"\n{what}: {len(self.lost)} of {len(self.times)} lost, p99 {self.slowest:.2f} s {self.lost[:3] or ''}")


class Backend:
    """A server that is stopped and started again as ``systemctl restart`` does it, on the same port."""

    def __init__(self, stack: AsyncExitStack, folder: Path, text: str, sock: socket.socket | None = None) -> None:
        self._stack = stack
        self._folder = folder
        self._text = text
        self._held = [] if sock is None else [sock]
        self._server: ServerProcess | None = None
        self._count = 0

    async def start(self) -> Backend:
        self._count += 1
        name = f"server-{id(self)}-{self._count}"
        self._server = await self._stack.enter_async_context(
            serving(self._folder, self._text, inherited=self._held, name=name, fresh=True)
        )
        return self

    async def restart(self) -> None:
        assert self._server is not None
        self._server.tell(signal.SIGTERM)
        assert await self._server.ended(60) == 0
        await self.start()


async def two_restarts(backends: list[Backend]) -> None:
    await asyncio.sleep(SECONDS / 6)
    await backends[0].restart()
    await asyncio.sleep(SECONDS / 6)
    await backends[-1].restart()


@pytest.mark.parametrize(("name", "delay"), [("haproxy", 0), ("haproxy", 4), ("nginx", 0), ("nginx", 4), ("caddy", 4)])
async def test_two_servers_restart_one_after_the_other(
    simulator: Simulator, tmp_path: Path, name: str, delay: int
) -> None:
    """Caddy needs the delay: where nobody listens 2.6.2 tries another server, but has closed the request's body."""
    async with AsyncExitStack() as stack:
        ports = [free_port(), free_port()]
        timeouts = f"drain_delay = {delay}"
        backends = [await Backend(stack, tmp_path, toml(simulator, timeouts, port)).start() for port in ports]
        trial = Trial(await stack.enter_async_context(proxy(name, tmp_path, ports)))
        await asyncio.sleep(1.5)  # until the first checks have passed
        async with trial.running(max(SECONDS, 2.5 * delay + 12)):
            await two_restarts(backends)
    trial.report(f"two servers behind {name}, drain_delay = {delay}, two restarts")
    assert trial.lost == []


@pytest.mark.parametrize("name", PROXIES)
async def test_the_only_server_restarts(simulator: Simulator, tmp_path: Path, name: str) -> None:
    """HAProxy tries again where nobody listens; with nginx and Caddy, which do not, systemd must hold the port."""
    async with AsyncExitStack() as stack:
        sock, port = None, free_port()
        if name != "haproxy":
            sock = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=512))
            sock.set_inheritable(True)
        backend = await Backend(stack, tmp_path, toml(simulator, port=port), sock).start()
        trial = Trial(await stack.enter_async_context(proxy(name, tmp_path, [port])))
        await asyncio.sleep(1.5)
        async with trial.running():
            await two_restarts([backend])
    trial.report(f"one server behind {name}, drain_delay = 0, two restarts")
    assert trial.lost == []


BROKEN = "#!/bin/sh\nexit 1\n"


def standing(gate: Path) -> str:
    """Return a program that begins to be gemproxy only once there is a file ``gate``."""
    waiting = f'import pathlib, time\nwhile not pathlib.Path("{gate}").exists():\n    time.sleep(0.02)\n'
    return PROGRAM.replace("import gemproxy\n", f"{waiting}import gemproxy\n", 1)


async def upgraded_late(managed: Service, trial: Trial, gate: Path) -> None:
    """Upgrade to a successor that stands at its gate: none of the requests that come meanwhile waits for it."""
    old = managed.main
    gate.unlink()
    managed.upgrade()
    await trial.served(4 * RATE)
    assert managed.main == old, "the successor stands at its gate"
    gate.touch()
    await soon(lambda: managed.main != old and "READY=1" in managed.told(managed.main), 60)
    await trial.served(2 * RATE)


@pytest.mark.parametrize("name", PROXIES)
async def test_upgrade_beside_a_hanging_stream(simulator: Simulator, tmp_path: Path, name: str) -> None:
    """There, with a version that is no good, and back: nobody notices."""
    hang, gate = asyncio.Event(), tmp_path / "gate"
    simulator.script(halfway(hang), model="gemini-2.5-hanging")
    gate.touch()
    install(tmp_path, "1", standing(gate))
    async with AsyncExitStack() as stack:
        managed = await stack.enter_async_context(service(tmp_path, toml(simulator, port=free_port())))
        url = await stack.enter_async_context(proxy(name, tmp_path, [managed.server.port]))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        hanging = asyncio.get_running_loop().create_task(
            ask(session, url, hello(model="gemini-2.5-hanging", stream=True))
        )
        await soon(lambda: simulator.generations)
        trials = {what: Trial(url) for what in ("upgrade", "broken successor", "roll-back")}
        async with trials["upgrade"].running(0):
            install(tmp_path, "2", standing(gate))
            await upgraded_late(managed, trials["upgrade"], gate)
        async with trials["broken successor"].running(0):
            install(tmp_path, "3", BROKEN)
            managed.upgrade()
            await managed.server.logged("upgrade failed, this process goes on")
            await trials["broken successor"].served(2 * RATE)
        async with trials["roll-back"].running(0):
            use(tmp_path, "1")
            await upgraded_late(managed, trials["roll-back"], gate)
        assert not hanging.done()
        hang.set()
        assert (await hanging).text == TEXT
        assert await managed.server.ended() == 0, "the first of the three"
    for what, trial in trials.items():
        trial.report(f"{what} behind {name}")
        assert trial.lost == []
