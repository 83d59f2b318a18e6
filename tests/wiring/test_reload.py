"""Nothing of the settings is forgotten by whoever takes them over, at a start or a reload."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from gemproxy.config import Config, load
from gemproxy.config.sections import Rotation, Server, Timeouts
from gemproxy.server.service import SERVICE, Service
from gemproxy.upstream.dialect import Action, Scope, Verdict
from gemproxy.wiring import build, reload
from gemproxy.wiring.settings import Settings, read

STARTED = load(None, {"GEMINI_API_KEY": "test-key-1"})


class Noting:
    """Settings that note which of their fields somebody asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name == "fingerprints":
            return Settings.fingerprints.__get__(self)
        self.asked.add(name)
        return getattr(self._settings, name)


async def test_every_field_of_the_settings_is_taken_over() -> None:
    async with AsyncExitStack() as stack:
        service = await build.build_service(STARTED, stack)
        noting: Any = Noting(await read(STARTED, STARTED.upstream))
        reload.take_over(service, noting)
    assert noting.asked == set(Settings.__struct_fields__)


async def test_a_start_takes_over_what_a_reload_does(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Settings] = []

    def noted(service: Service, settings: Settings) -> list[str]:
        taken.append(settings)
        return reload.take_over(service, settings)

    monkeypatch.setattr(build, "take_over", noted)
    async with AsyncExitStack() as stack:
        service = await build.build_service(STARTED, stack)
        assert [one.door for one in taken] == [service.door]


async def test_a_reload_reaches_every_room() -> None:
    async with AsyncExitStack() as stack:
        service = await build.build_service(STARTED, stack)
        assert reload.take_over(service, await read(STARTED, STARTED.upstream)) == []
        settings = await read(_changed(STARTED), STARTED.upstream)
        renewed = reload.take_over(service, settings)
        assert renewed == ["studio-1"]
        assert service.door is settings.door
        assert service.pool.rotator.policy == settings.policy
        assert service.pool.rotator.fingerprints() == settings.fingerprints
        assert service.dispatcher.limits == settings.limits
        assert (service.dispatcher.limits.attempts, service.dispatcher.queue.limit) == (2, 7.0)
        assert service.load.budget.most == 64 << 20


async def test_a_credential_that_a_reload_brings_back_rests_as_it_did() -> None:
    app, other = web.Application(), load(None, {"GEMINI_API_KEY": "test-key-2"})
    async with AsyncExitStack() as stack:
        app[SERVICE] = service = await build.build_service(STARTED, stack)
        app[reload.UPSTREAM], rotator = STARTED.upstream, service.pool.rotator
        used_up = Verdict(Action.NEXT, Scope.MODEL, until=service.clock() + 3600, reason="quota")
        rotator.report(rotator.acquire("gemini-2.5-flash"), used_up)
        states = []
        for config in (other, STARTED):
            await reload.reload(app, config)
            states += [row.state for row in rotator.snapshot()]
    assert states == ["ready", "cooling"]


def _changed(config: Config) -> Config:
    return replace(
        load(None, {"GEMINI_API_KEY": "test-key-2"}),
        rotation=Rotation(attempts=2, max_in_flight=3),
        timeouts=Timeouts(queue=7.0),
        server=Server(memory=64 << 20),
        upstream=config.upstream,
    )
