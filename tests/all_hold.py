"""Many small checks as one test: to be a test of its own costs each more than most of them do, 5 ms in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def all_hold(check: Callable[..., object], cases: Iterable[tuple[Any, ...]]) -> None:
    """Call ``check`` with each case, and fail with all that did not hold."""
    broken, count = [], 0
    for case in cases:
        count += 1
        try:
            check(*case)
        except AssertionError as error:
            broken.append(f"{', '.join(map(str, case))}: {error}")
    assert count, "nothing to check"
    assert not broken, f"{len(broken)} of {count}:\n" + "\n".join(broken)
