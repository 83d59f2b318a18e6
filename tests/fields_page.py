"""The tables of ``docs/fields.md`` and its like for other APIs, one row a case, and what asks each of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from gemproxy.errors import ClientFault
from gemproxy.simulator.model import PIXEL

DOCS = Path(__file__).parents[1] / "docs"
COLUMNS = ["field", "class", "example", "becomes", "remark"]
CLASSES = {"mapped", "approximated", "ignored", "refused"}
KINDS = ("`{", "nothing", "4", "model ", "answer ")


class Row(Struct, frozen=True):
    """One case of a page; ``becomes`` is the cell as it is written, ``judged`` that of a table which has it."""

    number: int
    table: str
    field: str
    kind: str
    example: dict[str, Any]
    becomes: str
    judged: str

    @property
    def quoted(self) -> str:
        """Return what stands between the marks of ``becomes``."""
        found = re.search(r"`(.*)`", self.becomes)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.table}: {self.field} {self.kind} {self.number}"


def rows_of(page: str) -> list[Row]:
    """Return all rows of a page; … stands for a picture of one pixel."""
    rows: list[Row] = []
    for section in (DOCS / page).read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        head, *lines = [line for line in text.split("\n") if line.startswith("| ")]
        columns = _cells(head)
        assert set(columns) >= set(COLUMNS), title
        for line in lines:
            cells = dict(zip(columns, _cells(line), strict=True))
            body = msgspec.json.decode(cells["example"].strip("`").replace("…", PIXEL))
            becomes = cells["becomes"].replace("…", PIXEL)
            field, judged = cells["field"].strip("`"), cells.get("judged", "")
            rows.append(Row(len(rows), title, field, cells["class"], body, becomes, judged))
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def cases(rows: Sequence[Row], wanted: Callable[[Row], bool]) -> list[Any]:
    """Return those rows as cases of a test."""
    return [pytest.param(row, id=str(row)) for row in rows if wanted(row)]


def that_become(rows: Sequence[Row], *starts: str) -> list[Any]:
    """Return the rows of which that comes, as cases of a test."""
    return cases(rows, lambda row: row.becomes.startswith(starts))


def check_class(row: Row) -> None:
    """See that a row is of the class it says, as far as what becomes of it can tell."""
    assert row.becomes.startswith(KINDS)
    assert row.kind in CLASSES
    assert (row.kind == "refused") == row.becomes.startswith("4")
    if row.kind == "approximated":
        assert row.becomes.startswith("`{")


def check_refusal(row: Row, ask: Callable[[], object]) -> None:
    """See that it is refused as the row says."""
    with pytest.raises(ClientFault) as refused:
        ask()
    assert f"{refused.value.status} `{refused.value.param}`" == row.becomes


def with_more(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return the body with what a row says added: objects join, all else is replaced."""
    joined = {
        key: with_more(base[key], held) if isinstance(held, dict) and key in base else held
        for key, held in more.items()
    }
    return base | joined
