"""Background work: it goes on whatever happens, and what happened is told once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from gemproxy.tasks import keep_doing, logged
from tests.waiting import soon


def doing(*faults: BaseException | None) -> tuple[Callable[[], Awaitable[None]], list[BaseException | None]]:
    """Return work that fails so, and what is left of it."""
    left = list(faults)

    async def work() -> None:
        fault = left.pop(0) if left else None
        if fault is not None:
            raise fault

    return work, left


async def test_what_fails_is_told_once_with_its_traceback_and_done_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    work, left = doing(
        KeyError("a bug"), KeyError("a bug"), KeyError("a bug"), None, None, ValueError("another"), None, None
    )
    task = keep_doing(work, 0.001, name="learning")
    await soon(lambda: not left)
    task.cancel()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "ERROR", "WARNING"]
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, True, False]
    assert all("learning" in message for message in caplog.messages)


async def test_what_another_gave_up_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    work, left = doing(asyncio.CancelledError(), None, None)
    task = keep_doing(work, 0.001, name="learning")
    await soon(lambda: not left or task.done())
    assert not task.done()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    task.cancel()


async def test_it_ends_when_it_is_told_to() -> None:
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.sleep(60)

    task = keep_doing(work, 0.0, name="learning")
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_failure_of_work_that_is_done_once_is_told(caplog: pytest.LogCaptureFixture) -> None:
    work, _ = doing(KeyError("a bug"))
    await logged(work(), name="reload")
    await logged(work(), name="reload")
    [record] = caplog.records
    assert (record.levelname, record.exc_info is not None, "reload" in record.getMessage()) == ("ERROR", True, True)
