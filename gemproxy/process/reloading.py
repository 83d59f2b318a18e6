"""(edge) What SIGHUP does: the file is read anew and taken over, or refused, and the log and systemd hear of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web

from gemproxy.config import KEYLESS, Config, cautions, changes, dropped, needs_restart
from gemproxy.errors import ConfigFault
from gemproxy.process import systemd
from gemproxy.process.sockets import addresses, check_doors
from gemproxy.server.service import SERVICE
from gemproxy.wiring.reload import reload

log = logging.getLogger("gemproxy")


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
                service.operations.reload_refused = refused
                systemd.notify("READY=1")

    async def _take_over(self, config: Config) -> None:
        check_doors(config, addresses(self._runner))
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
