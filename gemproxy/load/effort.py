"""How much work one request may cause, counted in steps of about 10 µs; and the end of it when its client leaves. Pure.

In: the steps that are allowed, and what is done as it is done. Out: nothing, or an exception. Long work calls ``spend``
as it goes on, which is also where it hears, in a thread of its own, that nobody waits for it any more (``turns``).
"""

from __future__ import annotations

from gemproxy.load.turns import go_on


class Exhausted(Exception):  # noqa: N818 - the vocabulary is fault and failure
    """More work than is allowed; whoever knows what was asked says so to the client."""


class Elsewhere(Exception):  # noqa: N818 - as above
    """More work than may be done here, beside everybody else's: it is to be begun anew in a thread of its own."""


class Effort:
    """The work of one request; belongs to the thread that does it.

    ``here`` is how many of the steps may be taken on the loop; None: it is not there.
    """

    __slots__ = ("_here", "_left", "allowed")

    def __init__(self, allowed: int, here: int | None = None) -> None:
        self.allowed = self._left = allowed
        self._here = 0 if here is None else max(0, allowed - here)

    def spend(self, steps: int) -> None:
        """Take so many steps (none: only hear). Raises ``Exhausted`` beyond ``allowed``, ``Elsewhere`` beyond ``here``,
        and ``Abandoned`` if the client has left.
        """
        go_on()
        self._left -= steps
        if self._left < self._here:
            raise Exhausted if self._left < 0 else Elsewhere
