"""Servers for the suites of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from gemproxy.simulator import Simulator
from tests.running import Running, configuration, running
from tests.server_process import FAST, ServerProcess, configured, serving

GUARDED = '[auth]\nkeys = ["sk-one", "sk-two", "sk-test"]\n'


@pytest.fixture
async def opened(simulator: Simulator) -> AsyncIterator[Running]:
    """A server on loopback without any client key, in this process."""
    async with running(simulator) as server:
        yield server


@pytest.fixture
async def guarded(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Running]:
    """A server with client keys, in this process."""
    async with running(simulator, configuration(simulator, tmp_path, GUARDED)) as server:
        yield server


# -------------------------------------------------------------- one real process for all tests of a module (its loop)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Simulator, ServerProcess]]:
    """A simulated Gemini, and a server before it."""
    async with (
        Simulator() as google,
        serving(tmp_path_factory.mktemp("faults"), configured(google.ai_studio_url, FAST, keys=2)) as server,
    ):
        yield google, server


@pytest_asyncio.fixture(loop_scope="module")
async def google(standing: tuple[Simulator, ServerProcess]) -> Simulator:
    standing[0].clear()
    return standing[0]


@pytest_asyncio.fixture(loop_scope="module")
async def server(standing: tuple[Simulator, ServerProcess]) -> ServerProcess:
    await standing[1].turn_page()
    return standing[1]


@pytest_asyncio.fixture(loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made
