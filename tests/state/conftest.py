"""Fixtures of the tests of what outlives a process."""

from __future__ import annotations

import pytest

from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)
