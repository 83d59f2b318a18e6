"""Fixtures of the tests of what outlives a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemproxy.state.memory import MemoryState
from gemproxy.state.sqlite import SqliteState
from gemproxy.state.store import State
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def process(path: Path, clock: Clock):
    """Return a function that opens the state as one more process would."""
    opened = []

    async def start() -> SqliteState:
        state = SqliteState(path, clock, patience=0.05)
        await state.open()
        opened.append(state)
        return state

    yield start
    for state in opened:
        await state.close()


@pytest.fixture(params=["memory", "sqlite"])
async def state(request, process, clock) -> State:
    return MemoryState(clock) if request.param == "memory" else await process()
