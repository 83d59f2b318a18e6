"""One server in this process for one cell of the table of cancellations, with limits that the test lets run out.

No limit passes by itself here: each is set to hours, and ``Limits`` ends it when the request waits where it should. So
nothing depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from gemproxy.config import load
from gemproxy.converter.api import Known, Plan, Settled
from gemproxy.pool.slot import Lease
from gemproxy.process.connections import GuardedSite
from gemproxy.process.ending import Ending
from gemproxy.process.reloading import Reloading
from gemproxy.process.serve import make_runner
from gemproxy.process.sockets import addresses, bind
from gemproxy.server.service import SERVICE, Service
from gemproxy.simulator import Simulator
from gemproxy.state.memory import MemoryState
from gemproxy.transport import idle
from gemproxy.upstream.dialect import Verdict
from gemproxy.wiring.build import OPERATIONS, build_app
from tests.apis.remembers import REMEMBERS
from tests.apis.three_calls import THREE_CALLS, ThreeCalls
from tests.faults.awaits import ROOT, frames, note_tasks, tasks, waits
from tests.faults.client import KEY, Bare, bare
from tests.waiting import soon

FIRST, TOTAL, DRAIN, LONG = 5_000.0, 10_000.0, 20_000.0, 1_000.0  # seconds, far apart: each is known by its length


class InTurn(ThreeCalls):
    """Three calls, one after the other."""

    def plan(self, known: Known, settled: Settled) -> Plan:
        return replace(super().plan(known, settled), side_by_side=1)


SETTINGS = f"""
[server]
memory = 67108864
ping_interval = PING
[auth]
keys = ["{KEY}"]
[timeouts]
hold = HOLD
first = {FIRST}
idle = 40_000
total = {TOTAL}
send = 40_000
body = 40_000
headers = 40_000
queue = 40_000
drain = {DRAIN}
[rotation]
budget = 100_000
max_in_flight = MOST
[images]
allow_hosts = ["127.0.0.1", "images.test"]
timeout = 40_000
[oauth]
client_id = "test-client"
client_secret = "test-secret"
"""
IN_TURN = replace(THREE_CALLS, paths=("/in-turn/{model}",), read=InTurn.read)
STUDIO = '[[credentials]]\nname = "NAME"\nkind = "api_key"\nkey = "test-key-1"\n'
SMALL_BUFFER = 1 << 13  # bytes that the kernel keeps of an answer, so that a client who reads nothing is soon noticed


class Limits:
    """Every ``asyncio.timeout`` and every long ``asyncio.sleep`` of the server, to be ended by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._timeouts: list[asyncio.Timeout] = []
        self.slept = asyncio.Event()
        timeout, sleep = asyncio.timeout, asyncio.sleep

        def noted(delay: float | None) -> asyncio.Timeout:
            self._timeouts.append(timeout(delay))
            return self._timeouts[-1]

        async def asleep(delay: float, result: Any = None) -> Any:
            return await (self.slept.wait() if delay >= LONG else sleep(delay, result))

        monkeypatch.setattr(asyncio, "timeout", noted)
        monkeypatch.setattr(asyncio, "sleep", asleep)

    def expire(self, limit: float) -> bool:
        """Let the last limit of this length run out; returns whether there was one."""
        now = asyncio.get_running_loop().time()
        for one in reversed(self._timeouts):
            if one._state.name == "ENTERED" and abs((one.when() or 0) - now - limit) < LONG:
                one.reschedule(now)
                return True
        return False

    def expire_first(self) -> int:
        """Let ``timeouts.first`` run out for every call."""
        watches = [watch for (_, limit), each in idle._rounds.items() if limit == FIRST for watch in each.watches]
        for watch in watches:
            for _ in range(idle.TICKS_PER_LIMIT + 1):
                watch.tick()
        return len(watches)


class Stage:
    """The server, what it was asked for, and what it still holds."""

    def __init__(self, google: Simulator, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.google = google
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.gate = asyncio.Event()
        self.releases: list[Callable[[], object]] = [self.gate.set]
        self.leases: dict[int, Lease] = {}
        self.verdicts: list[tuple[Lease, Verdict | None]] = []
        self.lines: list[str] = []
        self.faults: list[str] = []
        self.signals: dict[int, Callable[[], None]] = {}
        self.settings, self.credentials, self.upstream = "", STUDIO, ""
        self.limits = Limits(monkeypatch)
        self.stack = AsyncExitStack()
        self.clients: list[Bare] = []
        self.running_on: set[str] = set()

    # ------------------------------------------------------------------------------------------------ the server

    def configuration(self, *, name: str = "studio-1") -> Any:
        """Return the configuration; a reload has a credential of another name."""
        addresses = f'[upstream]\nai_studio_url = "{self.upstream or self.google.ai_studio_url}"\n'
        addresses += f'code_assist_url = "{self.google.code_assist_url}"\nvertex_url = "{self.google.vertex_url}"\n'
        addresses += f'token_url = "{self.google.token_url}"\n'
        file = self.folder / "gemproxy.toml"
        file.write_text(self.settings + self.credentials.replace("NAME", name) + addresses, encoding="utf-8")
        return load(file, {})

    async def start(self, *, hold: float = 30_000, most: int = 0, ping: float = 30_000, hook: Any = None) -> None:
        """Serve; ``hook`` is called before any status goes out."""
        self.settings = SETTINGS.replace("HOLD", f"{hold}").replace("MOST", f"{most}").replace("PING", f"{ping}")
        config = self.configuration()
        app = build_app(config, (*OPERATIONS, THREE_CALLS, IN_TURN, REMEMBERS))
        if hook is not None:
            app.on_response_prepare.append(hook)
        self.runner = make_runner(config, app)
        self._note_what_runs_on()
        await self.runner.setup()
        [sock] = bind("127.0.0.1", 0, reuse_port=False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        await GuardedSite(self.runner, sock, limit=lambda: 0, patience=lambda: 40_000.0, send=lambda: 40_000.0).start()
        self.monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", self.signals.__setitem__)
        self.ending = Ending(Reloading(self.runner, config, lambda: self.configuration(name="renamed")), [])
        self.reloading = self.ending._reloading
        self._count_leases()
        self.before = our_tasks()

    def _note_what_runs_on(self) -> None:
        """Remember what still fetches behind ``tokens.close``: the state is closed next, the session last."""
        close = MemoryState.close

        async def closes(state: MemoryState) -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            self.running_on = {place for place in waits() if place.startswith("credentials/")}
            await close(state)

        self.monkeypatch.setattr(MemoryState, "close", closes)

    def _count_leases(self) -> None:
        rotator = self.service.pool.rotator
        acquire, report = rotator.acquire, rotator.report

        def acquired(*arguments: Any) -> Lease:
            lease = acquire(*arguments)
            self.leases[lease.id] = lease
            return lease

        def reported(lease: Lease, verdict: Verdict | None) -> None:
            self.verdicts.append((self.leases.pop(lease.id), verdict))
            report(lease, verdict)

        rotator.acquire, rotator.report = acquired, reported

    @property
    def service(self) -> Service:
        return self.runner.app[SERVICE]

    @property
    def port(self) -> int:
        return int(addresses(self.runner)[0][1])

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections to the upstream."""
        return self.service.pool.tokens._google._session

    # ------------------------------------------------------------------------------------------------ its clients

    async def connect(self, receive: int = 0) -> Bare:
        self.clients.append(await self.stack.enter_async_context(bare(self.port, receive=receive)))
        return self.clients[-1]

    async def waits_at(self, place: str) -> None:
        """Wait until somebody waits at an ``await``; remember the tasks of the requests that are there then."""
        try:
            await soon(lambda: any(place in one for one in waits()), 30)
        except AssertionError:
            raise AssertionError(f"nobody waits at {place}, but at {sorted(waits())}; {self.lines}") from None
        self.waiting = waits()
        self.handlers = [task for task in tasks() if any(map(_answers, frames(task.get_coro())))]

    def release(self) -> None:
        """Let go on what was held open."""
        for each in self.releases:
            each()

    # ------------------------------------------------------------------------------------------------ how it ends

    def sigterm(self) -> asyncio.Task[None]:
        """Do what the process does at SIGTERM, from the handler of the signal to the last task."""
        self.signals[signal.SIGTERM]()

        async def end() -> None:
            await self.ending.drain(self.runner, self.runner, shared=False)
            await self.runner.cleanup()

        return asyncio.get_running_loop().create_task(end())

    # ------------------------------------------------------------------------------------------------ what is left

    async def settled(self, going_on: str = "-") -> None:
        """Wait until nothing of the request is left; ``going_on``: whose tasks may be, for those to come."""
        try:
            await soon(lambda: not self.left(going_on), 20)
        except AssertionError:
            raise AssertionError(f"left behind: {self.left(going_on)}; {self.lines}") from None

    def left(self, going_on: str = "-") -> list[str]:
        """Return all that is held though nobody asks any more, in words."""
        service, queue = self.service, self.service.dispatcher.queue
        rows = service.pool.rotator.snapshot()
        slots = {lease.slot.name: lease.slot for lease, _ in self.verdicts}
        accounts = service.load.budget._accounts.values()
        worker, images = service.load._worker, service.images
        shared = going_on != "-"
        asked = [one for one in self.google.requests if one.finished_at is None and one.disconnected_at is None]
        found = {
            "leases": [*self.leases],
            "in flight": [row.name for row in rows if row.in_flight] + [s.name for s in slots.values() if s.in_flight],
            "parked or resting": [(row.name, row.parked, row.cooling) for row in rows if row.state != "ready"],
            "in the queue": queue._lines,
            "bytes": service.load.budget.held,
            "accounts of bytes": [account.owner for account in accounts if account.open or account.held],
            "open requests": service.open_requests,
            "limits of clients": [name for name, one in service.client_limits._buckets.items() if one.open],
            "the worker": [*worker._waiting] or worker._busy,
            "images": (images._under_way, [*images._places._held], [*images._places._waiting]) != (0, [], []),
            "connections to the upstream": not shared and [*self.session.connector._acquired],
            "requests at the upstream": not shared and asked,
            "tasks": [task for task in our_tasks() - self.before if going_on not in origin(task)],
        }
        return [f"{name}: {value}" for name, value in found.items() if value]


def our_tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks in which code of the server's runs now."""
    return {task for task in tasks() if any(_of_server(frame.f_code.co_filename) for frame in frames(task.get_coro()))}


@cache
def _of_server(name: str) -> bool:
    file = Path(name)
    return file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / "simulator")


def _answers(frame: FrameType) -> bool:
    return frame.f_code.co_filename == str(ROOT / "server" / "middleware.py")


def origin(task: asyncio.Task[Any]) -> str:
    """Return the file and the function in which a task begins."""
    code = getattr(task.get_coro(), "cr_code", None)
    return "" if code is None else f"{code.co_filename} {code.co_qualname}"


@asynccontextmanager
async def staged(google: Simulator, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """Give a stage; at its end the process has nothing left that runs."""
    note_tasks()
    stage = Stage(google, folder, monkeypatch)
    loop, access = asyncio.get_running_loop(), logging.getLogger("gemproxy.access")
    handler = logging.Handler()
    handler.emit = lambda record: stage.lines.append(record.getMessage())  # type: ignore[method-assign]
    faults = stage.faults  # apart, since a loop that is closed may live on, and what its handler knows with it
    loop.set_exception_handler(lambda _, context: faults.append(str(context)))
    level = access.level
    access.setLevel(logging.INFO)
    access.addHandler(handler)
    try:
        async with stage.stack:
            try:
                yield stage
            finally:
                stage.release()
    finally:
        access.removeHandler(handler)
        access.setLevel(level)
        await stage.runner.cleanup()
    await soon(lambda: not our_tasks(), 20, what=f"still run: {our_tasks()}")
    threads = ("gemproxy-google-auth", "heavy")
    await soon(lambda: not [one for one in threading.enumerate() if one.name.startswith(threads)], what="a thread runs")
    assert not stage.running_on, "tokens.close has ended all that fetched"
    assert not stage.faults
