"""(edge) One process from its first socket to its last answer: listen, reload on SIGHUP, drain on SIGTERM.

Order of a drain (SPEC 5): ``/ready`` turns 503 and idle connections close; an inherited socket stops at once, since its
successor takes what comes, a socket of our own answers 503 for ``timeouts.drain_delay``; running streams get
``timeouts.drain`` seconds.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Callable

from aiohttp import web

from gemproxy import supervisor
from gemproxy.config import Config
from gemproxy.errors import ConfigFault, StartFault
from gemproxy.server.app import build_app, reload
from gemproxy.server.service import SERVICE
from gemproxy.server.tasks import spawn

log = logging.getLogger("gemproxy")


async def serve(config: Config, load: Callable[[], Config], started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``load`` reads the configuration anew; ``started`` hears the base URL."""
    raise_descriptor_limit()
    app = build_app(config)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,  # a client that leaves ends its upstream request at once
        keepalive_timeout=config.timeouts.keepalive,
        shutdown_timeout=config.timeouts.drain,
    )
    await runner.setup()
    try:
        inherited = supervisor.inherited_sockets()
        await _listen(runner, config, inherited)
        stop = _signals(app, load)
        started(base_url(runner))
        supervisor.notify("READY=1")
        watchdog = _watchdog()
        await stop.wait()
        await _drain(runner, config, inherited=bool(inherited))
        watchdog.cancel()
    finally:
        await runner.cleanup()


def base_url(runner: web.AppRunner) -> str:
    """Return the URL of the first socket."""
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def raise_descriptor_limit() -> None:
    """Allow as many open connections as the system lets us: each stream takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _listen(runner: web.AppRunner, config: Config, inherited: list[socket.socket]) -> None:
    if inherited:
        for sock in inherited:
            await web.SockSite(runner, sock).start()
        return
    server = config.server
    site = web.TCPSite(runner, server.host, server.port, reuse_port=server.reuse_port or None, backlog=1024)
    try:
        await site.start()
    except OSError as fault:
        raise StartFault(
            f"cannot listen on server.host = {server.host!r}, server.port = {server.port}: {fault.strerror or fault}"
        ) from None


def _signals(app: web.Application, load: Callable[[], Config]) -> asyncio.Event:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: spawn(_reload(app, load), name="reload"))
    return stop


async def _reload(app: web.Application, load: Callable[[], Config]) -> None:
    supervisor.notify(supervisor.reloading())
    try:
        config = await asyncio.to_thread(load)
        await reload(app, config)
    except ConfigFault as fault:
        log.error("reload refused, the old configuration stays: %s", fault)  # noqa: TRY400 - no bug, no traceback
    else:
        log.info("configuration reloaded")
    supervisor.notify("READY=1")


async def _drain(runner: web.AppRunner, config: Config, *, inherited: bool) -> None:
    log.info("draining: running requests have timeouts.drain = %g s", config.timeouts.drain)
    supervisor.notify("STOPPING=1")
    runner.app[SERVICE].draining = True
    if runner.server is not None:
        runner.server.pre_shutdown()
    if inherited:
        for site in runner.sites:
            await site.stop()
    else:
        await asyncio.sleep(config.timeouts.drain_delay)


def _watchdog() -> asyncio.Task[None]:
    async def live() -> None:
        interval = supervisor.watchdog_interval()
        while interval is not None:
            supervisor.notify("WATCHDOG=1")
            await asyncio.sleep(interval)

    return spawn(live(), name="watchdog")
