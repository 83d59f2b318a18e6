"""The processes of the neighbours' table: one upstream for all rows, a server and those who watch it for each run."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct, field

from bench.fleet import START, await_health
from bench.memory import MemoryWatch
from bench.prober import KEY, Seen
from bench.processes import Child, Cores, free_port

CLIENTS = 64
KEYS = 8  # of the upstream: a hostile answer may rest one
IDLE = 0.7  # seconds in which the idle server is watched
CALM = 0.1  # seconds of stall below which a server is at rest
NO_END = "no end"
REST = 1.0  # seconds of rest before memory is looked at again
CONFIG = """
[server]
port = {port}
[auth]
keys = [{keys}]
[rotation]
base_rest = 0.1
max_unhinted = 0.2
[images]
allow_hosts = ["127.0.0.1"]
[state]
path = ""
[upstream]
ai_studio_url = "http://127.0.0.1:{upstream}/v1beta"
"""


class Found(Struct):
    """What one run of a row showed. Seconds and bytes; ``late``: it was cut off."""

    idle: float = 0.0
    stall: float = 0.0
    peak: int = 0
    left: int = 0
    others: Seen = field(default_factory=Seen)
    ends: Counter[str] = field(default_factory=Counter)
    late: float = 0.0  # the seconds after which it was cut off, 0 if it was not
    tracebacks: int = 0


class Probe:
    """A ``prober`` of its own process."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.seen = Seen()

    def look(self) -> Seen:
        """Return what came since the last look."""
        self._child.tell(b"")
        now = msgspec.json.decode(self._child.line(START), type=Seen)
        self.seen = self.seen.and_then(now)
        return now

    def start(self) -> None:
        """Forget what was seen."""
        self.look()
        self.seen = Seen()


class House:
    """The processes: one upstream for all, a server and its probers for each run. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cores = Cores().all
        self._numbers = 0
        self._environ = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LANG": "C.UTF-8"}

    def __enter__(self) -> House:
        self._upstream = self.start("-m", "bench.hostile")
        self.upstream = int(self._upstream.line(START))
        return self

    def __exit__(self, *_: object) -> None:
        self._upstream.kill()

    def start(self, *arguments: str) -> Child:
        """Start a process."""
        self._numbers += 1
        return Child(arguments, self._cores, self._environ, self._folder / f"{self._numbers}.log")

    @contextmanager
    def serving(self, chat_every: int = 50) -> Iterator[Serving]:
        """Run a server; it is ended without ceremony, since it may stand still. ``chat_every``: ms between two of the
        small chat requests.
        """
        port = free_port()
        config = self._folder / f"{port}.toml"
        keys = ", ".join(f'"{key}"' for key in (KEY, *map(_key, range(CLIENTS))))
        credentials = "".join(
            f'[[credentials]]\nname = "bench-{number}"\nkind = "api_key"\nkey = "test-key-{number}"\n'
            for number in range(KEYS)
        )
        config.write_text(CONFIG.format(port=port, keys=keys, upstream=self.upstream) + credentials, encoding="utf-8")
        with ExitStack() as stack:
            server = self.start("-m", "gemproxy", "serve", "--config", str(config))
            stack.callback(server.kill)
            await_health(port, server)
            probes = []
            for every, kind in ((5, "health"), (chat_every, "chat")):
                child = self.start("-m", "bench.prober", str(port), str(every), kind)
                stack.callback(child.kill)
                probes.append(Probe(child))
            memory = stack.enter_context(MemoryWatch(server.pid))
            yield Serving(self, server, port, probes, memory)


class Serving:
    """One server and those who watch it."""

    def __init__(self, house: House, server: Child, port: int, probes: list[Probe], memory: MemoryWatch) -> None:
        self._house = house
        self._server = server
        self.port = port
        self.health, self.chat = probes
        self._memory = memory

    def measure(self, names: Sequence[str], patience: float) -> Found:
        """Send rows, all of them at once, and return what came of it; cut off after ``patience`` seconds."""
        found = Found()
        with ExitStack() as stack:
            senders = [stack.enter_context(self.sender(name, number)) for number, name in enumerate(names)]
            self._start()
            time.sleep(IDLE)
            found.idle = self.health.look().worst
            self._start()
            before = self._memory.start()
            begun = time.monotonic()
            for sender in senders:
                sender.tell(b"go")
            for sender in senders:
                for end, count in result(sender, begun + patience - time.monotonic()).items():
                    found.ends[end if len(names) == 1 else _short(end)] += count
        ended = self._settle(begun + patience) and NO_END not in found.ends
        found.late = 0.0 if ended else patience
        self.health.look(), self.chat.look()
        found.stall, found.others = self.health.seen.worst, self.chat.seen
        found.peak, found.left = self._memory.peak - before, self._memory.now() - before
        found.tracebacks = self._server.wrote().count("Traceback")
        return found

    @contextmanager
    def sender(self, name: str, number: int, seconds: float = 0.0) -> Iterator[Child]:
        """Run the clients of a row, whose body is made when this returns; they leave at the end."""
        child = self._house.start(
            "-m", "bench.sender", name, str(self.port), str(self._house.upstream), _key(number), str(seconds)
        )
        try:
            child.line(START)
            yield child
        finally:
            child.kill()

    def _start(self) -> None:
        self.health.start()
        self.chat.start()

    def _settle(self, until: float) -> bool:
        """Wait until the server is at rest; returns whether it came to that in time."""
        rested = time.monotonic() + REST
        until = max(until, rested + REST)
        while time.monotonic() < until:
            time.sleep(REST / 4)
            now = self.health.look()
            if not now.asked or now.worst > CALM:
                rested = time.monotonic() + REST
            elif time.monotonic() >= rested:
                return True
        return False


def result(sender: Child, seconds: float) -> Counter[str]:
    """Return what a row came to: how often which end; ``NO_END`` if that was not told in time."""
    try:
        return Counter(msgspec.json.decode(sender.line(max(seconds, 0.0)), type=dict[str, int]))
    except RuntimeError:
        return Counter([NO_END])


def _short(end: str) -> str:
    """Return the status alone, so that the ends of many rows can be counted."""
    return end[:3] if end[:3].isdecimal() else end.partition(" (")[0]


def _key(number: int) -> str:
    return f"sk-bench-heavy-{number % CLIENTS}"
