"""A running gemproxy in front of the strict simulated Gemini, for clients of every make."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gemproxy.simulator import Simulator
from tests import openai_package as openai
from tests.running import Running, running


@pytest.fixture
async def server(simulator: Simulator) -> AsyncIterator[Running]:
    async with running(simulator) as started:
        yield started


@pytest.fixture
async def openai_client(server: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    """The connection that clients built on the ``openai`` package are given; it is closed at the end."""
    async with server.openai() as client:
        yield client
