"""(edge) One process from its first socket to its last answer: listen, reload on SIGHUP, drain on SIGTERM.

Order of a drain (SPEC 5): ``/ready`` turns 503 and idle connections close; an inherited socket stops at once, since its
successor takes what comes, a socket of our own answers 503 for ``timeouts.drain_delay``; running streams get
``timeouts.drain`` seconds.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from aiohttp import web

from gemproxy import supervisor
from gemproxy.config import Config, address, needs_restart, open_door
from gemproxy.errors import ConfigFault, Failure, StartFault
from gemproxy.listening import GuardedSite, connections
from gemproxy.load.budget import Budget
from gemproxy.server.app import build_app, reload
from gemproxy.server.debug import scrape
from gemproxy.server.middleware import error_response
from gemproxy.server.routes import shortcut
from gemproxy.server.service import SERVICE, Service
from gemproxy.server.tasks import keep_doing, logged, spawn

log = logging.getLogger("gemproxy")
M_MMAP_THRESHOLD, LARGE = -3, 1 << 20  # malloc.h; bytes, well above the 256 KiB that asyncio reads into
M_TRIM_THRESHOLD, SPARE = -1, 4 << 20  # bytes that stay at the end of the heap
TURN = (
    0.0001  # seconds that heavy work goes on when the loop wants Python, which it does at each system call; else 0.005
)
RETURNS, LEFT = 5.0, 16 << 20  # seconds between looks at what is left free, and bytes worth giving back
LAST_WORDS = 1.0  # seconds
LOOKS = 50  # within them


async def serve(config: Config, load: Callable[[], Config], started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``load`` reads the configuration anew; ``started`` hears the base URL."""
    raise_descriptor_limit()
    runner = make_runner(config)
    await runner.setup()
    async with AsyncExitStack() as scrapes:  # closed last: /metrics shows a drain to its end
        try:
            inherited = supervisor.inherited_sockets()
            await _listen(runner, config, inherited)
            await _listen_for_scrapes(scrapes, runner.app, config)
            reloading = Reloading(runner, config, load)
            stop = _signals(reloading)
            started(base_url(runner))
            spare_collections()
            return_large_blocks()
            sys.setswitchinterval(TURN)
            supervisor.notify("READY=1")
            watchdog = _watchdog()
            budget = runner.app[SERVICE].load.budget
            returning = keep_doing(partial(_return_memory, budget), RETURNS, name="giving memory back")
            await stop.wait()
            await _drain(runner, reloading.config, inherited=bool(inherited))
            if watchdog is not None:
                watchdog.cancel()
            returning.cancel()
        finally:
            await runner.cleanup()


def make_runner(config: Config) -> web.AppRunner:
    """Return the application in aiohttp's frame, with the settings that all that is promised rests on."""
    return Runner(
        build_app(config),
        access_log=None,
        handler_cancellation=True,  # a client that leaves ends its upstream request at once
        auto_decompress=False,  # a packed body is refused, not unpacked: a small one may hold gigabytes
        lingering_time=2.0,  # seconds for the rest of a body that was refused: long enough to hear the answer
        keepalive_timeout=config.timeouts.keepalive,
        shutdown_timeout=config.timeouts.drain,
    )


class Runner(web.AppRunner):
    """aiohttp's runner with ``routes.shortcut``."""

    async def setup(self) -> None:
        """Open the rooms, and get ready to serve."""
        await super().setup()
        assert self.server is not None
        shortcut(self.server, self.app[SERVICE])


def base_url(runner: web.AppRunner) -> str:
    """Return the URL of the first socket."""
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def raise_descriptor_limit() -> None:
    """Allow as many open connections as the system lets us: each stream takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spare_collections() -> None:
    """Take what is there for good out of the garbage collector's sight, and let it look less often.

    Measured: an eighth of the CPU of a small request went into looking at modules and routes again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def return_large_blocks() -> None:
    """Have the C library give the memory of large bodies back as soon as they are freed.

    glibc stops doing so for sizes up to the largest block it ever freed (mallopt(3)), and then its heap grows for
    hours: bodies come and go between small things that stay. Measured under faults: 6 MiB more after 50,000 requests,
    2 with this. The end of the heap would then be given back with every body, too, and be fetched again for the next:
    27 page faults, a quarter of what a request of 64 KiB costs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # another C library
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, SPARE)


async def _return_memory(budget: Budget) -> None:
    """Give back what large requests have left free, soon after they are over.

    A body and an answer arrive in pieces of 32 KiB, which leave holes between what stays: 130 MiB after a hundred
    frames of 8 MB. The C library gives those back only when it is told to; it takes some milliseconds.
    """
    if budget.peak - budget.held > LEFT:
        budget.peak = budget.held
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # another C library
            await asyncio.to_thread(trim, SPARE)


async def _listen(runner: web.AppRunner, config: Config, inherited: list[socket.socket]) -> None:
    server, service = config.server, runner.app[SERVICE]
    sockets = inherited or bind(server.host, server.port, reuse_port=server.reuse_port)
    _check_doors(config, [sock.getsockname() for sock in sockets])
    for sock in sockets:
        await _site(runner, sock, service).start()


def _site(runner: web.AppRunner, sock: socket.socket, service: Service) -> GuardedSite:
    """Return a site within the limits of the configuration in force."""
    return GuardedSite(
        runner,
        sock,
        limit=lambda: service.door.max_connections,
        patience=lambda: service.door.headers,
        send=lambda: service.door.send,
    )


def _check_doors(config: Config, names: Iterable[Any]) -> None:
    """Raise ``ConfigFault`` if a socket listens where this configuration may not.

    ``server.host`` does not tell: systemd may have opened the socket, or an earlier configuration.
    """
    for name in names:
        if isinstance(name, tuple) and (fault := open_door(config, name[0])):  # else a path: on this machine
            raise ConfigFault(f"the server listens on {name[0]}: {fault}")


async def _listen_for_scrapes(stack: AsyncExitStack, app: web.Application, config: Config) -> None:
    """Serve ``/metrics`` alone, without a key, on ``server.metrics_listen``, within the limits of any connection."""
    listen = config.server.metrics_listen
    place = address(listen) if listen is not None else None
    if place is None:
        return

    async def metrics(request: web.Request) -> web.Response:
        try:
            return scrape(app[SERVICE])
        except Failure as failure:
            return error_response(failure, {})

    own = web.Application()
    own.router.add_get("/metrics", metrics)
    runner = web.AppRunner(
        own,
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,  # a body that nobody reads may hold gigabytes
        lingering_time=LAST_WORDS,
        keepalive_timeout=config.timeouts.keepalive,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    for sock in bind(*place, reuse_port=False, setting="server.metrics_listen"):
        await _site(runner, sock, app[SERVICE]).start()


def bind(
    host: str, port: int, *, reuse_port: bool, setting: str = "server.host and server.port"
) -> list[socket.socket]:
    """Return a listening socket for each address of the host. Raises ``StartFault``."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 has a socket of its own
            sock.bind(address)
    except OSError as fault:
        for sock in sockets:
            sock.close()
        raise StartFault(f"cannot listen on {host}:{port} ({setting}): {fault.strerror or fault}") from None
    return sockets


def _signals(reloading: Reloading) -> asyncio.Event:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: spawn(logged(reloading.run(), name="reload"), name="reload"))
    return stop


class Reloading:
    """What SIGHUP does, one after the other. ``config`` is the one in force."""

    def __init__(self, runner: web.AppRunner, config: Config, load: Callable[[], Config]) -> None:
        self.config = self._started = config
        self._runner = runner
        self._load = load
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Read the file and take it over, or say why not."""
        async with self._turn:
            supervisor.notify(supervisor.reloading())
            try:
                await self._take_over(await asyncio.to_thread(self._load))
            except ConfigFault as fault:
                log.error("reload refused, the old configuration stays: %s", fault)  # noqa: TRY400 - no bug
            finally:
                supervisor.notify("READY=1")

    async def _take_over(self, config: Config) -> None:
        _check_doors(config, self._runner.addresses)
        await reload(self._runner.app, config)
        self.config = config
        log.info("configuration reloaded")
        if fixed := needs_restart(self._started, config):
            log.warning("needs a restart: %s", ", ".join(fixed))


async def _drain(runner: web.AppRunner, config: Config, *, inherited: bool) -> None:
    log.info("draining: running requests have timeouts.drain = %g s", config.timeouts.drain)
    supervisor.notify("STOPPING=1")
    runner._shutdown_timeout = config.timeouts.drain  # a reload may have changed it
    service = runner.app[SERVICE]
    service.draining, service.refusing = True, not inherited
    for connection in connections(runner):
        connection.retire()
    if not inherited:
        await asyncio.sleep(config.timeouts.drain_delay)
    for site in list(runner.sites):
        await site.stop()
    await _last_words(runner)


async def _last_words(runner: web.AppRunner) -> None:
    """Wait a moment for requests that are on their way: their connections were accepted, nobody else will answer."""
    for _ in range(LOOKS):
        await asyncio.sleep(LAST_WORDS / LOOKS)  # first, so that what was accepted is seen
        if not any(connection.speaking or connection.starting for connection in connections(runner)):
            return


def _watchdog() -> asyncio.Task[None] | None:
    """Give signs of life, if somebody waits for them."""

    async def live() -> None:
        supervisor.notify("WATCHDOG=1")

    interval = supervisor.watchdog_interval()
    return None if interval is None else keep_doing(live, interval, name="watchdog")
