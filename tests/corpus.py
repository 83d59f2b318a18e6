"""Where recorded traffic and the published schemas lie: in ``tests/data/wire``, and more of them beside the repository.

What may be published is part of it; ``INDEX.tsv`` there says of each file where it is from. The folder that WIRE names,
else ``../shared/wire``, has the same layout, more recordings of the same features, and some of no known licence, for
which files of our own stand in here. A name that both have is read from there, since here long data are cut short.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

OWN = Path(__file__).parent / "data" / "wire"
WIRE = Path(os.environ.get("WIRE") or Path(__file__).parents[2] / "shared" / "wire")
HAS_WIRE = (WIRE / "corpus").is_dir()
needs_wire = pytest.mark.skipif(not HAS_WIRE, reason="compares with more recordings than are here (tests/corpus.py)")


def path_of(name: str) -> Path:
    """Return where the file of that name lies."""
    beside = WIRE / name
    return beside if beside.exists() else OWN / name


def listed(pattern: str) -> list[Path]:
    """Return every file of that pattern, in the order of their names."""
    files = {path.relative_to(place): path for place in (OWN, WIRE) for path in place.glob(pattern)}
    return [files[name] for name in sorted(files)]


def rows(folder: str = "corpus") -> list[dict[str, str]]:
    """Return what the indexes say of every file of that folder, in the order of their names."""
    known: dict[str, dict[str, str]] = {}
    for place in (OWN, WIRE):
        if (place / folder).is_dir():
            with (place / folder / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
                for row in csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE):
                    known[row["file"]] = known.get(row["file"], {}) | row
    return [known[name] for name in sorted(known)]
