"""(edge) Upgrade in place: a successor takes the listening sockets over, and this process ends with its last answer.

Nothing is lost when it fails, since it has two steps. The successor tells its process id once all that may fail is
behind it, and accepts connections only when its predecessor lets go; till then it is ended without harm. In between
systemd is told of the new main process, so that it is never without one.

Sockets are handed over as systemd does it (sd_listen_fds(3)), under their names.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from gemproxy.errors import StartFault
from gemproxy.process import systemd
from gemproxy.tasks import logged, spawn

log = logging.getLogger("gemproxy")
CHANNEL = "GEMPROXY_PREDECESSOR"  # names the descriptor to whoever is to be relieved
# A process id is known only after the fork, to a shell as ``$$``. The shell above it is killed when the successor is
# ready: so systemd is its parent from then on, and learns of its end. Till then it keeps the exit status for us.
LAUNCH = '/bin/sh -c \'export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@"\' sh "$@" & wait $!'
HIGH_DESCRIPTOR = 64  # descriptors from here on are in nobody's way
EXIT_POLL, EXIT_POLLS = 0.02, 50  # seconds between looks for an exit status, and how many
Named = tuple[str, socket.socket]


async def relieve() -> None:
    """Take over from a predecessor, if there is one. Raises ``StartFault`` if it goes on by itself."""
    descriptor = os.environ.pop(CHANNEL, None)
    if descriptor is None or os.environ.get("LISTEN_PID") != str(os.getpid()):
        return
    loop = asyncio.get_running_loop()
    with socket.socket(fileno=int(descriptor)) as channel:
        channel.setblocking(False)
        channel.set_inheritable(False)
        try:
            await loop.sock_sendall(channel, b"%d" % os.getpid())
            if await loop.sock_recv(channel, 1):
                return
        except ConnectionError:
            pass
    raise StartFault("the process that was to be relieved goes on by itself, or has ended")


def command() -> list[str]:
    """Return what to start: the program as it was called, so that a link leads to what it names now."""
    called = Path(sys.argv[0])
    return list(sys.argv) if called.is_file() and os.access(called, os.X_OK) else list(sys.orig_argv)


class Upgrade:
    """What SIGUSR2 does, one at a time. ``sockets`` are what to hand over, ``limit`` gives the seconds until READY.

    ``relieved`` is called when a successor has taken over.
    """

    def __init__(self, sockets: Sequence[Named], limit: Callable[[], float], relieved: Callable[[], object]) -> None:
        self._sockets = sockets
        self._limit = limit
        self._relieved = relieved
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def begin(self) -> None:
        """Start a successor, unless there is one already or this process ends."""
        if self._over:
            log.warning("upgrade refused: this process is draining")
        elif self._task is not None and not self._task.done():
            log.warning("upgrade refused: one is under way")
        elif os.getpid() == 1:
            log.error("upgrade refused: this is process 1, with which all others end; restart the container")
        else:
            self._task = spawn(logged(self._run(), name="upgrade"), name="upgrade")

    def give_up(self) -> None:
        """End a successor that has not taken over yet: this process ends, too."""
        self._over = True
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        program, limit = command(), self._limit()
        log.info("upgrade: starting %s", program[0])
        try:
            successor = Successor.launch(program, self._sockets)
        except OSError as fault:
            log.error("upgrade failed, this process goes on: %s", fault)  # noqa: TRY400 - no bug
            return
        try:
            async with asyncio.timeout(limit):
                process = await successor.ready()
            _hand_over(successor, process)
        except TimeoutError:
            log.error("upgrade failed, this process goes on: not ready within timeouts.upgrade = %g s", limit)  # noqa: TRY400
        except StartFault as fault:
            log.error("upgrade failed, this process goes on: %s", fault)  # noqa: TRY400
        else:
            self._over = True
            self._relieved()
            log.info("upgrade: process %d has taken over; this one ends with its last answer", process)
        finally:
            successor.end()


def _hand_over(successor: Successor, process: int) -> None:
    """Let the successor serve, and systemd watch it. Raises ``StartFault`` if it has just ended."""
    successor.set_free()
    systemd.notify(f"MAINPID={process}")
    try:
        successor.channel.send(b"\n")
    except OSError:
        systemd.notify(f"MAINPID={os.getpid()}")
        raise StartFault("it ended when it was ready") from None
    systemd.fall_silent()


class Successor(Struct):
    """A process that is to take over: the shell that launched it and leads its group, and what it talks over."""

    launcher: int
    channel: socket.socket

    @classmethod
    def launch(cls, program: Sequence[str], sockets: Sequence[Named]) -> Successor:
        """Start it. Raises ``OSError``."""
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            given: list[int] = []
            environ = os.environ | {
                "LISTEN_FDS": str(len(sockets)),
                "LISTEN_FDNAMES": ":".join(name for name, _ in sockets),
                CHANNEL: str(systemd.FIRST_DESCRIPTOR + len(sockets)),
            }
            try:
                given += map(_aside, [*(sock for _, sock in sockets), theirs])
                actions = [
                    (os.POSIX_SPAWN_DUP2, descriptor, place)
                    for place, descriptor in enumerate(given, systemd.FIRST_DESCRIPTOR)
                ]
                shell = ["/bin/sh", "-c", LAUNCH, "sh", *program]
                return cls(os.posix_spawn(shell[0], shell, environ, file_actions=actions, setsid=True), ours)
            except OSError:
                ours.close()
                raise
            finally:
                for descriptor in given:
                    os.close(descriptor)

    async def ready(self) -> int:
        """Return its process id once it is ready. Raises ``StartFault`` if it ended instead."""
        said = await asyncio.get_running_loop().sock_recv(self.channel, 32)
        if said.isdigit():
            return int(said)
        status = await self._status()
        how = "it does not take over" if status is None else f"it ended with status {status}"
        raise StartFault(f"{how}; what it said of that stands above")

    def set_free(self) -> None:
        """Let it outlive us, as a child of systemd."""
        os.kill(self.launcher, signal.SIGKILL)
        os.waitpid(self.launcher, 0)
        self.launcher = 0

    def end(self) -> None:
        """End it at once if it has not been set free: it serves nobody."""
        if self.launcher:
            os.killpg(self.launcher, signal.SIGKILL)
            os.waitpid(self.launcher, 0)
            self.launcher = 0
        self.channel.close()

    async def _status(self) -> int | None:
        """Return the exit status of the program, as a shell tells it; None if it still runs."""
        for _ in range(EXIT_POLLS):
            if (status := _ended_with(self.launcher)) is not None:
                return status
            await asyncio.sleep(EXIT_POLL)
        return None


def _ended_with(process: int) -> int | None:
    ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # ``Successor.end`` waits for good
    return None if ended is None else ended.si_status


def _aside(sock: socket.socket) -> int:
    return fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR)
