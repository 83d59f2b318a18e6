"""Reverse proxies as processes of their own, each with a configuration file as it is shipped or as a test writes it.

In: the text of the file, for a port. Out: a ``Proxy`` with its address. Nothing is written outside a test's folder.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from tests.server_process import free_port
from tests.tls import contexts

DEPLOY = Path(__file__).parents[2] / "deploy"
ATTEMPTS = 5  # another process may take a port that was free
Find = Callable[[str], str]


class Proxy(Struct, frozen=True):
    """A proxy that listens. ``tls`` is what its clients need; None: it speaks plainly."""

    url: str
    tls: ssl.SSLContext | None


def shipped(name: str, changes: Mapping[str, str]) -> str:
    """Return a file of ``deploy/`` with these parts of it changed; each must be there."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} does not say {old!r}"
        text = text.replace(old, new)
    return text


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a file with a key and a certificate for 127.0.0.1, and what a client needs to trust it."""
    _, client = contexts(folder)
    return folder / "server.pem", client


@asynccontextmanager
async def nginx(
    find: Find, folder: Path, write: Callable[[int], str], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Proxy]:
    """Run nginx; its own folders are put into the file, since Debian's are root's."""
    places = [
        "access_log off;",
        *(f"{of}_temp_path {folder}/{of};" for of in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")),
    ]

    def command(file: Path) -> list[str]:
        return [find("nginx"), "-e", "stderr", "-g", f"daemon off; pid {folder}/nginx.pid;", "-c", str(file)]

    def written(port: int) -> str:
        return write(port).replace("http {", "http {\n" + "\n".join(places), 1)

    async with _running(command, folder / "nginx.conf", written, tls) as proxy:
        yield proxy


@asynccontextmanager
async def haproxy(
    find: Find, folder: Path, write: Callable[[int], str], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Proxy]:
    """Run HAProxy."""

    def command(file: Path) -> list[str]:
        return [find("haproxy"), "-db", "-f", str(file)]

    async with _running(command, folder / "haproxy.cfg", write, tls) as proxy:
        yield proxy


@asynccontextmanager
async def caddy(
    find: Find, folder: Path, write: Callable[[int], str], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Proxy]:
    """Run Caddy without its own listener for operators, which has one port for all that run."""

    def command(file: Path) -> list[str]:
        home = [f"XDG_DATA_HOME={folder}", f"XDG_CONFIG_HOME={folder}"]
        return [find("env"), *home, find("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]

    def written(port: int) -> str:
        return write(port).replace("{\n", "{\n\tadmin off\n", 1)

    async with _running(command, folder / "Caddyfile", written, tls) as proxy:
        yield proxy


@asynccontextmanager
async def _running(
    command: Callable[[Path], Sequence[str]], file: Path, write: Callable[[int], str], tls: ssl.SSLContext | None
) -> AsyncIterator[Proxy]:
    for attempt in range(ATTEMPTS):
        port = free_port()
        file.write_text(write(port), encoding="utf-8")
        log = file.with_name(file.name + ".log")
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(*command(file), stdout=sink, stderr=sink)
        if await _listens(process, port):
            break
        told = log.read_text("utf-8")
        assert "in use" in told, told
        assert attempt < ATTEMPTS - 1, told
    try:
        yield Proxy(f"http{'s' if tls else ''}://127.0.0.1:{port}", tls)
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _listens(process: asyncio.subprocess.Process, port: int) -> bool:
    async with asyncio.timeout(30):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return True
    return False
