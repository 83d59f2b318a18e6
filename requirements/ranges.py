"""Print what pyproject.toml asks for, as pip reads it: ``python requirements/ranges.py newest|lowest EXTRA``.

``newest`` prints the ranges themselves, ``lowest`` each floor with ``==``, so that one that no longer works is seen.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
OWN = re.compile(r"gemproxy\[([a-z,-]+)\]")
RANGE = re.compile(r"[A-Za-z0-9-]+(\[[a-z,]+\])?>=[0-9.]+")


def asked(extra: str) -> list[str]:
    """Return the ranges of what builds the project, of the project, and of an extra with those that it names."""
    whole = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    project, backend = whole["project"], whole["build-system"]["requires"]
    found = [*backend, *project["dependencies"], *_of([extra], project["optional-dependencies"])]
    return list(dict.fromkeys(found))


def _of(extras: Iterable[str], known: dict[str, Any]) -> Iterator[str]:
    for extra in extras:
        for requirement in known[extra]:
            if own := OWN.fullmatch(requirement):
                yield from _of(own[1].split(","), known)
            else:
                yield requirement


def lowest(requirement: str) -> str:
    """Return a range's floor. One that has no floor, or more than that, is refused: nobody could say what it needs."""
    if not RANGE.fullmatch(requirement):
        raise ValueError(f"{requirement}: not of the form name>=version")
    return requirement.replace(">=", "==")


def main(which: str, extra: str) -> None:
    change = {"newest": str, "lowest": lowest}[which]
    print("\n".join(map(change, asked(extra))))


if __name__ == "__main__":
    main(*sys.argv[1:])
