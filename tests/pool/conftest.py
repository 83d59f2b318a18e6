"""Fixtures of the pool's tests."""

from __future__ import annotations

import aiohttp
import pytest

from gemproxy.pool.rest import Policy
from gemproxy.pool.slot import Slot
from gemproxy.simulator import Simulator
from tests.clock import Clock
from tests.pool.pool_transcript import Pool
from tests.pool.token_desk import TokenDesk


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def pool(clock: Clock):
    """Return a function that builds a pool of slots named by single letters; ``|`` divides primary from backup."""

    def build(names: str = "a b c", policy: Policy | None = None, **attributes: object) -> Pool:
        slots = []
        for tier, part in enumerate(names.split("|")):
            slots += [Slot(name, tier, "ai_studio", fingerprint=f"print-{name}", **attributes) for name in part.split()]
        return Pool(clock, *slots, policy=policy)

    return build


@pytest.fixture
async def sim(clock: Clock):
    """A simulated Google that lives by the hand-turned clock."""
    async with Simulator(clock) as running:
        yield running


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
async def desk(sim, session, clock, tmp_path):
    """Tokens of the simulated Google, and what a test needs to change their world."""
    desk = TokenDesk(sim, session, clock, tmp_path)
    yield desk
    desk.close()
