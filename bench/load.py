"""The load generator: a process of its own (``python -m bench.load``) that takes jobs as JSON lines on standard input.

Every answer is held against the script; a wrong one is counted and told, never measured as if it were right. Every job
ends by itself, after its count or its time.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from bench import question
from bench.check import TRANSLATED, Wrong, forwarded
from bench.connection import BrokenReply, Connection, Reply
from bench.jobs import Closed, Held, Job, Load, Paced, Target
from bench.processes import Wakefulness, cpu_seconds, raise_descriptor_limit, resident_bytes
from bench.question import Api, Ask
from bench.script import SCRIPTS, Script

PATIENCE = 60.0  # seconds that a job may take beyond what it must
_SAMPLE = 0.1  # seconds between two looks at the memory


class Asker:
    """What one target is asked, and what it must answer."""

    def __init__(self, target: Target, script: Script, ask: Ask = "plain", api: Api = "chat") -> None:
        self.target = target
        self.script = script
        path = question.PATHS[api] if target.kind == "gemproxy" else question.gemini_path(script)
        self._request = question.http(path, question.body(script, ask, api))
        self._check: Callable[[Script, int, bytes], None] = TRANSLATED[api] if target.kind == "gemproxy" else forwarded

    async def connect(self) -> Connection:
        """Return a new connection to the target."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self.target.port)
        return connection

    async def ask(self, connection: Connection, load: Load) -> Reply | None:
        """Return one right answer, None (and a note in ``load``) for a wrong one."""
        try:
            reply = await connection.ask(self._request)
            self._check(self.script, reply.status, reply.body)
        except (Wrong, BrokenReply) as wrong:
            load.note(f"{self.target.kind}, {self.script.name}: {wrong}")
            return None
        load.right += 1
        return reply


async def run(job: Job) -> Load:
    """Do a job."""
    match job:
        case Closed():
            return await _closed(job)
        case Paced():
            return await _paced(job)
        case Held():
            return await _held(job)


# ------------------------------------------------------------------------------------------------ as fast as it goes


async def _closed(job: Closed) -> Load:
    script = SCRIPTS[job.script]
    asker, load = Asker(job.target, script, job.question, job.api), Load()
    stop, wakefulness = asyncio.Event(), Wakefulness()

    async def client() -> None:
        async with _connected(asker) as connection:
            while not stop.is_set():
                wakefulness.stir()
                if await asker.ask(connection, load) is None:
                    stop.set()  # what is wrong once needs no thousand repetitions
                elif load.right >= job.most:
                    stop.set()

    async with asyncio.timeout(job.warm + job.seconds + PATIENCE), asyncio.TaskGroup() as group:
        for _ in range(job.connections):
            group.create_task(client())
        await _unless(stop, job.warm)
        warm, begin = load.right, _reading(job.target)
        await _unless(stop, job.seconds)
        _window(load, begin, _reading(job.target))
        load.answers = load.right - warm
        load.events = load.answers * script.frames
        stop.set()
    return load


@asynccontextmanager
async def _connected(asker: Asker) -> AsyncIterator[Connection]:
    connection = await asker.connect()
    try:
        yield connection
    finally:
        connection.close()


async def _unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


# ---------------------------------------------------------------------------------------------------- by the clock


async def _paced(job: Paced) -> Load:
    script, load, loop = SCRIPTS[job.script], Load(), asyncio.get_running_loop()
    askers = [Asker(target, script) for target in job.targets]
    idle: list[list[Connection]] = [[] for _ in askers]
    load.latencies = [[] for _ in askers]
    load.firsts = [[] for _ in askers]

    async def client(place: int, counts: bool) -> None:
        connection = idle[place].pop() if idle[place] else await askers[place].connect()
        sent = loop.time()
        reply = await askers[place].ask(connection, load)
        if reply is None:
            connection.close()
            return
        idle[place].append(connection)
        if counts:
            load.latencies[place].append(reply.ended - sent)
            load.firsts[place].append(reply.first - sent)

    begun = loop.time()
    step = 1 / (job.rate * len(askers))
    rounds = range(job.warm + job.count)
    async with asyncio.timeout(len(rounds) / job.rate + PATIENCE), asyncio.TaskGroup() as group:
        for number, (turn, place) in enumerate(itertools.product(rounds, range(len(askers)))):
            await asyncio.sleep(begun + number * step - loop.time())
            group.create_task(client(place, turn >= job.warm))
    for connection in itertools.chain(*idle):
        connection.close()
    return load


# ------------------------------------------------------------------------------------------------- all open at once


async def _held(job: Held) -> Load:
    script, load, loop = SCRIPTS[job.script], Load(), asyncio.get_running_loop()
    asker = Asker(job.target, script, job.question, job.api)
    connections: list[Connection] = []
    all_open, one_ended = asyncio.Event(), asyncio.Event()
    opened = itertools.count(1)

    async def client(delay: float) -> None:
        await asyncio.sleep(delay)
        async with _connected(asker) as connection:
            connections.append(connection)
            connection.begun = loop.create_future()
            connection.begun.add_done_callback(lambda _: all_open.set() if next(opened) == job.streams else None)
            await asker.ask(connection, load)
        one_ended.set()

    async def watch() -> None:
        await all_open.wait()
        if one_ended.is_set():
            return  # the ramp was longer than a stream: there is no time with all of them open
        begin, seen = _reading(job.target), sum(one.events for one in connections)
        while not one_ended.is_set():
            load.resident = max(load.resident, sum(map(resident_bytes, job.target.pids)))
            await _unless(one_ended, _SAMPLE)
        _window(load, begin, _reading(job.target))
        load.events = sum(one.events for one in connections) - seen

    before = _reading(job.target)
    async with asyncio.timeout(job.ramp + script.seconds + PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(watch())
        for number in range(job.streams):
            group.create_task(client(number * job.ramp / job.streams))
    load.whole_cpu = sum(_reading(job.target)[1]) - sum(before[1])
    load.answers = load.right
    return load


Reading = tuple[float, list[float]]


def _reading(target: Target) -> Reading:
    """Return the time, and the CPU time of each process of the target."""
    return asyncio.get_running_loop().time(), [cpu_seconds(pid) for pid in target.pids]


def _window(load: Load, begin: Reading, end: Reading) -> None:
    load.window = end[0] - begin[0]
    load.cpu = [after - before for before, after in zip(begin[1], end[1], strict=True)]


def main() -> None:
    """Do jobs until standard input ends."""
    raise_descriptor_limit()
    gc.freeze()
    decode = msgspec.json.Decoder(Job).decode
    for line in sys.stdin.buffer:
        print(msgspec.json.encode(asyncio.run(run(decode(line)))).decode(), flush=True)


if __name__ == "__main__":
    main()
