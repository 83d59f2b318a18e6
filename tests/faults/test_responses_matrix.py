"""The faults of an upstream through Responses: a stream that fails ends in ``response.failed``, in its grammar."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec
import pytest

from tests.all_hold import all_hold
from tests.converter.responses.response_events import events_of, folded
from tests.faults.client import AUTH, Got, error_code
from tests.faults.figures import note
from tests.faults.matrix import EVENT_CODES, Matrix, expected, run, table
from tests.faults.upstream_faults import KINDS, ROWS, TEXT, Column, Fault, Moment
from tests.running import Running

FAILED = "server_error"  # whatever broke upstream: clients may try again


async def responses(server: Running, model: str, stream: bool) -> Got:
    body = msgspec.json.encode({"model": model, "input": "Hello", "stream": stream})
    async with server.session.post(f"{server.url}/v1/responses", data=body, headers=AUTH) as response:
        got = Got(response.status, headers=dict(response.headers), body=await response.read())
    if got.status != 200:
        got.code = error_code(msgspec.json.decode(got.body))
        return got
    if stream:
        events = events_of(got.body.replace(b": ping\n\n", b""))
        whole = folded(events)
        got.text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    else:
        whole = msgspec.json.decode(got.body)
        got.text = "".join(part["text"] for item in whole["output"] for part in item.get("content", ()))
    got.whole = whole["status"] == "completed"
    got.code = None if got.whole else whole["error"]["code"]
    return got


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    found = asyncio.run(run(tmp_path_factory.mktemp("matrix"), responses))
    note(f"/v1/responses: {table(found)}")
    return found


@pytest.mark.parametrize(("fault", "moment"), ROWS, ids=[f"{fault.name} {moment}" for fault, moment in ROWS])
def test_fault_is_healed_or_told(matrix: Matrix, fault: Fault, moment: Moment) -> None:
    all_hold(partial(judge, matrix, fault, moment), KINDS)


def judge(matrix: Matrix, fault: Fault, moment: Moment, column: Column, often: str) -> None:
    cell = matrix.cells[fault.name, moment, column, often]
    outcome, repeated = expected(fault, moment, column, often)
    for code in EVENT_CODES.values():
        outcome = outcome.replace(str(code), FAILED)
    assert cell.outcome == outcome
    assert cell.got is not None
    assert (cell.tries > 1) == repeated
    assert cell.tries <= 6, "rotation.attempts"
    if cell.got.whole:
        assert cell.got.text == (TEXT if repeated else fault.text), "not a byte more or less"
    if cell.got.status in EVENT_CODES:
        assert cell.got.code == EVENT_CODES[cell.got.status]


def test_no_answer_stays_in_memory(matrix: Matrix) -> None:
    assert matrix.answers > len(matrix.cells) / 2
    assert matrix.kept == 0
