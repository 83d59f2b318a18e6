"""Processes as Linux shows them: their CPU time and memory, on which cores they run, how they begin and end."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOMENT = 0.005  # seconds
_PAGE = resource.getpagesize()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, user and system, with all its threads.

    What /proc/PID/stat gives as utime + stime, but in nanoseconds instead of ticks of 10 ms: its CPU clock
    (clock_getcpuclockid(3); the id is made as the kernel's posix-timers.h says).
    """
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Return the memory of a process that is in RAM (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE


def raise_descriptor_limit() -> int:
    """Allow as many open connections as the system lets us; returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def until_orphaned() -> None:
    """Wait until standard input ends: the benchmark is over, or was killed."""
    await asyncio.to_thread(sys.stdin.buffer.read)


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Wakefulness:
    """Keeps the loop of this process turning for a moment after each ``stir``.

    To wake a process that sleeps on another core is work of the kernel's that counts as its sender's: 10 us a time on a
    virtual machine. Load that falls asleep between answers charges it to the slower server twice as often.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._until = 0.0
        self._turning = False

    def stir(self) -> None:
        """Stay awake."""
        self._until = self._loop.time() + MOMENT
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        os.sched_yield()  # others of the load may be on the same core
        self._turning = self._loop.time() < self._until
        if self._turning:
            self._loop.call_soon(self._turn)


class Cores:
    """Which cores serve and which make the load; with a single one all share it."""

    def __init__(self) -> None:
        found = sorted(os.sched_getaffinity(0))
        self.server = {found[0]}
        self.second = {found[1]} if len(found) > 1 else self.server
        self.rest = set(found[1:]) or self.server
        self.all = set(found)


class Child:
    """A process of the benchmark, run from the root of the repository on the given cores."""

    def __init__(self, arguments: Iterable[str], cores: set[int], environ: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=dict(environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.pid = self._process.pid
        self.pin(cores)

    def pin(self, cores: set[int]) -> None:
        """Let every thread of the process run on these cores only."""
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with suppress(ProcessLookupError):  # a thread may end meanwhile
                os.sched_setaffinity(int(task.name), cores)

    def line(self, seconds: float) -> bytes:
        """Return the next line of its output; raises ``RuntimeError`` if none comes in time."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise RuntimeError(f"{self._process.args!r} gave no answer; it said:\n{self.said()}")
        return line

    def tell(self, line: bytes) -> None:
        """Write a line to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def ended(self) -> bool:
        """Return whether the process is gone."""
        return self._process.poll() is not None

    def said(self) -> str:
        """Return the end of what it wrote to standard error."""
        return self.wrote()[-2000:]

    def wrote(self) -> str:
        """Return all that it wrote to standard error."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """End the process, with force if it does not go."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
