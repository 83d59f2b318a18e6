"""(edge) How a process ends: by a signal or relieved by a successor, and what those who are under way get of it.

Order of a drain (docs/architecture.md 11): ``/ready`` turns 503, idle connections close, and all others after their
answer; a socket that systemd or a successor holds as well stops at once, since they take what comes; one of our own
serves as usual for ``timeouts.drain_delay`` and then until nobody waits; what runs gets ``timeouts.drain`` seconds, and
then an error.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import suppress

from aiohttp import web

from gemproxy.process import systemd
from gemproxy.process.connections import GuardedSite, connections
from gemproxy.process.reloading import Reloading
from gemproxy.process.upgrade import Named, Upgrade
from gemproxy.server.service import SERVICE
from gemproxy.tasks import logged, spawn

log = logging.getLogger("gemproxy")
ORDERS = (signal.SIGHUP, signal.SIGUSR2)
LAST_WORDS = 1.0  # seconds for requests on their way, and for those that were told to end
# Seconds between looks whether all is said, within LAST_WORDS and after them.
SOON_POLL, LATER_POLL = 0.02, 0.2


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
        await asyncio.sleep(SOON_POLL if soon else LATER_POLL)  # first, so that what was accepted is seen
        under_way = any(one.busy or (soon and one.speaking) for one in connections(runner))


async def _interrupt(runner: web.AppRunner) -> None:
    """End what runs, each request with an error, and refuse what comes."""
    runner.app[SERVICE].refusing = True
    for connection in connections(runner):
        connection.interrupt()
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS):
            await _all_said(runner)
