"""Heavy work off the loop: in turn by client, cancelled while it waits, one at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gemproxy.load.worker import Worker
from tests.waiting import soon


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


class Gate:
    """Work that goes on until it is told, in the thread; ``begun`` holds the names of what was."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.opened = threading.Event()

    def work(self, name: str) -> str:
        self.begun.append(name)
        self.opened.wait(10)
        return name


async def test_work_runs_in_a_thread_and_its_result_comes_back(worker: Worker) -> None:
    assert await worker.run("ann", threading.get_ident) != threading.get_ident()


async def test_what_work_raises_is_raised(worker: Worker) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await worker.run("ann", int, "x")
    assert await worker.run("ann", int, "5") == 5


async def test_clients_take_turns_however_many_one_has_waiting(worker: Worker) -> None:
    gate = Gate()
    names = ["ann 1", "ann 2", "ann 3", "ann 4", "bob 1", "cid 1", "bob 2"]
    tasks = [asyncio.create_task(worker.run(name.split()[0], gate.work, name)) for name in names]  # noqa: TID251
    await soon(lambda: gate.begun == ["ann 1"])
    gate.opened.set()
    assert await asyncio.gather(*tasks) == names
    assert gate.begun == ["ann 1", "ann 2", "bob 1", "cid 1", "ann 3", "bob 2", "ann 4"]


async def test_work_whose_client_leaves_in_line_is_never_begun(worker: Worker) -> None:
    gate = Gate()
    first = asyncio.create_task(worker.run("ann", gate.work, "first"))  # noqa: TID251
    gone = asyncio.create_task(worker.run("bob", gate.work, "gone"))  # noqa: TID251
    last = asyncio.create_task(worker.run("bob", gate.work, "last"))  # noqa: TID251
    await soon(lambda: gate.begun == ["first"])
    gone.cancel()
    gate.opened.set()
    assert await asyncio.gather(first, last) == ["first", "last"]
    assert gate.begun == ["first", "last"]


async def test_a_client_that_leaves_in_the_middle_does_not_free_the_thread_before_its_time(worker: Worker) -> None:
    gate = Gate()
    gone = asyncio.create_task(worker.run("ann", gate.work, "gone"))  # noqa: TID251
    await soon(lambda: gate.begun == ["gone"])
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    last = asyncio.create_task(worker.run("bob", gate.work, "last"))  # noqa: TID251
    await asyncio.sleep(0.01)
    assert gate.begun == ["gone"]
    gate.opened.set()
    assert await last == "last"


async def test_a_turn_that_came_as_its_client_left_goes_to_the_next(worker: Worker) -> None:
    gate = Gate()
    first = asyncio.create_task(worker.run("ann", gate.work, "first"))  # noqa: TID251
    gone = asyncio.create_task(worker.run("bob", gate.work, "gone"))  # noqa: TID251
    last = asyncio.create_task(worker.run("cid", gate.work, "last"))  # noqa: TID251
    await soon(lambda: gate.begun == ["first"])
    gate.opened.set()
    await soon(lambda: first.done() or "bob" not in worker._waiting)
    gone.cancel()  # its turn may have come in this very turn of the loop
    assert await last == "last"
    await asyncio.gather(first, gone, return_exceptions=True)
    assert await worker.run("dan", int, "5") == 5
