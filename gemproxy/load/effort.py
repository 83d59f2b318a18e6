"""How much work one request may cause, counted in steps of about 10 µs; and the end of it when its client leaves. Pure.

In: the steps that are allowed, and what is done as it is done. Out: nothing, or an exception. Long work calls ``spend``
as it goes on, which is also where it hears, in a thread of its own, that nobody waits for it any more.
"""

from __future__ import annotations


class Exhausted(Exception):  # noqa: N818 - the vocabulary is fault and failure
    """More work than is allowed; whoever knows what was asked says so to the client."""


class Abandoned(Exception):  # noqa: N818 - as above
    """The client has left: the work ends here, nobody is told."""


class Elsewhere(Exception):  # noqa: N818 - as above
    """More work than may be done here, beside everybody else's: it is to be begun anew in a thread of its own."""


class Effort:
    """The work of one request. All but ``revoke`` belongs to the thread that does the work.

    ``here`` is how many of the steps may be taken on the loop; None: it is not there.
    """

    __slots__ = ("_here", "_left", "_revoked", "allowed")

    def __init__(self, allowed: int, here: int | None = None) -> None:
        self.allowed = self._left = allowed
        self._here = 0 if here is None else allowed - here
        self._revoked = False

    def spend(self, steps: int) -> None:
        """Take so many steps (none: only hear). Raises ``Exhausted`` beyond ``allowed``, ``Abandoned`` if revoked.

        ``Elsewhere`` beyond ``here``.
        """
        if self._revoked:
            raise Abandoned
        self._left -= steps
        if self._left < self._here:
            raise Exhausted if self._left < 0 else Elsewhere

    def revoke(self) -> None:
        """Let the next ``spend`` raise ``Abandoned``; any thread may call it, at any time."""
        self._revoked = True
