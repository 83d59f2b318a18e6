"""(edge) Several calls of one request, side by side: each finds a credential of its own, and is tried anew by itself.

In: calls, and what listens to each. Out: what came of them, in the order of the calls. Each has its own
``rotation.budget``, from when it may begin: those that wait for others would be left without a second try. When one of
them fails for good the others end, and that failure is the request's, unless it is to be spared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import suppress
from functools import partial
from typing import Protocol

from gemproxy.converter.transcript import Part, Transcript, Usage
from gemproxy.dispatch.answer import Answer
from gemproxy.dispatch.dispatcher import Dispatcher
from gemproxy.errors import Failure, forget_way
from gemproxy.load.budget import Hold
from gemproxy.load.burden import Burden
from gemproxy.tasks import spawn
from gemproxy.upstream.dialect import Call, Dialect

MAX_NAMED = 4  # credentials that a line of the log names


class Plan(Protocol):
    """What is asked, as far as this has to know (``converter/api`` says all of it)."""

    @property
    def calls(self) -> Sequence[Call]: ...
    @property
    def side_by_side(self) -> int: ...
    @property
    def listen(self) -> Callable[[int, Dialect], Transcript]: ...
    @property
    def spares(self) -> Callable[[Failure], bool]: ...


class Gathered:
    """The answers of several calls as one, which has ended: to whoever writes it, like an ``Answer``."""

    def __init__(self, came: Sequence[Part | Failure], head: bytes, hold: Hold, in_its_place: str = "spared") -> None:
        """``hold`` counts what was kept of the parts; it is given back with ``close``. ``in_its_place`` stands among
        the reasons for each failure that was spared.
        """
        self._hold = hold
        parts = [part for part in came if isinstance(part, Part)]
        self.head = head
        self.attempts = sum(part.attempts for part in parts)
        self.credential = ",".join(list(dict.fromkeys(part.credential for part in parts))[:MAX_NAMED]) or "-"
        self.usage = _sum(part.usage for part in parts)
        self.reasons = [reason for part in parts for reason in part.reasons]
        self.reasons += [in_its_place] * (len(came) - len(parts))

    def whole(self) -> bytes:
        """Return all of it."""
        return self.head

    def failure_event(self, failure: Failure) -> bytes | None:
        """Return None: it depends on nothing."""
        return None

    async def pour(self, take: Callable[[bytes], object]) -> bool:
        """Return True: nothing comes behind ``head``."""
        return True

    def close(self) -> None:
        """Give back what was counted; every lease went back when its answer had come."""
        self._hold.close()


async def fan_out(
    dispatcher: Dispatcher,
    plan: Plan,
    burden: Burden,
    since: float,
) -> tuple[list[Part | Failure], Hold]:
    """Return what came of a plan's calls, in their order, and what counts the bytes of it, to be closed with them.

    ``since`` is when the request began, on the loop's clock. Raises the first ``Failure`` that the plan does not spare.
    """
    hold = burden.hold.another()
    try:
        return await _came(dispatcher, plan, burden, hold, since), hold
    except BaseException:
        hold.close()
        raise


async def _came(dispatcher: Dispatcher, plan: Plan, burden: Burden, hold: Hold, since: float) -> list[Part | Failure]:
    places, time = asyncio.Semaphore(plan.side_by_side), asyncio.get_running_loop().time

    async def one(number: int, call: Call) -> Part | Failure:
        await places.acquire()
        begun = since if number < plan.side_by_side else time()
        try:
            answer = await dispatcher.open(call, partial(plan.listen, number), burden, since=begun)
            came: Part | Failure = await _whole(answer, hold)
        except Failure as failure:  # no task ends by it: that would keep its frames, which know the task
            forget_way(failure)
            came = failure
        if not _ends_all(plan, came):  # else none must begin that ends at once
            places.release()
        return came

    return await _all(plan, [spawn(one(number, call), name="call") for number, call in enumerate(plan.calls)])


def _ends_all(plan: Plan, came: Part | Failure) -> bool:
    return isinstance(came, Failure) and not plan.spares(came)


async def _all(plan: Plan, tasks: list[asyncio.Task[Part | Failure]]) -> list[Part | Failure]:
    """Return what came of all; raises the first failure that ends the others."""
    pending: Set[asyncio.Task[Part | Failure]] = set(tasks)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            ending = [task for task in tasks if task in done and _ends_all(plan, task.result())]
            if ending:
                failure = ending[0].result()
                assert isinstance(failure, Failure)
                raise failure
        return [task.result() for task in tasks]
    finally:
        await _end(tasks)


async def _end(tasks: list[asyncio.Task[Part | Failure]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        with suppress(asyncio.CancelledError):
            task.result()  # lets go of the frames of a task that was cancelled, which know it


async def _whole(answer: Answer, hold: Hold) -> Part:
    """Return an answer once it has ended; ``hold`` counts what is kept of it."""
    try:
        said = [answer.head]
        while not await answer.pour(said.append):
            pass
        body = b"".join(said)
        hold.more(len(body))
        return Part(body, answer.credential, answer.attempts, answer.usage, answer.reasons)
    finally:
        answer.close()


def _sum(usages: Iterable[Usage]) -> Usage:
    found = list(usages)
    return Usage(**{field: sum(getattr(usage, field) for usage in found) for field in Usage.__struct_fields__})
