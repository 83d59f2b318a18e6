"""Fixtures of the pool's tests."""

from __future__ import annotations

import pytest

from gemproxy.pool.cooldown import Policy
from gemproxy.pool.slot import Slot
from tests.clock import Clock
from tests.pool.pool_transcript import Pool


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
