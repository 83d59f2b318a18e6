"""Wherever a request waits, it may end: by its client, a limit, a reload or a signal. Then nothing of it is left.

Rows are the places at which one waits (``held_rows``), columns what happens meanwhile. Each cell holds a request open
at its place, which the frames of the tasks prove, and looks afterwards at what a request may leave behind.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gemproxy.aiohttp_parts import PLAIN
from gemproxy.simulator import Simulator
from tests.faults import awaits
from tests.faults.awaits import WAY, places
from tests.faults.client import Bare
from tests.faults.held_open import PATHS, UNARY, Row, ask
from tests.faults.held_rows import NEVER, ROWS
from tests.faults.held_writes import STEP
from tests.faults.stage import DRAIN, TOTAL, Stage, staged
from tests.waiting import soon

LEAVES, FIRST_OVER, TOTAL_OVER = "client leaves", "timeouts.first", "timeouts.total"
RELOAD, SIGTERM, DRAIN_OVER = "reload", "SIGTERM", "SIGTERM and timeouts.drain"
COLUMNS = {
    LEAVES: (499, "-"),
    FIRST_OVER: (504, "upstream_timeout"),
    TOTAL_OVER: (504, "upstream_timeout"),
    RELOAD: (200, "-"),
    SIGTERM: (200, "-"),
    DRAIN_OVER: (503, "draining"),
}
"""With the status and the code that the log tells. A reload and SIGTERM let the request go on to its end."""

TABLE = [(row, form, column) for row in ROWS for form in row.forms for column in COLUMNS]
CELLS = [cell for cell in TABLE if cell[2] not in cell[0].cannot]
OTHERS = ("stored", "much stored", "wants", "turn", "looked up", "much looked up", "heard")
"""Rows that are no chat's: of the small APIs of tests/apis, and of what is kept."""

_held: dict[str, set[str]] = {}  # by row: where its requests waited


@pytest.mark.parametrize(
    ("row", "form", "column"), CELLS, ids=[f"{row.name}, {form}: {column}" for row, form, column in CELLS]
)
async def test_whatever_ends_a_request_leaves_nothing_of_it(
    row: Row, form: str, column: str, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(simulator, tmp_path, monkeypatch) as stage:
        client = await held(stage, row, form)
        if column == RELOAD:
            _check_limits(stage, row)
        failed = _failed(stage)
        ending = await end(stage, client, column)
        answer = await client.rest(30)
        await soon(lambda: any(line.startswith("id=ours ") for line in stage.lines), what="no line in the log")
        _check_line(stage, row, column)
        _check_answer(answer, row, form, column)
        assert not stage.service.dispatcher.queue._lines
        if row.others and ending is None:
            stage.release()
        if column != LEAVES:  # whose task is cancelled for good
            assert not [task for task in stage.handlers if task.cancelling()], "a cancellation that nobody took back"
        if ending is not None:
            await ending
            return  # ``staged`` finds whatever runs on
        await stage.settled(row.going_on)
        if column in (LEAVES, TOTAL_OVER):
            assert _failed(stage) == failed, "it cost the credential nothing"
        stage.release()
        await _check_next(stage, "renamed" if column == RELOAD else "studio-1")
        await stage.settled()


async def held(stage: Stage, row: Row, form: str) -> Bare:
    """Return a client whose request waits at the row's place."""
    client = await row.hold(stage, form)
    await stage.waits_at(row.at)
    _held[row.name] = _held.get(row.name, set()) | stage.waiting
    return client


async def end(stage: Stage, client: Bare, column: str) -> asyncio.Task[None] | None:
    """Do what the column says; returns the end of the process, if that has begun."""
    ending = None
    match column:
        case "client leaves":
            client.writer.transport.abort()
            return None
        case "timeouts.first":
            assert stage.limits.expire_first()
        case "timeouts.total":
            assert stage.limits.expire(TOTAL)
        case "reload":
            await stage.reloading.run()
            stage.release()
        case _:
            ending = stage.sigterm()
            await soon(lambda: stage.service.draining)
            if column == SIGTERM:
                stage.release()
            else:
                await soon(lambda: stage.limits.expire(DRAIN))
    if not client.writer.transport.is_reading():
        client.writer.transport.resume_reading()
    return ending


def _check_limits(stage: Stage, row: Row) -> None:
    """Check that no limit is running of which the row says that it cannot end the request."""
    assert FIRST_OVER not in row.cannot or row.cannot[FIRST_OVER] == STEP or not stage.limits.expire_first()
    assert TOTAL_OVER not in row.cannot or row.cannot[TOTAL_OVER] == STEP or not stage.limits.expire(TOTAL)


def _failed(stage: Stage) -> int:
    return sum(row.failed for row in stage.service.pool.rotator.snapshot())


def _check_line(stage: Stage, row: Row, column: str) -> None:
    [line] = [line.split(" ") for line in stage.lines if line.startswith("id=ours ")]
    status, code = row.told.get(column, COLUMNS[column])
    assert (f"status={status}" in line, f"error={code}" in line) == (True, True), line


def _check_answer(answer: bytes, row: Row, form: str, column: str) -> None:
    """Check that a client is told of the same as the log, and never that a part is the whole."""
    status, code = row.told.get(column, COLUMNS[column])
    top, _, body = answer.partition(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.") <= 1 or row.name == "small write", "one head, and none within a body"
    if status == 200:
        assert top.split(b" ")[1] == b"200"
        assert b"failed" not in body
        assert b'"error"' not in body
        chat = form not in PATHS and row.name not in OTHERS
        assert (b'"finish_reason":"stop"' in body) == chat, "a chat's answer tells its end"
    elif column in row.cut:
        assert not answer.endswith((b"0\r\n\r\n", b"}")), "cut, and not as if it were the whole"
    elif status != 499:
        assert code.encode() in body
        assert b"[DONE]" not in body


async def _check_next(stage: Stage, credential: str) -> None:
    client = await ask(stage, UNARY, more="Connection: close\r\nx-request-id: next\r\n")
    assert b'"finish_reason":"stop"' in await client.rest(30)
    [line] = [line for line in stage.lines if line.startswith("id=next ")]
    assert f"status=200 model=gemini-2.5-flash stream=false credential={credential} " in line


# ------------------------------------------------------------------------------------------------ the table itself


def test_each_cell_is_there_or_says_why_it_cannot_be() -> None:
    assert (len(CELLS), len(TABLE) - len(CELLS)) == (472, 68)
    assert all(row.cannot.keys() <= COLUMNS.keys() and all(row.cannot.values()) for row in ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.skipif(bool(PLAIN), reason="without aiohttp's own parts some awaits of the usual way have no use")
async def test_each_await_of_the_way_is_held_open_by_a_row_or_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in ROWS:
        if row.name not in _held:  # a part of the table was asked for
            for form in row.forms:
                with pytest.MonkeyPatch.context() as patch:
                    async with Simulator() as google, staged(google, tmp_path, patch) as stage:
                        await held(stage, row, form)
    every = {place for module in WAY for place in places(module).values()}
    waited = set().union(*_held.values())
    missing = sorted(every - waited - NEVER.keys())
    assert not missing, "an await without a row:\n" + "\n".join(missing)
    assert NEVER.keys() - every == set(), "it stands there no more"
    assert NEVER.keys() & waited == set(), "a row holds it open after all"


def test_each_await_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd.py").write_text("async def go():\n    await one()\n    await one()\n    await one()\n", "utf-8")
    monkeypatch.setattr(awaits, "ROOT", tmp_path)
    assert len(set(places("odd").values())) == 3


def test_key_and_limits_are_looked_at_in_one_step() -> None:
    """So that the table needs no row of theirs."""
    assert [*places("server/auth").values(), *places("server/limits").values()] == []
