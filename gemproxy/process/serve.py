"""(edge) One process from its first socket to its last answer: listen, reload on SIGHUP, drain on SIGTERM.

Order of a drain (SPEC 5): ``/ready`` turns 503, idle connections close, and all others after their answer; a socket
that systemd or a successor holds as well stops at once, since they take what comes; one of our own serves as usual for
``timeouts.drain_delay`` and then until nobody waits; what runs gets ``timeouts.drain`` seconds, and then an error.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from aiohttp import web

from gemproxy import descriptors
from gemproxy.config import KEYLESS, Config, address, cautions, changes, dropped, needs_restart, open_door
from gemproxy.errors import ConfigFault, Failure, StartFault
from gemproxy.load.budget import Budget
from gemproxy.process import systemd
from gemproxy.process.connections import GuardedSite, addresses, connections
from gemproxy.process.upgrade import Named, Upgrade, relieve
from gemproxy.server.handlers.admin import scrape
from gemproxy.server.middleware import error_response
from gemproxy.server.routes import shortcut
from gemproxy.server.service import SERVICE, Service
from gemproxy.tasks import keep_doing, logged, spawn
from gemproxy.wiring.build import build_app, reload

log = logging.getLogger("gemproxy")
M_MMAP_THRESHOLD, LARGE = -3, 1 << 20  # malloc.h; bytes, well above the 256 KiB that asyncio reads into
M_TRIM_THRESHOLD, SPARE = -1, 4 << 20  # bytes that stay at the end of the heap
TURN = (
    0.0001  # seconds that heavy work goes on when the loop wants Python, which it does at each system call; else 0.005
)
RETURNS, LEFT = 5.0, 16 << 20  # seconds between looks at what is left free, and bytes worth giving back
LAST_WORDS = 1.0  # seconds
LOOK, LATER = 0.02, 0.2  # seconds between looks whether all is said, within LAST_WORDS and after them
ORDERS = (signal.SIGHUP, signal.SIGUSR2)
OWN, SCRAPES = "own", "metrics"  # names of the sockets that are ours to bind; systemd gives others to those it holds


async def serve(config: Config, load: Callable[[], Config], started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``load`` reads the configuration anew; ``started`` hears the base URL."""
    descriptors.raise_limit()
    runner = make_runner(config)
    # Till somebody hears them they would end the process; here, before there are threads, which have the mask, too.
    signal.pthread_sigmask(signal.SIG_BLOCK, ORDERS)
    await runner.setup()
    async with AsyncExitStack() as scrapes:  # closed last: /metrics shows a drain to its end
        try:
            sockets, own = _sockets(config)
            for _, sock in sockets:
                scrapes.callback(sock.close)  # for a start that fails
            await _listen(runner, config, [sock for name, sock in sockets if name != SCRAPES])
            monitor = await _listen_for_scrapes(
                scrapes, runner.app, config, [sock for name, sock in sockets if name == SCRAPES]
            )
            reloading = Reloading(runner, config, load)
            ending = Ending(reloading, sockets)
            started(base_url(runner))
            spare_collections()
            return_large_blocks()
            sys.setswitchinterval(TURN)
            systemd.notify("READY=1")
            watchdog = _watchdog()
            budget = runner.app[SERVICE].load.budget
            returning = keep_doing(partial(_return_memory, budget), RETURNS, name="giving memory back")
            await ending.asked.wait()
            await ending.drain(runner, monitor, shared=not own)
            if watchdog is not None:
                watchdog.cancel()
            returning.cancel()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS)
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
        shutdown_timeout=LAST_WORDS,  # it waits twice as long, for requests that do not end when told to
    )


class Runner(web.AppRunner):
    """aiohttp's runner with ``routes.shortcut``."""

    async def setup(self) -> None:
        """Open the rooms, and get ready to serve."""
        await super().setup()
        assert self.server is not None
        shortcut(self.server, self.app[SERVICE])


def base_url(runner: web.AppRunner) -> str:
    """Return the URL of the first socket; systemd may have opened it on a path."""
    name = addresses(runner)[0]
    if not isinstance(name, tuple):
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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


def _sockets(config: Config) -> tuple[list[Named], bool]:
    """Return the sockets to listen on, and whether those of the API are ours to bind.

    What systemd holds goes before ``server.host`` and ``port``. A predecessor's are taken over as far as the
    configuration still names their addresses.
    """
    server, inherited = config.server, systemd.inherited_sockets()
    given = list(zip(systemd.inherited_names(len(inherited)), inherited, strict=True))
    held = [(name, sock) for name, sock in given if name not in (OWN, SCRAPES)]
    found = held or _bound(OWN, given, server.host, server.port, reuse_port=server.reuse_port)
    if server.metrics_listen is not None and (place := address(server.metrics_listen)) is not None:
        found = [*found, *_bound(SCRAPES, given, *place, reuse_port=False, setting="server.metrics_listen")]
    for name, sock in given:
        if (name, sock) not in found:
            sock.close()
    return found, not held


def _bound(name: str, given: Sequence[Named], host: str, port: int, **how: Any) -> list[Named]:
    return [(name, sock) for sock in bind(host, port, given=[sock for its, sock in given if its == name], **how)]


async def _listen(runner: web.AppRunner, config: Config, sockets: list[socket.socket]) -> None:
    _check_doors(config, [sock.getsockname() for sock in sockets])
    await relieve()  # last of what may fail: what is accepted from here on is served
    warn_of_few_descriptors(config.server.max_connections)
    for sock in sockets:
        await _site(runner, sock, runner.app[SERVICE]).start()


def warn_of_few_descriptors(connections: int) -> None:
    """Say if fewer connections can be accepted than the configuration allows."""
    if connections > (carried := descriptors.carried()):
        log.warning(
            "server.max_connections = %d takes %d file descriptors, and the system allows %d (LimitNOFILE, ulimit -n): "
            "no more than %d connections are accepted",
            *(connections, descriptors.needed(connections), descriptors.allowed(), carried),
        )


def _site(runner: web.AppRunner, sock: socket.socket, service: Service) -> GuardedSite:
    """Return a site within the limits of the configuration in force."""
    return GuardedSite(
        runner,
        sock,
        carried=descriptors.carried(),
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


async def _listen_for_scrapes(
    stack: AsyncExitStack, app: web.Application, config: Config, sockets: Sequence[socket.socket]
) -> web.AppRunner:
    """Serve ``/metrics`` alone, without a key, on ``server.metrics_listen``, within the limits of any connection."""

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
        shutdown_timeout=LAST_WORDS,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    for sock in sockets:
        await _site(runner, sock, app[SERVICE]).start()
    return runner


def bind(
    host: str,
    port: int,
    *,
    reuse_port: bool,
    setting: str = "server.host and server.port",
    given: Sequence[socket.socket] = (),
) -> list[socket.socket]:
    """Return a listening socket for each address of the host, one of those given where it fits.

    Raises ``StartFault``.
    """
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            if fitting := [sock for sock in given if _fits(sock, family, *address[:2])]:
                sockets.append(fitting[0])
                continue
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


def _fits(sock: socket.socket, family: int, host: str | int, port: int | bytes) -> bool:
    """Return whether a socket has an address; port 0 is any."""
    return sock.family == family and sock.getsockname()[0] == host and port in (0, sock.getsockname()[1])


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
            systemd.notify(systemd.reloading())
            service = self._runner.app[SERVICE]
            refused: float | None = service.clock()  # which it is after a bug, too
            try:
                await self._take_over(await asyncio.to_thread(self._load))
                refused = None
            except (ConfigFault, OSError) as fault:
                why = "; ".join(str(fault).split("\n"))
                log.error("reload refused, the old configuration stays: %s", why)  # noqa: TRY400 - no bug
            finally:
                service.reload_refused = refused
                systemd.notify("READY=1")

    async def _take_over(self, config: Config) -> None:
        _check_doors(config, addresses(self._runner))
        renewed = await reload(self._runner.app, config)
        old, self.config = self.config, config
        log.info("configuration reloaded; %s", changes(old, config, renewed))
        known = {*cautions(old)}
        for caution in cautions(config):
            if caution not in known:
                log.warning(caution)
        if old.auth.clients and not config.auth.clients:
            log.warning(KEYLESS)
        for name in dropped(old, config):
            log.warning("%s is set but no longer used: the new configuration takes nothing from it", name)
        if fixed := needs_restart(self._started, config):
            log.warning("needs a restart: %s", ", ".join(fixed))


class Ending:
    """How the process ends: SIGTERM and SIGINT give what runs ``timeouts.drain``; a successor gives it all its time.

    ``asked`` is set by either. SIGTERM may still come to a process that has been relieved.
    """

    def __init__(self, reloading: Reloading, sockets: Sequence[Named]) -> None:
        self.asked = asyncio.Event()
        self._reloading = reloading
        self._told = False
        self._relieved = False
        self._time: asyncio.Timeout | None = None
        self._upgrade = Upgrade(sockets, lambda: reloading.config.timeouts.upgrade, self._relieve)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGUSR2, self._upgrade.begin)
        loop.add_signal_handler(signal.SIGHUP, lambda: spawn(logged(reloading.run(), name="reload"), name="reload"))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS)

    async def drain(self, runner: web.AppRunner, scrapes: web.AppRunner, *, shared: bool) -> None:
        """Stop listening, and serve what was accepted. ``shared``: systemd holds the sockets, too."""
        timeouts = self._reloading.config.timeouts
        if not self._relieved:
            systemd.notify(systemd.stopping(timeouts.drain_delay + timeouts.drain + 3 * LAST_WORDS))
        runner.app[SERVICE].draining = True
        leaving = [runner, scrapes] if self._relieved else [runner]  # a drain shows in /metrics to its end
        for connection in [one for each in leaving for one in connections(each)]:
            connection.retire()
        if not (shared or self._relieved):
            await asyncio.sleep(timeouts.drain_delay)
        for site in [one for each in leaving for one in each.sites]:
            if isinstance(site, GuardedSite):
                site.shared = shared or self._relieved
            await site.stop()
        await self._finish(runner)

    async def _finish(self, runner: web.AppRunner) -> None:
        try:
            async with asyncio.timeout(None) as self._time:
                if self._told:
                    self._hurry()
                await _all_said(runner)
        except TimeoutError:
            await _interrupt(runner)
        finally:
            self._time = None  # which a late SIGTERM would find ended

    def _stop(self) -> None:
        if not self._told:
            self._told = True
            log.info("draining: running requests have timeouts.drain = %g s", self._reloading.config.timeouts.drain)
            self._upgrade.give_up()
            self.asked.set()
            self._hurry()

    def _relieve(self) -> None:
        self._relieved = True
        self.asked.set()

    def _hurry(self) -> None:
        if self._time is not None:
            drain = self._reloading.config.timeouts.drain
            self._time.reschedule(asyncio.get_running_loop().time() + drain)


async def _all_said(runner: web.AppRunner) -> None:
    """Wait until nothing is under way.

    For requests on their way, whose connections were accepted and nobody else will answer, only LAST_WORDS long.
    """
    loop = asyncio.get_running_loop()
    early, under_way = loop.time() + LAST_WORDS, True
    while under_way:
        soon = loop.time() < early
        await asyncio.sleep(LOOK if soon else LATER)  # first, so that what was accepted is seen
        under_way = any(one.busy or (soon and one.speaking) for one in connections(runner))


async def _interrupt(runner: web.AppRunner) -> None:
    """End what runs, each request with an error, and refuse what comes."""
    runner.app[SERVICE].refusing = True
    for connection in connections(runner):
        connection.interrupt()
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS):
            await _all_said(runner)


def _watchdog() -> asyncio.Task[None] | None:
    """Give signs of life, if somebody waits for them."""

    async def live() -> None:
        systemd.notify("WATCHDOG=1")

    interval = systemd.watchdog_interval()
    return None if interval is None else keep_doing(live, interval, name="watchdog")
