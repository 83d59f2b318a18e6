"""The guard of the core's speed, for CI: no absolute time, only ratios to a fixed piece of pure Python.

Both are measured in one process in turn, in CPU time, the least of many; so the speed of the machine and most of its
noise cancel. The ratios that were found good stand in ``core_speed.toml``, by version of Python, since interpreters
differ. More than ``SLACK`` above them is a regression; ``make bench-record`` writes them anew, and the diff is the
review. What may cost so many times as much as another case (``core.BESIDE``) is held to that, too.
"""

from __future__ import annotations

import gc
import math
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.core import BESIDE, Case

Times = Mapping[str, float]  # seconds by case, the fixed loop among them
LOOP = "fixed loop"
RECORD = Path(__file__).with_name("core_speed.toml")
SLACK = 0.25
REPEATS = 25
TRIES = 7  # measurements before a regression is believed,
PAUSE = 1.0  # seconds between two of them: who shares the machine may be done by then
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_HEAD = """\
# CPU time of each case of bench/core.py as a multiple of the fixed loop of bench/guard.py, by version of Python.
# `make bench-record` writes the section of the Python that it runs on.
"""


def fixed_loop() -> int:
    """Do the work that all else is measured by: what the core does too, calls, dicts, lists, strings and bytes."""
    found: dict[str, list[int]] = {}
    for number in range(400):
        name = f"name-{number % 50}"
        found.setdefault(name, []).append(_step(number, 7))
    text = ",".join(f"{name}:{sum(values)}" for name, values in sorted(found.items()))
    data = text.encode().replace(b":", b"=").split(b",")
    return sum(map(len, data))


def _step(number: int, factor: int) -> int:
    return (number * factor + 3) % 1009 if number & 1 else number // factor


def measure(cases: list[Case], repeats: int = REPEATS) -> Times:
    """Return the seconds of each case and of the fixed loop; ``repeats`` times in turn, the least counts."""
    every = [Case(LOOP, "what all others are measured by", 10, fixed_loop), *cases]
    least = {case.name: math.inf for case in every}
    gc.collect()
    gc.disable()  # a collection is paid by whoever it meets
    try:
        for _ in range(repeats):
            for case in every:
                least[case.name] = min(least[case.name], _seconds(case.work, case.times))
    finally:
        gc.enable()
    return least


def ratios(times: Times) -> dict[str, float]:
    """Return each case as a multiple of the fixed loop."""
    return {name: seconds / times[LOOP] for name, seconds in times.items() if name != LOOP}


def better(times: Times, others: Times) -> dict[str, float]:
    """Return the lesser of two measurements, each time for itself.

    Not the lesser ratio: a loop that was disturbed where a case was not would make it look too good.
    """
    return {name: min(seconds, others.get(name, math.inf)) for name, seconds in times.items()}


def _seconds(work: Callable[[], object], times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begun) / times


def regressions(found: Mapping[str, float], recorded: Mapping[str, float]) -> list[str]:
    """Return a sentence for each case that is too slow, or that nobody recorded."""
    faults = []
    for name, ratio in found.items():
        good = recorded.get(name)
        if good is None:
            faults.append(f"{name} has no record: run `make bench-record`")
        elif ratio > good * (1 + SLACK):
            faults.append(f"{name} takes {ratio:.4g} of the fixed loop instead of {good:.4g}: {ratio / good - 1:+.0%}")
    return faults


def dearer(times: Times) -> list[str]:
    """Return a sentence for each case that costs more beside another than it may."""
    found = [(each, times[each.case] / times[each.other]) for each in BESIDE if each.case in times]
    return [
        f"{each.case} takes {ratio:.3g} times {each.other} instead of {each.most}"
        for each, ratio in found
        if ratio > each.most
    ]


def guard(
    measured: Callable[[], Times], recorded: Mapping[str, float], pause: Callable[[float], None] = time.sleep
) -> list[str]:
    """Return the regressions that the best of ``TRIES`` measurements still shows: noise only makes things slower."""
    least = measured()
    for _ in range(TRIES - 1):
        if not (regressions(ratios(least), recorded) or dearer(least)):
            break
        pause(PAUSE)
        least = better(measured(), least)
    return regressions(ratios(least), recorded) + dearer(least)


def records(file: Path = RECORD) -> dict[str, dict[str, float]]:
    """Return the recorded ratios by version of Python."""
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def record(found: Mapping[str, float], file: Path = RECORD) -> None:
    """Write the ratios for this Python; those for others stay."""
    versions = records(file) | {PYTHON: dict(found)}
    sections = [
        f'\n["{version}"]\n' + "".join(f"{name} = {ratio:.4g}\n" for name, ratio in ratios.items())
        for version, ratios in sorted(versions.items())
    ]
    file.write_text(_HEAD + "".join(sections), encoding="utf-8")
