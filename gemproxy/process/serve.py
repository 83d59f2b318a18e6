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
from gemproxy.load.budget import Budget
from gemproxy.process import systemd
from gemproxy.process.ending import LAST_WORDS, ORDERS, Ending
from gemproxy.process.memory import return_large_blocks, return_memory, spare_collections
from gemproxy.process.reloading import Reloading
from gemproxy.process.scrapes import listen_for_scrapes
from gemproxy.process.sockets import SCRAPES, base_url, listen, open_sockets
from gemproxy.process.watched import Runner
from gemproxy.server.service import SERVICE
from gemproxy.tasks import keep_doing
from gemproxy.wiring.build import build_app, shorten

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
            ending = Ending(Reloading(runner, config, load), sockets)
            started(base_url(runner))
            _settle()
            systemd.notify("READY=1")
            chores = _chores(runner.app[SERVICE].load.budget)
            await ending.asked.wait()
            await ending.drain(runner, monitor, shared=not own)
            for chore in chores:
                chore.cancel()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS)
            await runner.cleanup()


def _settle() -> None:
    """Set up the interpreter for what is to come, now that all is there that stays."""
    spare_collections()
    return_large_blocks()
    sys.setswitchinterval(SWITCH_INTERVAL)


def _chores(budget: Budget) -> list[asyncio.Task[None]]:
    """Begin what is done now and again until the end: giving memory back, and signs of life if somebody waits."""
    returning = keep_doing(partial(return_memory, budget), RETURN_INTERVAL, name="giving memory back")
    interval = systemd.watchdog_interval()
    return [returning] if interval is None else [returning, keep_doing(_live, interval, name="watchdog")]


async def _live() -> None:
    systemd.notify("WATCHDOG=1")


def make_runner(config: Config, app: web.Application | None = None) -> web.AppRunner:
    """Return the application (None: the whole of it) in aiohttp's frame, with the settings that all that is promised
    rests on.
    """
    return ShortRunner(
        app or build_app(config),
        access_log=None,
        handler_cancellation=True,  # a client that leaves ends its upstream request at once
        auto_decompress=False,  # a packed body is refused, not unpacked: a small one may hold gigabytes
        lingering_time=2.0,  # seconds for the rest of a body that was refused: long enough to hear the answer
        keepalive_timeout=config.timeouts.keepalive,
        shutdown_timeout=LAST_WORDS,  # it waits twice as long, for requests that do not end when told to
    )


class ShortRunner(Runner):
    """A runner with the way past aiohttp's router that the wiring knows."""

    async def setup(self) -> None:
        """Open the rooms, and get ready to serve."""
        await super().setup()
        assert self.server is not None
        shorten(self.server, self.app)
