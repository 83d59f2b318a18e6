"""The faults of an upstream through Messages: a stream that fails ends in ``error``, in its grammar."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.converter.anthropic.message_events import events_of, folded
from tests.faults.client import AUTH, Got
from tests.faults.figures import note
from tests.faults.matrix import EVENT_CODES, Matrix, expected, run, table
from tests.faults.upstream_faults import KINDS, ROWS, TEXT, Column, Fault, Moment
from tests.running import Running

TYPES = {502: "api_error", 503: "overloaded_error", 504: "timeout_error"}


async def messages(server: Running, model: str, stream: bool) -> Got:
    said = [{"role": "user", "content": "Hello"}]
    body = msgspec.json.encode({"model": model, "max_tokens": 100, "messages": said, "stream": stream})
    async with server.session.post(f"{server.url}/v1/messages", data=body, headers=AUTH) as response:
        got = Got(response.status, headers=dict(response.headers), body=await response.read())
    if got.status != 200:
        got.code = error_type(msgspec.json.decode(got.body), got)
    elif stream:
        _read_stream(got)
    else:
        whole = msgspec.json.decode(got.body)
        got.text = "".join(block["text"] for block in whole["content"])
        got.whole = whole["stop_reason"] == "end_turn"
    return got


def error_type(body: dict[str, dict[str, str]], got: Got) -> str:
    """Return the type of an error object, which must have its keys, a message and the request's id."""
    assert set(body) == {"type", "error", "request_id"}
    assert set(body["error"]) == {"type", "message"}
    assert body["error"]["message"]
    assert body["request_id"] == got.headers["request-id"]
    return body["error"]["type"]


def _read_stream(got: Got) -> None:
    events = events_of(got.body)
    deltas = (event["delta"] for event in events if event["type"] == "content_block_delta")
    got.text = "".join(delta["text"] for delta in deltas)
    if events[-1]["type"] == "error":
        assert [event["type"] for event in events].count("message_start") == 1, "begun once, early or not"
        got.code = error_type(events[-1], got)
    else:
        got.whole = folded(events)["stop_reason"] == "end_turn"


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    found = asyncio.run(run(tmp_path_factory.mktemp("matrix"), messages))
    note(f"/v1/messages: {table(found)}")
    return found


@pytest.mark.parametrize(("column", "often"), KINDS, ids=[f"{column} {often}" for column, often in KINDS])
@pytest.mark.parametrize(("fault", "moment"), ROWS, ids=[f"{fault.name} {moment}" for fault, moment in ROWS])
def test_fault_is_healed_or_told(matrix: Matrix, fault: Fault, moment: Moment, column: Column, often: str) -> None:
    cell = matrix.cells[fault.name, moment, column, often]
    outcome, repeated = expected(fault, moment, column, often)
    for status, code in EVENT_CODES.items():
        outcome = outcome.replace(code, TYPES[status])
    assert cell.outcome == outcome.replace("503", "529")
    assert cell.got is not None
    assert (cell.tries > 1) == repeated
    assert cell.tries <= 6, "rotation.attempts"
    if cell.got.whole:
        assert cell.got.text == (TEXT if repeated else fault.text), "not a byte more or less"


def test_no_answer_stays_in_memory(matrix: Matrix) -> None:
    assert matrix.answers > len(matrix.cells) / 2
    assert matrix.kept == 0
