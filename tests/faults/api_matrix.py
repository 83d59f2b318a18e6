"""The core of the faults of ``upstream_faults`` on client protocols of ``tests/apis``, which dispatch knows nothing of.

The rules are those of chat (``test_upstream_matrix``): what can be healed is healed, all else is told once, and nothing
is cut in silence. Each API has a module of its own, which runs when a worker has time for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from gemproxy.converter.api import Operation
from tests.all_hold import all_hold
from tests.apis.words import FAILED
from tests.faults.client import AUTH, Got
from tests.faults.figures import note
from tests.faults.matrix import Asking, Matrix, expected, run, table
from tests.faults.upstream_faults import KINDS, ROWS, TEXT, Column, Fault, Kind, Moment
from tests.running import Running

CORE = [row for row in ROWS if not row[0].name.startswith(("huge", "gzip", "204", "redirect", "not HTTP"))]
UNARY = [kind for kind in KINDS if kind[0] is Column.UNARY]


def texts_of(body: str) -> str:
    """Return the text within Gemini's own frames, be they events or one answer."""
    frames = [frame.removeprefix("data: ") for frame in body.split("\n\n") if frame]
    answers = [msgspec.json.decode(frame) for frame in frames]
    return "".join(answer["candidates"][0]["content"]["parts"][0]["text"] for answer in answers)


def asking(operation: Operation) -> Asking:
    """Return a client of this API that knows what an honest answer is."""
    path = operation.paths[0].removesuffix("{model}")

    async def ask(server: Running, model: str, stream: bool) -> Got:
        url = f"{server.url}{path}{model}{'?stream' if stream else ''}"
        async with server.session.post(url, data=b"Hello", headers=AUTH) as response:
            got = Got(response.status, headers=dict(response.headers))
            said, _, failure = (await response.read()).decode().partition(FAILED)
        if got.status == 200:
            assert said or failure, "an empty answer"
            got.text = texts_of(said) if path == "/through/" else said
            got.whole = not failure
            got.text = got.text.replace(" | ".join([TEXT] * 3), TEXT)
        got.code = failure.partition(":")[0] or None
        return got

    return ask


def measured(operation: Operation, kinds: Sequence[Kind], folder: Path) -> Matrix:
    """Return what came of all cells of an API, which are told at the end of the run."""
    found = asyncio.run(run(folder, asking(operation), (operation,), CORE, kinds))
    note(f"{operation.paths[0]}: {table(found, CORE, kinds)}")
    return found


def judge(matrix: Matrix, fault: Fault, moment: Moment, kinds: Sequence[Kind], calls: int = 1) -> None:
    """Check one row of an API that asks the upstream so many times for one answer, and answers in these ways."""
    all_hold(partial(_judge, matrix, calls, fault, moment), kinds)


def _judge(matrix: Matrix, calls: int, fault: Fault, moment: Moment, column: Column, often: str) -> None:
    cell = matrix.cells[fault.name, moment, column, often]
    outcome, repeated = expected(fault, moment, column, often)
    assert cell.outcome == outcome
    if outcome == "whole" or calls == 1:
        assert (cell.tries > calls) == repeated
    assert 1 <= cell.tries <= 6 * calls, "rotation.attempts, for each"
    if cell.got is not None and cell.got.whole:
        assert cell.got.text == TEXT, "not a byte more or less"


def judge_memory(matrix: Matrix) -> None:
    """Check that no answer is kept (``test_upstream_matrix``)."""
    assert matrix.answers > len(matrix.cells) / 2
    assert matrix.kept == 0
