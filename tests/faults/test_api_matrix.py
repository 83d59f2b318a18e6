"""The core of the faults of ``upstream_faults``, on client protocols of every kind, which dispatch knows nothing of.

The rules are those of chat (``test_upstream_matrix``): what can be healed is healed, all else is told once, and nothing
is cut in silence.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gemproxy.converter.api import Operation
from tests.apis.bytes_through import BYTES_THROUGH
from tests.apis.plain_text import PLAIN_TEXT
from tests.apis.three_calls import THREE_CALLS
from tests.apis.words import FAILED
from tests.faults.client import AUTH, Got
from tests.faults.figures import note
from tests.faults.upstream_faults import (
    KINDS,
    ROWS,
    TEXT,
    Asking,
    Column,
    Fault,
    Matrix,
    Moment,
    expected,
    run,
    table,
)
from tests.running import Running

CORE = [row for row in ROWS if not row[0].name.startswith(("huge", "gzip", "204", "redirect", "not HTTP"))]
UNARY = [kind for kind in KINDS if kind[0] is Column.UNARY]
APIS = {
    "plain text": (PLAIN_TEXT, KINDS),
    "bytes through": (BYTES_THROUGH, KINDS),
    "three calls": (THREE_CALLS, UNARY),
}
CELLS = [(name, *row, *kind) for name, (_, kinds) in APIS.items() for row in CORE for kind in kinds]


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


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Matrix]:
    async def all_of_them() -> dict[str, Matrix]:
        folders = {name: tmp_path_factory.mktemp("matrix") for name in APIS}
        return {
            name: await run(folders[name], asking(operation), (operation,), CORE, kinds)
            for name, (operation, kinds) in APIS.items()
        }

    found = asyncio.run(all_of_them())
    for name, (_, kinds) in APIS.items():
        note(f"{name}: {table(found[name], CORE, kinds)}")
    return found


@pytest.mark.parametrize(("api", "fault", "moment", "column", "often"), CELLS)
def test_fault_is_healed_or_told(
    matrices: dict[str, Matrix], api: str, fault: Fault, moment: Moment, column: Column, often: str
) -> None:
    cell = matrices[api].cells[fault.name, moment, column, often]
    outcome, repeated = expected(fault, moment, column, often)
    assert cell.outcome == outcome
    calls = 3 if api == "three calls" else 1
    if outcome == "whole" or calls == 1:
        assert (cell.tries > calls) == repeated
    assert 1 <= cell.tries <= 6 * calls, "rotation.attempts, for each"
    if cell.got is not None and cell.got.whole:
        assert cell.got.text == TEXT, "not a byte more or less"


def test_no_answer_stays_in_memory(matrices: dict[str, Matrix]) -> None:
    assert {name: matrix.kept for name, matrix in matrices.items()} == dict.fromkeys(APIS, 0)
