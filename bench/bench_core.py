"""Times the pure core with pytest-benchmark: ``python bench/bench_core.py [--quick | --guard | --record]``.

``--guard`` judges instead (exit status 1 on a regression), ``--record`` writes what ``--guard`` compares with.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file: modules are found from the root of the repository

from bench import guard
from bench.core import BESIDE, Case, cases

Benchmark = Callable[..., Any]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_core(benchmark: Benchmark, case: Case) -> None:
    """Time one case."""
    benchmark(case.work)


def main() -> int:
    """Time, judge or record."""
    parser = argparse.ArgumentParser(description="The speed of gemproxy's pure core.")
    parser.add_argument("--quick", action="store_true", help="rougher figures")
    parser.add_argument("--guard", action="store_true", help="compare with core_speed.toml; 1 on a regression")
    parser.add_argument("--record", action="store_true", help="write core_speed.toml anew for this Python")
    asked = parser.parse_args()
    if asked.record:
        return _record()
    return _judge() if asked.guard else _time(quick=asked.quick)


def _time(*, quick: bool) -> int:
    for case in cases():
        print(f"{case.name:<16} {case.sentence}")
    options = ["--benchmark-columns=min,median,iqr,ops", "--benchmark-sort=name", "--benchmark-disable-gc"]
    options += ["--benchmark-max-time=0.2"] if quick else []
    return int(pytest.main([__file__, "-q", "-p", "no:cacheprovider", *options]))


def _record() -> int:
    times = guard.measure(cases())
    for _ in range(guard.TRIES - 1):
        time.sleep(guard.PAUSE)  # as the guard does
        times = guard.better(guard.measure(cases()), times)
    guard.record(guard.ratios(times))
    print(f"written to {guard.RECORD}")
    return 0


def _judge() -> int:
    recorded = guard.records().get(guard.PYTHON)
    if recorded is None:
        print(f"not judged: {guard.RECORD.name} has no section for Python {guard.PYTHON}; `make bench-record` adds it")
        return 0
    faults = guard.guard(lambda: guard.measure(cases()), recorded)
    for fault in faults:
        print(fault)
    judged = len(recorded) + len(BESIDE)
    print(f"{judged - len(faults)} of {judged} ratios as they should be")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
