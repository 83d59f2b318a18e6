"""Turns for the loop between the steps of heavy work.

A thread that goes from one long call into C to the next leaves the loop Python's lock only until its next system call:
a small request needs several, and would wait for as many steps. So whatever takes milliseconds at a stretch says
``pass_turn`` between two steps. It does nothing outside of the worker's thread, which sets what is waited for; there
it also ends work whose client has left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

STRETCH = 1 << 20  # bytes; what goes through fewer takes a millisecond or two
_thread = threading.local()


class Abandoned(Exception):  # noqa: N818 - the vocabulary is fault and failure
    """The client has left: the work ends here, nobody is told."""


def pass_turn(size: int = STRETCH) -> None:
    """Wait until the loop has seen to what waits for it, if what was done or is to be done goes through ``size`` bytes
    at a stretch and those are many.
    """
    if size >= STRETCH:
        wait: Callable[[], None] | None = getattr(_thread, "wait", None)
        if wait is not None:
            wait()
        go_on()


def go_on() -> None:
    """Raise ``Abandoned`` if the client has left whose work this is; costs next to nothing."""
    left: Callable[[], bool] | None = getattr(_thread, "left", None)
    if left is not None and left():
        raise Abandoned


def passed_by(wait: Callable[[], None]) -> None:
    """Set what this thread does to pass its turn."""
    _thread.wait = wait


def left_by(left: Callable[[], bool]) -> None:
    """Set what tells whether the client has left whose work this thread does now."""
    _thread.left = left
