"""The processes of one run: upstream and load generator, floors and gemproxies as the scenarios want them."""

from __future__ import annotations

import itertools
import os
import socket
import time
from pathlib import Path
from typing import Literal

import msgspec

from bench import question
from bench.jobs import Job, Load, Target
from bench.load import PATIENCE
from bench.processes import Child, Cores, free_port

START = 30.0  # seconds that a process may take to come up
_LONGEST = 300.0  # seconds that a job may take


class Unsound(Exception):  # noqa: N818 - a finding
    """Answers were wrong or missing: nothing measured on them counts."""


class Fleet:
    """Starts and ends processes; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.cores = Cores()
        self._folder = folder
        self._numbers = itertools.count()
        self._children: dict[int, Child] = {}
        self._standing: dict[str, Target] = {}
        self._environ = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LANG": "C.UTF-8"}

    def __enter__(self) -> Fleet:
        try:
            self._upstream = self._start(["-m", "bench.upstream"], self.cores.rest)
            self.upstream = Target("upstream", int(self._upstream.line(START)), (self._upstream.pid,))
            self._load = self._start(["-m", "bench.load"], self.cores.rest)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.stop()

    def run(self, job: Job) -> Load:
        """Have a job done; raises ``Unsound`` if any answer was wrong."""
        self._load.tell(msgspec.json.encode(job))
        load = msgspec.json.decode(self._load.line(_LONGEST + PATIENCE), type=Load)
        if load.wrong:
            raise Unsound(f"{load.wrong} wrong answers; {'; '.join(load.why)}")
        return load

    # --------------------------------------------------------------------------------------------------- servers

    def floor(self) -> Target:
        """Return the standing floor."""
        return self._standing.get("floor") or self._stand("floor", self.fresh_floor())

    def gemproxy(self) -> Target:
        """Return the standing gemproxy."""
        return self._standing.get("gemproxy") or self._stand("gemproxy", self.fresh_gemproxy())

    def typed(self) -> Target:
        """Return the standing smallest typed converter, which answers as gemproxy does."""
        return self._standing.get("typed") or self._stand("typed", self._fresh_aiohttp("gemproxy", "bench.typed"))

    def _stand(self, kind: str, target: Target) -> Target:
        self._standing[kind] = target
        return target

    def fresh_floor(self) -> Target:
        """Start a floor."""
        return self._fresh_aiohttp("floor", "bench.forwarder")

    def _fresh_aiohttp(self, kind: Literal["floor", "gemproxy"], module: str) -> Target:
        port = free_port()
        child = self._start(["-m", module, f"http://127.0.0.1:{self.upstream.port}", str(port)], self.cores.server)
        await_health(port, child)
        return Target(kind, port, (child.pid,))

    def fresh_gemproxy(self, instances: int = 1) -> Target:
        """Start gemproxy; several instances share one port, each on a core of its own as far as there are two."""
        port = free_port()
        file = self._configuration(port, shared=instances > 1)
        children = []
        for number in range(instances):
            cores = self.cores.second if number % 2 else self.cores.server
            child = self._start(["-m", "gemproxy", "serve", "--config", str(file)], cores)
            children.append(child)
            await_health(port, child)
            _await_listeners(port, number + 1, child)
            child.pin(cores)  # threads that came up meanwhile
        return Target("gemproxy", port, tuple(child.pid for child in children))

    def retire(self, target: Target) -> None:
        """End the processes of a target."""
        for pid in target.pids:
            self._children.pop(pid).stop()

    def spread(self, everywhere: bool) -> None:
        """Let upstream and load generator run on every core, or keep off the servers' one."""
        for child in (self._upstream, self._load):
            child.pin(self.cores.all if everywhere else self.cores.rest)

    def _start(self, arguments: list[str], cores: set[int]) -> Child:
        log = self._folder / f"{next(self._numbers)}-{arguments[1].rpartition('.')[2]}.log"
        child = Child(arguments, cores, self._environ, log)
        self._children[child.pid] = child
        return child

    def _configuration(self, port: int, shared: bool) -> Path:
        file = self._folder / f"gemproxy-{port}.toml"
        file.write_text(
            f"[server]\nport = {port}\nreuse_port = {'true' if shared else 'false'}\n"
            f'max_requests = 20000\nmax_connections = 20000\n[auth]\nkeys = ["{question.KEY}"]\n'
            '[[credentials]]\nname = "bench"\nkind = "api_key"\nkey = "fake-bench-key"\n'
            f'[upstream]\nai_studio_url = "http://127.0.0.1:{self.upstream.port}/v1beta"\n',
            encoding="utf-8",
        )
        return file


def await_health(port: int, child: Child) -> None:
    """Return as soon as GET /health is answered with 200; raises ``RuntimeError`` if that does not come."""
    until = time.monotonic() + START
    while not _healthy(port):
        if child.ended() or time.monotonic() > until:
            raise RuntimeError(f"a server did not come up; it said:\n{child.said()}")
        time.sleep(0.002)


def _healthy(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=START) as asking:
            asking.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return asking.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _await_listeners(port: int, count: int, child: Child) -> None:
    until = time.monotonic() + START
    while _listeners(port) < count:
        if child.ended() or time.monotonic() > until:
            raise RuntimeError(f"an instance does not listen; it said:\n{child.said()}")
        time.sleep(0.01)


def _listeners(port: int) -> int:
    """Return how many sockets listen on a port (proc(5), net/tcp: local address and state 0A)."""
    rows = Path("/proc/net/tcp").read_text(encoding="ascii").split("\n")[1:]
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for row in rows if (fields := row.split()))
