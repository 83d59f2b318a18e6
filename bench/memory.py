"""The memory of a process and all its children, looked at so often that a peak is seen."""

from __future__ import annotations

import threading
from pathlib import Path

from bench.processes import resident_bytes

EVERY = 0.02  # seconds
_FAMILY = 10  # looks between two searches for new children


class MemoryWatch:
    """Looks from ``with`` on; ``peak`` is the most seen since ``start`` was called, in bytes."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def start(self) -> int:
        """Begin a new peak; returns the memory now."""
        self.peak = self.now()
        return self.peak

    def now(self) -> int:
        """Return the memory of this moment."""
        return _resident(family(self._pid))

    def _look(self) -> None:
        looks, pids = 0, [self._pid]
        while not self._over.wait(EVERY):
            if looks % _FAMILY == 0:
                pids = family(self._pid)
            looks += 1
            self.peak = max(self.peak, _resident(pids))


def family(pid: int) -> list[int]:
    """Return a process and all that came of it (proc(5), stat: the parent is the second field behind the name)."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_bytes().rpartition(b") ")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
    found = [pid]
    for one in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _resident(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        try:
            total += resident_bytes(pid)
        except (OSError, IndexError):
            continue  # it ended meanwhile
    return total
