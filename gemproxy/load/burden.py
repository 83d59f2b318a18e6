"""(edge) What one request costs the others: the bytes that it holds, and where its work is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gemproxy.load.budget import Budget, Hold
from gemproxy.load.weigh import SMALL_SIZE
from gemproxy.load.worker import Worker

T = TypeVar("T")
OVERHEAD = 1 << 13  # bytes that any request holds besides its body: buffers, a task, two connections
HEAVY_SIZE = OVERHEAD + 2 * SMALL_SIZE  # bytes held: a body counts twice


class Burden:
    """One request of one client; ``close`` it when it is over.

    ``hold`` counts its body and what is made of it. It is heavy as long as that is large; then its work is done by the
    worker instead of here.
    """

    __slots__ = ("_worker", "hold")

    def __init__(self, hold: Hold, worker: Worker) -> None:
        self.hold = hold
        self._worker = worker
        hold.more(OVERHEAD)

    @property
    def heavy(self) -> bool:
        """Return whether conversions of this request may take long."""
        return self.hold.size > HEAVY_SIZE

    def lighten(self, things: list[Any]) -> None:
        """The request is not needed any more: ``things`` are all that was made of it, and are counted until they are
        freed.
        """
        if self.heavy:
            self._worker.drop(things, self.hold.split(self.hold.size - OVERHEAD).close)
        elif self.hold.size > 2 * OVERHEAD:
            self.hold.resize(OVERHEAD)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Return what ``work`` returns, or raise what it raises; it runs in the worker's thread."""
        return await self._worker.run(self.hold.owner, work, *arguments)

    def close(self) -> None:
        """Give everything back."""
        self.hold.close()


class Load:
    """Where burdens come from: the one budget, the one worker."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._worker = Worker()

    def burden(self, owner: str) -> Burden:
        """Return the burden of a new request of this client. Raises ``Overload``."""
        hold = self.budget.open(owner)
        try:
            return Burden(hold, self._worker)
        except BaseException:
            hold.close()
            raise

    def close(self) -> None:
        """Begin no more heavy work."""
        self._worker.close()
