"""What an upstream can do wrong, at every moment, and what the client is told: one table, run whole, then judged.

The rules (docs/architecture.md 4.3): before the status commit the true status, before the content commit fail-over,
after it an in-stream error; never a silent truncation, a made-up finish, a duplicate or a connection that is stuck
(``client.read_answer`` checks every answer). The rows: ``upstream_faults``.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import pytest

from gemproxy.config import load
from gemproxy.simulator import Reset
from tests.all_hold import all_hold
from tests.faults.client import AUTH, Got, ask, hello, pool
from tests.faults.figures import note
from tests.faults.matrix import EVENT_CODES, MORE, Matrix, expected, run, table
from tests.faults.raw_upstream import RawUpstream
from tests.faults.upstream_faults import KINDS, ROWS, TEXT, Column, Fault, Moment, good, plain, wire
from tests.running import Running, running
from tests.turned_loop import Turned


async def chat(server: Running, model: str, stream: bool) -> Got:
    return await ask(server.session, server.url, hello(model=model, stream=stream))


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    found = asyncio.run(run(tmp_path_factory.mktemp("matrix"), chat))
    note(table(found))
    return found


@pytest.mark.parametrize(("fault", "moment"), ROWS, ids=[f"{fault.name} {moment}" for fault, moment in ROWS])
def test_fault_is_healed_or_told(matrix: Matrix, fault: Fault, moment: Moment) -> None:
    all_hold(partial(judge, matrix, fault, moment), KINDS)


def judge(matrix: Matrix, fault: Fault, moment: Moment, column: Column, often: str) -> None:
    cell = matrix.cells[fault.name, moment, column, often]
    outcome, repeated = expected(fault, moment, column, often)
    assert cell.outcome == outcome
    assert cell.got is not None
    assert (cell.tries > 1) == repeated
    assert cell.tries <= 6, "rotation.attempts"
    if cell.got.whole:
        assert cell.got.text == (TEXT if repeated else fault.text), "not a byte more or less"
    if cell.got.status in EVENT_CODES:
        assert cell.got.code == EVENT_CODES[cell.got.status]
    if cell.got.status == 503:
        assert int(cell.got.headers["Retry-After"]) > 0


def test_no_answer_stays_in_memory(matrix: Matrix) -> None:
    """An exception that somebody keeps, keeps its traceback, and with it everything that was under way."""
    assert matrix.answers > len(matrix.cells) / 2
    assert matrix.kept == 0


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("back", [True, False], ids=["for a moment", "for good"])
async def test_refused_connection_is_tried_again_then_502(
    turned: Turned, tmp_path: Path, stream: bool, back: bool
) -> None:
    async with RawUpstream() as upstream:
        file = tmp_path / "refuse.toml"
        file.write_text(MORE.format(hold=30, url=upstream.ai_studio_url), encoding="utf-8")
        upstream.script("gemini-2.5-flash", good(stream))
        await upstream.stop()
        async with running(None, load(file, {})) as server:
            begin = turned.now
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(ask(server.session, server.url, hello(stream=stream)))
                if back:
                    await asyncio.sleep(0.2)
                    await upstream.start(upstream.port)
            took = turned.now - begin
            got = asking.result()
            rows = await pool(server.session, server.url)
    assert got.outcome == ("whole" if back else "502")
    assert {row["state"] for row in rows} == {"ready"}, "rotation does not help, so no key rests"
    assert took < 1.3, "two pauses, 0 and 0.5 s, lie between three tries; none may follow the last"


MINUTE = {"error": {"code": 429, "message": "Resource has been exhausted.", "status": "RESOURCE_EXHAUSTED"}}


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_key_at_its_quota_and_then_a_broken_upstream_is_a_passing_fault(tmp_path: Path, stream: bool) -> None:
    """One key rests, the other's answers break: what the client may hope for is a later try, and it is told so."""
    async with RawUpstream() as upstream:
        file = tmp_path / "mixed.toml"
        file.write_text(MORE.format(hold=30, url=upstream.ai_studio_url), encoding="utf-8")
        quota = (plain("429 Too Many Requests", msgspec.json.encode(MINUTE)),)
        upstream.script("gemini-2.5-flash", quota, (Reset(),))
        async with running(None, load(file, {})) as server:
            got = await ask(server.session, server.url, hello(stream=stream))
    assert (got.status, got.code) == (502, "upstream_error")
    assert got.headers.get("x-should-retry") != "false"


async def test_answer_too_many_is_never_given_to_another_request(tmp_path: Path) -> None:
    async with RawUpstream() as upstream:
        file = tmp_path / "twice.toml"
        file.write_text(MORE.format(hold=30, url=upstream.ai_studio_url), encoding="utf-8")
        other = wire(False, Moment.BEFORE, ("not ", "for ", "you")).after
        upstream.script("gemini-2.5-flash", (*good(False), other))  # one answer too many
        upstream.script("gemini-2.5-pro", good(False))
        async with running(None, load(file, {})) as server:
            for model in ("gemini-2.5-flash", "gemini-2.5-pro") * 5:
                got = await ask(server.session, server.url, hello(model=model), AUTH)
                assert (got.outcome, got.text) == ("whole", TEXT)
