"""(edge) Several calls of one request, side by side: each finds a credential of its own, and is tried anew by itself.

In: calls, and what listens to each. Out: their answers, put together in the order of the calls. All share one
``rotation.budget``; when one of them fails for good the others end, and that failure is the request's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from gemproxy.converter.transcript import Transcript, Usage
from gemproxy.dispatch.answer import Answer
from gemproxy.dispatch.dispatcher import Dispatcher
from gemproxy.load.burden import Burden
from gemproxy.tasks import spawn
from gemproxy.upstream.dialect import Call, Dialect

ListenTo = Callable[[int, Dialect], Transcript]  # which of the calls, and whom it asks
MAX_NAMED = 4  # credentials that a line of the log names


class Part(Struct, frozen=True):
    """The whole answer to one of the calls, and what is known of it."""

    body: bytes
    credential: str
    attempts: int
    usage: Usage
    reasons: Sequence[str]


class Gathered:
    """The answers of several calls as one, which has ended: to whoever writes it, like an ``Answer``."""

    def __init__(self, parts: Sequence[Part], head: bytes) -> None:
        self.head = head
        self.attempts = sum(part.attempts for part in parts)
        self.credential = ",".join(list(dict.fromkeys(part.credential for part in parts))[:MAX_NAMED])
        self.usage = _sum(part.usage for part in parts)
        self.reasons = [reason for part in parts for reason in part.reasons]

    def whole(self) -> bytes:
        """Return all of it."""
        return self.head

    async def pour(self, take: Callable[[bytes], object]) -> bool:
        """Return True: nothing comes behind ``head``."""
        return True

    def close(self) -> None:
        """Do nothing: every lease went back when its answer had come."""


async def fan_out(
    dispatcher: Dispatcher,
    calls: Sequence[Call],
    listen: ListenTo,
    burden: Burden,
    *,
    at_once: int,
    since: float,
) -> list[Part]:
    """Return the answers to ``calls``, in their order; ``at_once`` of them are under way at a time.

    ``since`` is when the request began, on the loop's clock. Raises the ``Failure`` of the first call that has one.
    """
    places = asyncio.Semaphore(at_once)

    async def one(number: int, call: Call) -> Part:
        await places.acquire()
        answer = await dispatcher.open(call, partial(listen, number), burden, since=since)
        part = await _whole(answer, burden)
        places.release()  # not after a failure: none must begin that ends at once
        return part

    return await _all(one(number, call) for number, call in enumerate(calls))


async def _whole(answer: Answer, burden: Burden) -> Part:
    """Return an answer once it has ended; what is kept of it counts as the request's."""
    try:
        said = [answer.head]
        while not await answer.pour(said.append):
            pass
        body = b"".join(said)
        burden.hold.more(len(body))
        return Part(body, answer.credential, answer.attempts, answer.usage, answer.reasons)
    finally:
        answer.close()


async def _all(work: Iterable[Coroutine[Any, Any, Part]]) -> list[Part]:
    """Return what all of it returns; the first that fails ends the others. A task group would wrap its failure."""
    tasks = [spawn(one, name="one of several calls") for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if len(done) < len(tasks):
            next(task for task in tasks if task in done and task.exception() is not None).result()  # raises it
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _sum(usages: Iterable[Usage]) -> Usage:
    found = list(usages)
    return Usage(**{field: sum(getattr(usage, field) for usage in found) for field in Usage.__struct_fields__})
