"""Fixtures of the tests of tokens and projects."""

from __future__ import annotations

import aiohttp
import pytest

from gemproxy.simulator import Simulator
from tests.clock import Clock
from tests.credentials.token_desk import TokenDesk


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


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
