"""Figures and what to think of them: rows of a table, printed and written as JSON. Pure but for the writing."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec
from msgspec import Struct

from bench.processes import Cores

RESULTS = Path(__file__).with_name("results.json")


class Limit(Struct, frozen=True):
    """What is asked of gemproxy's median: a ``ratio`` to the floor's, ``over`` it in the same unit, at ``most`` or at
    ``least`` so much whatever the floor does.
    """

    kind: Literal["ratio", "over", "most", "least"]
    value: float

    def __str__(self) -> str:
        words = {"ratio": "<= {:g} x", "over": "<= floor + {:g}", "most": "<= {:g}", "least": ">= {:g}"}
        return words[self.kind].format(self.value)


class Row(Struct, frozen=True):
    """One figure, measured in several rounds of one run, floor and gemproxy in turn.

    ``floor`` is empty where there is nothing to compare with. ``limit`` None: told, not judged.
    """

    scenario: str
    measure: str
    floor: list[float]
    gemproxy: list[float]
    limit: Limit | None = None

    @property
    def ratio(self) -> float | None:
        """Gemproxy's median over the floor's."""
        if not self.floor or median(self.floor) <= 0:
            return None
        return median(self.gemproxy) / median(self.floor)

    @property
    def ok(self) -> bool | None:
        """Whether the limit is kept; None without one."""
        if self.limit is None:
            return None
        found, value = median(self.gemproxy), self.limit.value
        match self.limit.kind:
            case "ratio":
                return self.ratio is not None and self.ratio <= value
            case "over":
                return found <= median(self.floor) + value
            case "most":
                return found <= value
            case "least":
                return found >= value


_FORM = "{:<11} {:<51} {:>9} {:>9} {:>6}  {:<14} {}"
HEAD = _FORM.format("scenario", "measure", "floor", "gemproxy", "ratio", "target", "").rstrip()


def line(row: Row) -> str:
    """Return a row as the table shows it."""
    floor = _number(median(row.floor)) if row.floor else "-"
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    verdict = {True: "ok", False: "MISS", None: ""}[row.ok]
    limit = "" if row.limit is None else str(row.limit)
    return _FORM.format(row.scenario, row.measure, floor, _number(median(row.gemproxy)), ratio, limit, verdict).rstrip()


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


class Told(Struct, frozen=True):
    """A row as results.json keeps it: the medians, the verdict, and every round."""

    scenario: str
    measure: str
    floor: float | None
    gemproxy: float
    ratio: float | None
    target: str
    ok: bool | None
    rounds: dict[str, list[float]]


def told(row: Row) -> Told:
    """Return what is kept of a row."""
    return Told(
        row.scenario,
        row.measure,
        median(row.floor) if row.floor else None,
        median(row.gemproxy),
        row.ratio,
        "" if row.limit is None else str(row.limit),
        row.ok,
        {"floor": row.floor, "gemproxy": row.gemproxy},
    )


def surroundings() -> dict[str, str | int]:
    """Return what the figures depend on."""
    names = ("aiohttp", "msgspec", "yarl", "multidict")
    found: dict[str, str | int] = {name: version(name) for name in names}
    return found | {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": len(Cores().all),
    }


def write(rows: list[Row], file: Path = RESULTS) -> None:
    """Write all rows, and what they were measured with."""
    found = {"surroundings": surroundings(), "rows": [told(row) for row in rows]}
    file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
