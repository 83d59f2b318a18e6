"""The real server as a process: measured through /proc, told by signals.

It is forked from a process that has imported gemproxy (``forked``), or started afresh, as an operator does. In: TOML.
Out: a ``ServerProcess`` with its URL, log, memory and descriptors. At the end its log must hold no traceback.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests import forked
from tests.forked import Forked

_LISTENS = re.compile(r"listens on (http://[^\s\"]+)")
FAST = """
[timeouts]
headers = 0.6
body = 0.6
send = 1.0
idle = 60
"""
LONG = 60.0  # seconds; no time is measured by it: beside much else a server takes ten to start
_TROUBLE = ("Traceback", "never retrieved", "Unclosed", "never awaited")


class ServerProcess:
    """A started ``gemproxy serve``."""

    def __init__(self, process: asyncio.subprocess.Process | Forked, log: Path) -> None:
        self.process = process
        self.url = ""
        self._log = log
        self._page = 0

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What was logged since the last ``turn_page``."""
        return self._log.read_bytes()[self._page :].decode(errors="replace")

    async def turn_page(self) -> None:
        """Begin a new page of the log, once what is on its way has been written."""
        await asyncio.sleep(0.06)
        self._page = self._log.stat().st_size

    def trouble(self) -> list[str]:
        """Return what must not be in any log, from all of this one."""
        self._page = 0
        return [line for line in self.log.splitlines() if any(word in line for word in _TROUBLE)]

    async def logged(self, words: str, *, times: int = 1, seconds: float = LONG) -> str:
        """Wait until the log has so many lines with these words; return the last of them."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            lines = [line for line in self.log.splitlines() if words in line]
            if len(lines) >= times:
                return lines[-1]
            await asyncio.sleep(0.01)
        raise AssertionError(f"{words!r} is not {times} times in the log:\n{self.log[-3000:]}")

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self, seconds: float = LONG) -> int:
        """Wait for the end of the process and return its exit status."""
        return await asyncio.wait_for(self.process.wait(), seconds)

    def resident(self) -> int:
        """Return the resident memory in bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Return the number of open file descriptors."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@asynccontextmanager
async def serving(
    folder: Path,
    toml: str,
    *,
    inherited: Sequence[socket.socket] = (),
    name: str = "gemproxy",
    program: Sequence[str] = ("gemproxy",),
    fresh: bool = False,
    **environ: str,
) -> AsyncIterator[ServerProcess]:
    """Run a server with this configuration (``server.port = 0`` unless it says otherwise).

    ``inherited``: listening sockets handed over as systemd does (sd_listen_fds(3)).
    ``program``: what ``python -m`` runs. ``fresh``: by a Python of its own, as always with an ``environ``, which
    imports may read (aiohttp's of TLS does).
    """
    config = folder / f"{name}.toml"
    config.write_text(toml, encoding="utf-8")
    log = folder / f"{name}.log"
    command = [*program, "serve", "--config", str(config)]
    process = await (_spawn if fresh or environ else _fork)(command, log, inherited, environ)
    server = ServerProcess(process, log)
    try:
        server.url = _LISTENS.findall(await server.logged("listens on"))[-1]
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert not server.trouble(), f"the log tells of trouble:\n{server.log[-3000:]}"


async def _fork(command: list[str], log: Path, inherited: Sequence[socket.socket], _: dict[str, str]) -> Forked:
    environment = os.environ | ({"LISTEN_FDS": str(len(inherited))} if inherited else {})
    with log.open("wb") as sink:
        return await forked.start(command, sink.fileno(), [sock.fileno() for sock in inherited], environment)


async def _spawn(
    command: list[str], log: Path, inherited: Sequence[socket.socket], environ: dict[str, str]
) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", *command]
    environment = os.environ | environ
    descriptors = [sock.fileno() for sock in inherited]
    if inherited:
        # the pid is known only after the fork: a shell puts it in, and moves the descriptors to 3, 4 …
        moves = " ".join(f"{place}<&{descriptor}" for place, descriptor in enumerate(descriptors, 3))
        command = ["/bin/bash", "-c", f'LISTEN_PID=$$ exec "$@" {moves}', "systemd", *command]
        environment |= {"LISTEN_FDS": str(len(inherited))}
    with log.open("wb") as sink:
        return await asyncio.create_subprocess_exec(
            *command, stderr=sink, stdout=sink, env=environment, pass_fds=descriptors
        )


def rewrite(folder: Path, toml: str, name: str = "gemproxy") -> None:
    """Put another configuration in place, as an editor does: whole or not at all."""
    fresh = folder / f"{name}.toml.new"
    fresh.write_text(toml, encoding="utf-8")
    fresh.replace(folder / f"{name}.toml")


def configured(url: str, more: str = "", *, server: str = "", keys: int = 1) -> str:
    """Return TOML with so many API keys in front of an upstream at ``url`` (its AI Studio base).

    The other addresses are the simulator's beside it: no kind of credential may reach the real Google.
    """
    base = url.removesuffix("/v1beta")
    credentials = "".join(
        f'[[credentials]]\nname = "studio-{number}"\nkind = "api_key"\nkey = "test-key-{number}"\n'
        for number in range(1, keys + 1)
    )
    return (
        f'[server]\nport = 0\n{server}\n{more}\n[upstream]\nai_studio_url = "{url}"\n'
        f'code_assist_url = "{base}/v1internal"\nvertex_url = "{base}/vertex/v1"\ntoken_url = "{base}/token"\n'
        f"{credentials}"
    )


def free_port() -> int:
    """Return a port that was free a moment ago, for what cannot tell which one it took."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
