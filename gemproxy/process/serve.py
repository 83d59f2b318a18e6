"""(edge) One process from its first socket to its last answer: listen, reload on SIGHUP, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

from gemproxy import descriptors
from gemproxy.config import Config
from gemproxy.process import systemd
from gemproxy.process.ending import LAST_WORDS, ORDERS, Ending
from gemproxy.process.memory import return_large_blocks, return_memory, spare_collections
from gemproxy.process.reloading import Reloading
from gemproxy.process.scrapes import listen_for_scrapes
from gemproxy.process.sockets import SCRAPES, base_url, listen, open_sockets
from gemproxy.server.service import SERVICE
from gemproxy.tasks import keep_doing
from gemproxy.wiring.build import Runner, build_app

# Seconds that heavy work goes on when the loop wants Python, which it does at each system call; else 0.005.
SWITCH_INTERVAL = 0.0001
RETURN_INTERVAL = 5.0  # seconds between looks at the memory that is left free


async def serve(config: Config, load: Callable[[], Config], started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``load`` reads the configuration anew; ``started`` hears the base URL."""
    descriptors.raise_limit()
    runner = make_runner(config)
    # Till somebody hears them they would end the process; here, before there are threads, which have the mask, too.
    signal.pthread_sigmask(signal.SIG_BLOCK, ORDERS)
    await runner.setup()
    async with AsyncExitStack() as scrapes:  # closed last: /metrics shows a drain to its end
        try:
            sockets, own = open_sockets(config)
            for _, sock in sockets:
                scrapes.callback(sock.close)  # for a start that fails
            await listen(runner, config, [sock for name, sock in sockets if name != SCRAPES])
            monitor = await listen_for_scrapes(
                scrapes, runner.app, config, [sock for name, sock in sockets if name == SCRAPES]
            )
            reloading = Reloading(runner, config, load)
            ending = Ending(reloading, sockets)
            started(base_url(runner))
            spare_collections()
            return_large_blocks()
            sys.setswitchinterval(SWITCH_INTERVAL)
            systemd.notify("READY=1")
            watchdog = _watchdog()
            budget = runner.app[SERVICE].load.budget
            returning = keep_doing(partial(return_memory, budget), RETURN_INTERVAL, name="giving memory back")
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


def _watchdog() -> asyncio.Task[None] | None:
    """Give signs of life, if somebody waits for them."""

    async def live() -> None:
        systemd.notify("WATCHDOG=1")

    interval = systemd.watchdog_interval()
    return None if interval is None else keep_doing(live, interval, name="watchdog")
