"""Taking settings over: by the one function that a start and a reload go through, so that neither forgets any.

Streams under way are not touched.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from gemproxy.config import Config
from gemproxy.config.sections import Upstream
from gemproxy.fetch.fetcher import ImageFetcher
from gemproxy.pool.cooldown import Record
from gemproxy.redaction import held
from gemproxy.server.service import SERVICE, Service
from gemproxy.tasks import logged, spawn
from gemproxy.wiring.settings import Settings, read

UPSTREAM: web.AppKey[Upstream] = web.AppKey("upstream", Upstream)  # the addresses, as they were at the start


async def reload(app: web.Application, config: Config) -> list[str]:
    """Take a new configuration over: credentials, client keys, models and limits.

    Returns the names of credentials that were here before and are others now, be it only in their files. Raises
    ``ConfigFault`` before anything has changed. What needs a restart: ``config.needs_restart``.
    """
    service = app[SERVICE]
    settings = await read(config, app[UPSTREAM])
    return take_over(service, settings, await service.pool.state.records())


def take_over(service: Service, settings: Settings, records: Iterable[Record] = ()) -> list[str]:
    """Let every room have what it needs of the settings; returns and raises as ``reload`` does.

    ``records`` tell of credentials that were here before and come back. Once the fetcher is made nothing fails or
    awaits: a request meets the old configuration or the new one, never half of each.
    """
    fetcher = ImageFetcher(settings.images, between=settings.between)
    held.hold("configuration", settings.secrets)
    rotator = service.pool.rotator
    before, fingerprints = rotator.fingerprints(), settings.fingerprints
    settings.door.catalogue.add_discovered(service.operations.discovered)
    service.pool.tokens.replace(settings.sources, fingerprints, settings.patience)
    rotator.replace(settings.slots, settings.policy, records)
    service.dispatcher.queue.limit = settings.queue
    service.dispatcher.limits = settings.limits
    service.door = settings.door
    service.pool.lookout.reach.keep(settings.door.needed)
    service.load.budget.allow(settings.memory)
    _replace_images(service, fetcher)
    return [name for name, known in fingerprints.items() if before.get(name, known) != known]


def _replace_images(service: Service, fetcher: ImageFetcher) -> None:
    service.images, old = fetcher, service.images
    name = "closing the images of the old configuration"
    _ = spawn(logged(old.close(), name=name), name=name)  # waits for those under way, as the reload must not
