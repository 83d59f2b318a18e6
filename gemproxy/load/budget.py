"""The memory that bodies, images and answers under way may take together (``server.memory``). No I/O, one thread.

In: who takes how many bytes, as they come. Out: nothing, or ``Overload`` (503) at once. What is counted is what is
really held, so whoever keeps bytes says so with ``resize`` and gives them back with ``close``.

One client's share: while others ask it holds half of all at most, else thirty slow uploads would shut everybody out;
alone three quarters, so that whoever comes next finds room.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gemproxy.errors import Overload

RECENT_TIME = 60.0  # seconds that a client counts as one of those who ask, after its last request
RESERVE_SHIFT = 4  # bits: a sixteenth of all is kept for small requests
SMALL_HOLD = 1 << 18  # bytes held by one of those at most
CROWD = 64  # clients, before the first look for those that can be forgotten


class Budget:
    """``most`` bytes for all; ``clock`` gives seconds that only go forward."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.allow(most)
        self.held = 0
        self.peak = 0  # the most that was held since whoever looks at it has set it back
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._crowd = CROWD

    def allow(self, most: int) -> None:
        """Allow so many bytes from now on; what is held stays."""
        self.most = most
        self.reserve = most >> RESERVE_SHIFT
        self.ample = most - self.reserve, most >> 1  # held by all, and by one client: up to here nobody is refused

    def open(self, owner: str) -> Hold:
        """Return what counts the bytes of one request of this client; ``close`` it."""
        account = self._accounts.get(owner)
        if account is None:
            account = self._accounts[owner] = Account(owner)
            if len(self._accounts) > self._crowd:
                self._forget()
        account.open += 1
        return Hold(self, account)

    def check(self, account: Account, held: int, own: int, whole: int) -> None:
        """Raise ``Overload`` unless all may hold ``held`` bytes, a client ``own``, and part of a request ``whole``."""
        reserve = 0 if whole <= SMALL_HOLD else self.reserve
        if held > self.most - reserve:
            raise Overload(f"The server holds as many bytes as server.memory = {self.most} allows.")
        if own > self._share(account) + (0 if reserve else self.reserve):
            raise Overload(
                f"This client's requests hold as much of server.memory = {self.most} bytes as one client may."
            )

    def _share(self, account: Account) -> int:
        """Return the bytes that one client may hold now."""
        now = self._clock()
        alone = not any(other.asks(now) for other in self._accounts.values() if other is not account)
        return self.most // 4 * 3 if alone else self.most // 2

    def leave(self, account: Account) -> None:
        """A request of this client is over."""
        account.open -= 1
        account.seen = self._clock()

    def _forget(self) -> None:
        """Forget who has not been here for long; then wait until there are twice as many."""
        now = self._clock()
        self._accounts = {owner: account for owner, account in self._accounts.items() if account.asks(now)}
        self._crowd = max(CROWD, 2 * len(self._accounts))


class Account:
    """One client: what it holds, and whether it is one of those who ask."""

    __slots__ = ("held", "open", "owner", "seen")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.held = 0
        self.open = 0
        self.seen = -math.inf

    def asks(self, now: float) -> bool:
        """Return whether it has a request open, or had one of late."""
        return self.open > 0 or now - self.seen < RECENT_TIME


class Hold:
    """The bytes of one part of a request: its body, its images, or its answer."""

    __slots__ = ("_account", "_budget", "size")

    def __init__(self, budget: Budget, account: Account) -> None:
        self._budget = budget
        self._account = account
        self.size = 0

    @property
    def owner(self) -> str:
        """Whose request it is."""
        return self._account.owner

    def resize(self, size: int) -> None:
        """Hold this many bytes from now on. Raises ``Overload`` if they are too many; then nothing has changed."""
        self.more(size - self.size)

    def more(self, size: int) -> None:
        """Hold this many bytes more, or fewer (a negative size); raises as ``resize`` does."""
        budget, account = self._budget, self._account
        held, own, whole = budget.held + size, account.held + size, self.size + size
        if size > 0 and (held > budget.ample[0] or own > budget.ample[1]):
            budget.check(account, held, own, whole)
        budget.held, account.held, self.size = held, own, whole
        if held > budget.peak:
            budget.peak = held

    def another(self) -> Hold:
        """Return a hold of its own for another part of the same request; ``close`` it, too."""
        return self._budget.open(self._account.owner)

    def split(self, size: int) -> Hold:
        """Return a hold of its own for so many of these bytes; ``close`` it, too."""
        other = self.another()
        other.size, self.size = size, self.size - size
        return other

    def close(self) -> None:
        """Give everything back; nothing may follow."""
        self._budget.held -= self.size
        self._account.held -= self.size
        self.size = 0
        self._budget.leave(self._account)
