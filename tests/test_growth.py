"""What ``check_linear`` tells apart."""

from __future__ import annotations

import pytest

from tests.growth import Task, check_linear

SIZE = 1_600


def turns(count: int) -> Task:
    """Return work of so many turns of a loop."""

    def task() -> None:
        for _ in range(count):
            pass

    return task


def test_what_is_linear_passes() -> None:
    check_linear(lambda size: turns(size * 1_000), SIZE)


def test_what_is_square_fails() -> None:
    with pytest.raises(AssertionError, match="16 times as much costs"):
        check_linear(lambda size: turns(size * size), SIZE)
