"""Processes that are forked from one that has imported gemproxy: each starts in a tenth of the time of a fresh one.

In: what ``python -m`` runs, its arguments, environment and descriptors. Out: a ``Forked``, with what the tests use of
``asyncio.subprocess.Process``. One parent serves a process of tests; it and all its children end with that.

Run as a program it is the parent: it has one thread, and each child becomes ``python -m …`` in a process that has only
the descriptors that it was given, ends as Python ends, and is told of by its exit status.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

LARGEST = 1 << 18  # bytes of an order
STANDARD = 3  # descriptors: input, output, errors
# What a server that has answered once has imported. Fresh starts are tried in tests/process and tests/system.
MODULES = (
    "gemproxy.cli",
    "gemproxy.operations.metrics",
    "gemproxy.process.demo",
    "gemproxy.process.serve",
    "gemproxy.state.sqlite_file",
    "gemproxy.wiring.build",
)


class Order(Struct):
    """What a child shall be. The descriptors come with it: the way back, the log, and what the child inherits."""

    program: list[str]
    environ: dict[str, str]
    folder: str


class Forked:
    """A process that the parent of all has forked for us."""

    def __init__(self, pid: int, way: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._way = way
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._loop.add_reader(way, self._hear)

    def _hear(self) -> None:
        self._loop.remove_reader(self._way)
        with self._way:
            self.returncode = int(self._way.recv(32) or b"-9")
        self._ended.set()

    def send_signal(self, number: int) -> None:
        """Send a signal, if the process has not ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for the end and return the exit status."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode


async def start(program: Sequence[str], log: int, inherited: Sequence[int], environ: Mapping[str, str]) -> Forked:
    """Fork a child that is ``python -m program``; what it says goes to the descriptor ``log``."""
    order = msgspec.json.encode(Order(list(program), dict(environ), str(Path.cwd())))
    assert len(order) < LARGEST
    way, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    way.setblocking(False)
    with far:
        socket.send_fds(_parent(), [order], [far.fileno(), log, *inherited])
    pid = int(await asyncio.get_running_loop().sock_recv(way, 32))
    return Forked(pid, way)


@functools.cache
def _parent() -> socket.socket:
    """Start the parent of all; it ends when this end of its socket is closed, at the latest with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    command = [sys.executable, "-m", __name__, str(its.fileno())]
    with its:
        parent = subprocess.Popen(
            command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, cwd=Path(__file__).parents[1]
        )

    def end() -> None:
        ours.close()
        parent.wait()

    atexit.register(end)
    return ours


# ------------------------------------------------------------------------------------------------------- the parent


class Child(Struct):
    """A child that runs, and where its exit status is awaited."""

    pid: int
    end: int
    way: socket.socket

    def bury(self) -> None:
        """Tell its exit status, and forget it."""
        _, status = os.waitpid(self.pid, 0)
        with self.way, contextlib.suppress(OSError):  # nobody may wait for it any more
            self.way.send(b"%d" % os.waitstatus_to_exitcode(status))
        os.close(self.end)


def _serve(orders: socket.socket) -> list[str]:
    """Fork children until the socket is closed; returns in each of them, with what it shall be."""
    children: dict[int, Child] = {}
    poll = select.poll()
    poll.register(orders, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != orders.fileno():
                poll.unregister(descriptor)
                children.pop(descriptor).bury()
                continue
            data, descriptors, _, _ = socket.recv_fds(orders, LARGEST, 64)
            if not data:
                for child in children.values():
                    os.kill(child.pid, signal.SIGKILL)
                    child.bury()
                return []
            if not (pid := os.fork()):
                for child in children.values():
                    child.way.detach()  # else it closes, when it is forgotten, what has its number by then
                return _become(msgspec.json.decode(data, type=Order), descriptors)
            way = socket.socket(fileno=descriptors[0])
            way.send(b"%d" % pid)
            for each in descriptors[1:]:
                os.close(each)
            child = Child(pid, os.pidfd_open(pid), way)
            children[child.end] = child
            poll.register(child.end, select.POLLIN)


def _become(order: Order, descriptors: list[int]) -> list[str]:
    """Take this process's descriptors, environment and folder; return what it is called with."""
    _, log, *inherited = [os.dup2(each, 500 + place) for place, each in enumerate(descriptors)]
    for place, descriptor in enumerate([log, log, *inherited], 1):
        os.dup2(descriptor, place, inheritable=True)
    os.closerange(STANDARD + len(inherited), 1 << 16)
    os.environ.clear()
    os.environ.update(order.environ)
    if inherited:
        os.environ["LISTEN_PID"] = str(os.getpid())
    os.chdir(order.folder)
    return order.program


def main() -> None:
    for module in MODULES:
        __import__(module)
    assert threading.active_count() == 1, "a fork would lose all threads but one"
    orders = socket.socket(fileno=int(sys.argv[1]))
    program = _serve(orders)
    if program:
        orders.detach()  # as the others' ways
        sys.argv[:] = program
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
