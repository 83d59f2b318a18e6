"""What a request may take, for tests of what stands below the door."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from gemproxy.load.budget import Budget, Hold
from gemproxy.load.burden import Burden, Load
from gemproxy.load.turns import left_by

MIB = 1 << 20


def make_load(most: int = 256 * MIB) -> Load:
    return Load(Budget(most, time.monotonic))


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
