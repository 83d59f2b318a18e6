"""A long run with faults on both sides: ``make soak SECONDS=1800``. Every request is accounted for, or it fails.

The real server in a process of its own, the simulated Gemini with random faults (``faulty``) and hundreds of clients
(``crowd``) here; in a run of ten minutes or more some of them ask heavily, upload slowly or take nothing. Asks at the
end: no wrong answer, none lost, no bug in the log, memory and descriptors flat and what heavy requests took given back,
every reload done, a clean end, and that nothing was left out which makes it a test.
Takes the seconds as its argument; CLIENTS (200) and SEED (1) from the environment.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct, field

from bench.crowd import KEY, Crowd
from bench.faulty import FAULTS, Faulty
from bench.processes import ROOT, raise_descriptor_limit, resident_bytes
from gemproxy.simulator import Simulator

MIB = 1 << 20
CONFIG = """
[server]
port = 0
max_body = 4000000
ping_interval = 0.5
[auth]
keys = ["{key}"]
[timeouts]
hold = 1.0
first = 20
idle = 1.5
send = 10
drain = 5
[rotation]
base_rest = 0.2
max_unhinted = 1
[state]
path = "{folder}/state.db"
[upstream]
ai_studio_url = "{upstream}"
"""
KEYS = 4
RELOAD = 10.0  # seconds between two SIGHUP
# How much more than in the middle there may be later: some caches still fill, in a short run more than in a long one.
SPARE_MEMORY = 6 * MIB
SPARE_PER_REQUEST = 64  # bytes more for each request since; a leak of the smallest object a request is larger
SPARE_DESCRIPTORS = 8
SPARE_AT_REST = 64 * MIB  # more than before the load, when it is over: what heavy requests took has come back
REST = 60.0  # seconds of rest after the load, and a sixth of the load's at most
LOOK = 0.2  # seconds between two looks at the memory
SETTLED = 600.0  # seconds after which the heap has the size that heavy requests give it: shorter runs are without them
LONG = 60.0  # seconds after which chance has no excuse: every fault and every behaviour must have come
HEALTH = 5.0  # seconds within which /health must answer, whatever else is going on
PATIENCE = 30.0  # seconds for what is under way to end, and for the process after SIGTERM; all limits are far below
_LISTENS = re.compile(r"listens on (http://\S+)")
_STATUS = re.compile(r"path=/v1/chat/completions status=(\d+)")
_NAMED = {5: "middle", 10: "end"}  # tenths of the time
_BUGS = ("Traceback", "never retrieved", "Unclosed", "never awaited", "status=500")


class Reading(Struct):
    """The server at one moment."""

    resident: int
    descriptors: int
    started: int = 0  # requests so far


class Run(Struct):
    """What was seen from outside while it ran."""

    seconds: float
    readings: list[tuple[str, Reading]] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)  # of the server's own log
    bugs: list[str] = field(default_factory=list)
    hangups: int = 0  # SIGHUPs sent
    reloads: int = 0  # and what the log says of them
    peace: bool = False  # whether nothing was under way any more once the clients had gone
    exit: int | None = None  # the status after SIGTERM; None: it had to be killed


class Server:
    """The process under test; its log is read and counted as it comes."""

    def __init__(self, process: asyncio.subprocess.Process, run: Run) -> None:
        self.process = process
        self.url = ""
        self.listening = asyncio.Event()
        self._run = run

    async def listen(self) -> None:
        """Read the log to its end."""
        assert self.process.stderr is not None
        tail = 0  # lines that belong to the last bug
        async for raw in self.process.stderr:
            line = raw.decode(errors="replace")
            if found := _LISTENS.search(line):
                self.url = found[1]
                self.listening.set()
            if status := _STATUS.search(line):
                self._run.statuses[status[1]] += 1
            self._run.reloads += "configuration reloaded" in line
            tail = 25 if any(bug in line for bug in _BUGS) else tail - 1
            if tail > 0 and len(self._run.bugs) < 100:
                self._run.bugs.append(line.rstrip()[:300])

    def reading(self, started: int) -> Reading:
        """Return memory and descriptors now, after so many requests."""
        pid = self.process.pid
        return Reading(resident_bytes(pid), len(list(Path(f"/proc/{pid}/fd").iterdir())), started)

    async def end(self) -> int | None:
        """Return the exit status after SIGTERM; None if it had to be killed."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            return None


@asynccontextmanager
async def serving(folder: Path, upstream: str, run: Run) -> AsyncIterator[Server]:
    """Run the server in front of an upstream."""
    credentials = "".join(
        f'[[credentials]]\nname = "studio-{number}"\nkind = "api_key"\nkey = "test-key-{number}"\n'
        for number in range(1, KEYS + 1)
    )
    config = folder / "soak.toml"
    config.write_text(CONFIG.format(key=KEY, folder=folder, upstream=upstream) + credentials, encoding="utf-8")
    command = [sys.executable, "-m", "gemproxy", "serve", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.PIPE, limit=1 << 20)
    server = Server(process, run)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.listen())
        try:
            async with asyncio.timeout(20):
                await server.listening.wait()
            yield server
        finally:
            run.exit = await server.end()


async def soak(seconds: float, clients: int, seed: int) -> tuple[Run, Crowd, Faulty]:
    """Run everything and return what happened."""
    run, chance = Run(seconds), random.Random(seed)
    faulty = Faulty(chance)
    with tempfile.TemporaryDirectory() as folder:
        async with Simulator(keep=0) as simulator:
            simulator.script(faulty.answer, times=None)
            async with serving(Path(folder), simulator.ai_studio_url, run) as server:
                run.readings.append(("idle before", server.reading(0)))
                crowd = await _load(server, run, clients, chance)
                run.peace = await _in_peace(server)
                await simulator.close()  # and with it the connections that are kept for the next request
                await asyncio.sleep(min(REST, seconds / 6))
                run.readings.append(("idle after", server.reading(crowd.tally.started)))
    return run, crowd, faulty


async def _load(server: Server, run: Run, clients: int, chance: random.Random) -> Crowd:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        crowd = Crowd(server.url, session, chance, burdens=run.seconds >= SETTLED)
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(crowd.client(stop))
            group.create_task(_watch(server, run, session, stop))
            begin = loop.time()
            for tenth in range(1, 11):  # so many that a slope is seen
                least = await _least(server, begin + tenth * run.seconds / 10)
                at = msgspec.structs.replace(server.reading(crowd.tally.started), resident=least)
                run.readings.append((_NAMED.get(tenth, f"{tenth}/10"), at))
            stop.set()
    return crowd


async def _least(server: Server, until: float) -> int:
    """Return the least memory seen until then: heavy requests come and go, a leak stays."""
    loop, least = asyncio.get_running_loop(), server.reading(0).resident
    while loop.time() < until:
        await asyncio.sleep(min(LOOK, until - loop.time()))
        least = min(least, server.reading(0).resident)
    return least


async def _watch(server: Server, run: Run, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
    """Look at /health twice a second, reload every few seconds."""
    reload_at = time.monotonic() + RELOAD / 2
    while not stop.is_set():
        run.health.append(await _healthy(server.url, session))
        if time.monotonic() > reload_at:
            reload_at += RELOAD
            run.hangups += 1
            server.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.5)


async def _healthy(url: str, session: aiohttp.ClientSession) -> float:
    """Return the seconds that /health took; endless if it was not well."""
    begin = time.monotonic()
    try:
        async with session.get(url + "/health") as response:
            return time.monotonic() - begin if response.status == 200 else math.inf
    except (aiohttp.ClientError, OSError):
        return math.inf


async def _in_peace(server: Server) -> bool:
    """Wait until no request is under way by the server's own account; returns whether that came in time."""
    until = time.monotonic() + PATIENCE
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        while time.monotonic() < until:
            async with session.get(server.url + "/v1/debug/cache") as response:
                rows = msgspec.json.decode(await response.read())["credentials"]
            if not any(row["in_flight"] for row in rows):
                return True
            await asyncio.sleep(0.1)
    return False


# ---------------------------------------------------------------------------------------------------------- the verdict


def verdict(run: Run, crowd: Crowd, faulty: Faulty) -> dict[str, bool]:
    """Return what had to hold, and whether it did."""
    tally, seen, at = crowd.tally, run.statuses.total(), dict(run.readings)
    long = run.seconds >= LONG
    return {
        "no wrong answer": tally.wrong == 0,
        "no request lost": tally.lost == 0 and tally.started == tally.answered() + tally.gone,
        # a client may be gone before its request was read: only those may be missing in the server's log
        "the server's log agrees": tally.started - tally.gone <= seen <= tally.started,
        "most answers whole": tally.whole > tally.started * 0.5,
        "memory flat": _flat(run.readings),
        "memory back at rest": at["idle after"].resident <= at["idle before"].resident + SPARE_AT_REST,
        "nothing left under way": run.peace,
        "descriptors flat": at["idle after"].descriptors <= at["idle before"].descriptors + SPARE_DESCRIPTORS,
        "no bug in the log": not run.bugs,
        "every reload done": run.reloads == run.hangups and (run.hangups > 0 or not long),
        "/health always prompt": max(run.health) < HEALTH,
        "exit status 0 after SIGTERM": run.exit == 0,
        "every fault injected": not long or set(faulty.faults) == set(FAULTS),
        "every behaviour seen": not long or set(crowd.behaviours) == set(crowd.manners),
    }


def _flat(readings: Sequence[tuple[str, Reading]]) -> bool:
    """Return whether nothing leaks: heavy requests come and go, so the least of each half is what counts."""
    names = [name for name, _ in readings]
    half = names.index("middle") + 1
    first = [reading for name, reading in readings[:half] if name not in ("idle before", "1/10")]
    later = [reading for name, reading in readings[half:] if name != "idle after"]
    before, middle, rest = min(one.resident for one in first), dict(readings)["middle"], dict(readings)["idle after"]
    least = min(later, key=lambda one: one.resident)
    return all(
        one.resident <= before + SPARE_MEMORY + SPARE_PER_REQUEST * (rest.started - middle.started)
        for one in (least, rest)
    )


def report(run: Run, crowd: Crowd, faulty: Faulty) -> bool:
    """Print the figures; returns whether all held."""
    tally = crowd.tally
    print(f"requests        {tally.started} in {run.seconds:g} s ({tally.started / run.seconds:.0f}/s)")
    print(f"  whole         {tally.whole}")
    print(f"  honest errors {tally.told.total()}  {dict(sorted(tally.told.items()))}")
    print(f"  refused       {tally.refused.total()}  {dict(sorted(tally.refused.items()))}")
    print(f"  client gone   {tally.gone}")
    print(f"  wrong, lost   {tally.wrong}, {tally.lost}")
    print(f"server's log    {run.statuses.total()}  {dict(sorted(run.statuses.items()))}")
    print(f"reloads         {run.reloads} of {run.hangups}; exit status {run.exit}")
    print(f"faults injected {faulty.faults.total()}  {dict(sorted(faulty.faults.items()))}")
    for name, at in run.readings:
        print(f"{name:<15} {at.resident / MIB:6.1f} MiB, {at.descriptors} descriptors, {at.started} requests")
    print(
        f"/health         median {statistics.median(run.health) * 1000:.1f} ms, worst {max(run.health) * 1000:.0f} ms"
    )
    for line in (*tally.why, *run.bugs):
        print(f"  ! {line}")
    held = verdict(run, crowd, faulty)
    for what, holds in held.items():
        print(f"{'ok  ' if holds else 'MISS'}  {what}")
    return all(held.values())


def main() -> int:
    """Run as told; the exit status is 1 if anything did not hold."""
    raise_descriptor_limit()
    seconds, clients = float((*sys.argv, "1800")[1]), int(os.environ.get("CLIENTS", "200"))
    return not report(*asyncio.run(soak(seconds, clients, int(os.environ.get("SEED", "1")))))


if __name__ == "__main__":
    sys.exit(main())
