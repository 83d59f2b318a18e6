"""How work grows with what it is done on: linear passes, square fails, whatever else the machine does.

The clock is that of this thread alone. The two sizes stand ``TIMES`` apart: what is linear costs ``TIMES`` as much for
the larger one, what is square ``TIMES`` times that. The bound lies between the two, so that caches, page faults and
neighbours would have to make the larger one ``MOST / TIMES`` times as dear, in each try, to fail what is linear.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from statistics import median

Task = Callable[[], object]
Work = Callable[[int], Task]  # makes its input beforehand; what it returns is measured

TIMES = 16
MOST = 40
TRIES = 6  # a neighbour on this machine may spoil one, a square spoils all
REPEATS = 5  # of the smaller one, which is cheap and soon disturbed: the middle one counts


def seconds(task: Task) -> float:
    """Return the seconds of this thread that a task takes."""
    collecting = gc.isenabled()
    gc.disable()  # how often it looks around does not grow evenly, and it looks at what all other tests have left
    try:
        began = time.thread_time()
        task()
        return time.thread_time() - began
    finally:
        if collecting:
            gc.enable()


def check_linear(work: Work, size: int) -> None:
    """Check that work of a size costs about ``TIMES`` as much as of a ``TIMES``-th of it."""
    small, large = work(size // TIMES), work(size)
    found: list[float] = []
    while not found or (found[-1] >= MOST and len(found) < TRIES):
        little = median(seconds(small) for _ in range(REPEATS))
        found.append(seconds(large) / little)
    assert found[-1] < MOST, f"{TIMES} times as much costs {[round(ratio) for ratio in found]} times as much"
