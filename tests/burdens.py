"""What a request may take, for tests of what stands below the door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gemproxy.load.budget import Budget, Hold
from gemproxy.load.burden import Burden, Load
from gemproxy.load.turns import left_by
from gemproxy.load.worker import Worker
from tests.clock import Clock

MIB = 1 << 20


def make_load(most: int = 256 * MIB) -> Load:
    return Load(Budget(most, Clock()))


def make_burden(most: int = 256 * MIB) -> Burden:
    return make_load(most).burden("test")


def hold(owner: str = "test") -> Hold:
    return make_load().burden(owner).hold


@contextmanager
def client_left() -> Iterator[None]:
    """Within it, the client has left whose work this thread does."""
    left_by(lambda: True)
    try:
        yield
    finally:
        left_by(lambda: False)


def noted_work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of what is done beside the loop from now on, as it is."""
    names: list[str] = []
    run = Worker.run

    async def noted(self: Worker, owner: str, work: Any, *arguments: Any) -> Any:
        names.append(work.__name__)
        return await run(self, owner, work, *arguments)

    monkeypatch.setattr(Worker, "run", noted)
    return names
