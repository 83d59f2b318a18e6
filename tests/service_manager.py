"""Plays systemd for one service: starts what a link names, hears its notifications, and follows its main process.

In: a folder of versions, each a program of its own, and a link to the one in use. Out: a ``Service``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.server_process import ServerProcess
from tests.waiting import soon

PROGRAM = f"""#!{sys.executable}
import sys
import gemproxy
gemproxy.__version__ = "{{version}}"
from gemproxy.cli import main
sys.exit(main())
"""
UCRED = struct.Struct("3i")  # unix(7): pid, uid, gid
ACTIVATION = 'export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@" 3<&0 </dev/null'


def install(folder: Path, version: str, program: str = PROGRAM) -> None:
    """Put a version beside the others, and let the link name it."""
    file = folder / version / "bin" / "gemproxy"
    file.parent.mkdir(parents=True)
    file.write_text(program.format(version=version), encoding="utf-8")
    file.chmod(0o755)
    use(folder, version)


def use(folder: Path, version: str) -> None:
    """Let the link name another version, at once and for good."""
    fresh = folder / "fresh"
    fresh.symlink_to(version)
    fresh.replace(folder / "current")


class Service:
    """A service and what it told. ``heard``: process ids and states, in order."""

    def __init__(self, first: asyncio.subprocess.Process, log: Path) -> None:
        self.server = ServerProcess(first, log)  # the first process, and the log of them all
        self.main = first.pid
        self.heard: list[tuple[int, str]] = []

    def hear(self, channel: socket.socket) -> None:
        """Take one notification; MAINPID counts only from the main process (NotifyAccess=main)."""
        data, more, _, _ = channel.recvmsg(4096, socket.CMSG_SPACE(UCRED.size))
        sender = UCRED.unpack(more[0][2])[0]
        for state in data.decode().splitlines():
            self.heard.append((sender, state))
            if state.startswith("MAINPID=") and sender == self.main:
                self.main = int(state.removeprefix("MAINPID="))

    def told(self, process: int) -> list[str]:
        """Return what one process told."""
        return [state for sender, state in self.heard if sender == process]

    def upgrade(self) -> None:
        """Do as ``systemctl kill -s USR2 --kill-whom=main`` does."""
        os.kill(self.main, signal.SIGUSR2)

    async def upgraded(self) -> int:
        """Upgrade, and return the new main process once it says that it is ready."""
        old = self.main
        self.upgrade()
        await soon(lambda: self.main != old and "READY=1" in self.told(self.main), 20)
        return self.main


@asynccontextmanager
async def service(
    folder: Path, toml: str, *, sock: socket.socket | None = None, watchdog: float = 60.0
) -> AsyncIterator[Service]:
    """Start what the link names, with a socket as systemd hands it over, or one of its own; end all of it."""
    config, log = folder / "gemproxy.toml", folder / "service.log"
    config.write_text(toml, encoding="utf-8")
    command = [str(folder / "current" / "bin" / "gemproxy"), "serve", "--config", str(config)]
    if sock is not None:
        command = ["/bin/sh", "-c", ACTIVATION, "sh", *command]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, log.open("ab") as sink:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        channel.bind(name := f"\0gemproxy-test-{os.getpid()}-{id(folder)}")
        environ = os.environ | {"NOTIFY_SOCKET": "@" + name[1:], "WATCHDOG_USEC": str(round(watchdog * 1_000_000))}
        if sock is not None:
            environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "gemproxy.socket"}
        first = await asyncio.create_subprocess_exec(*command, stdin=sock, stdout=sink, stderr=sink, env=environ)
        managed = Service(first, log)
        asyncio.get_running_loop().add_reader(channel, managed.hear, channel)
        try:
            line = await managed.server.logged("listens on")
            managed.server.url = line.split()[-1].strip('"')
            await soon(lambda: "READY=1" in managed.told(managed.main))
            yield managed
        finally:
            asyncio.get_running_loop().remove_reader(channel)
            for process in {sender for sender, _ in managed.heard} | {managed.main}:
                end(process)
            await first.wait()
    assert not managed.server.trouble(), managed.server.log[-3000:]


def end(process: int) -> None:
    """End a process of ours, if it has not ended."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        if b"gemproxy" in Path(f"/proc/{process}/cmdline").read_bytes():
            os.kill(process, signal.SIGKILL)


def running(words: Sequence[str]) -> list[int]:
    """Return the processes whose command line holds all these words."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
            if line and all(word.encode() in line for word in words):
                found.append(int(folder.name))
    return found
